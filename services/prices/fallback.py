"""Sample prices while a source is unavailable, for demonstrations without a network."""

import logging
from dataclasses import replace
from datetime import datetime

from errors import UpstreamUnavailable
from services.prices.sample import SampleSource
from services.prices.series import PriceHistory, PriceSource

_log = logging.getLogger(__name__)


class FallbackSource:
    """Answers from ``primary``; while that is unavailable, the sample's own tickers come from the sample.

    Use it for forecasts only: the sample is too old for a training, a score or a comparison. Such a history is ``demo``
    and ``stale``. Other tickers stay unavailable.
    """

    def __init__(self, primary: PriceSource, sample: SampleSource) -> None:
        self._primary = primary
        self._sample = sample

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        try:
            return self._primary.history(ticker, now, recent)
        except UpstreamUnavailable as error:
            if ticker not in self._sample.tickers:
                raise
            _log.warning("serving sample prices of %s: %s", ticker, error.message)
        return replace(self._sample.history(ticker, now, recent), stale=True)
