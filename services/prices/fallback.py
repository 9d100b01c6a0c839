"""Sample prices in the place of a source that does not answer, for demonstrations without a network."""

import logging
from dataclasses import replace
from datetime import datetime

from errors import UpstreamUnavailable
from services.prices.sample import SampleSource
from services.prices.series import PriceHistory, PriceSource

_log = logging.getLogger(__name__)


class FallbackSource:
    """Answers from ``primary``; while that is unavailable, the sample's own tickers come from the sample.

    Only for forecasts that are shown to somebody: such a history is ``demo``, and old enough to mislead a training, a
    score or a comparison. Any other ticker stays unavailable.
    """

    def __init__(self, primary: PriceSource, sample: SampleSource) -> None:
        self._primary = primary
        self._sample = sample

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        """The primary's answer, or the sample's with ``source="sample"`` and ``stale=True``.

        Raises:
            AppError: as the primary raises, where the sample does not have the ticker.
        """
        try:
            return self._primary.history(ticker, now, recent)
        except UpstreamUnavailable as error:
            if ticker not in self._sample.tickers:
                raise
            _log.warning("serving sample prices of %s: %s", ticker, error.message)
        return replace(self._sample.history(ticker, now, recent), stale=True)
