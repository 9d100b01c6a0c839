"""Prices that stay available when the source of choice does not answer."""

import logging
from dataclasses import replace
from datetime import datetime

from errors import UpstreamUnavailable
from services.prices.sample import SampleSource
from services.prices.series import PriceHistory, PriceSource

_log = logging.getLogger(__name__)


class FallbackSource:
    """Asks ``primary``; when it is unavailable, answers for the sample's own tickers from the sample.

    Never for another ticker: old prices of the right index, marked stale, are
    worth something; prices of something else are not.
    """

    def __init__(self, primary: PriceSource, sample: SampleSource) -> None:
        self._primary = primary
        self._sample = sample

    def history(self, ticker: str, now: datetime) -> PriceHistory:
        """The primary's answer, or the sample's with ``source="sample"`` and ``stale=True``.

        Raises:
            AppError: whatever the primary raises, where the sample cannot stand in.
        """
        try:
            return self._primary.history(ticker, now)
        except UpstreamUnavailable as error:
            if ticker not in self._sample.tickers:
                raise
            _log.warning("answering %s from the sample: %s", ticker, error.message)
        return replace(self._sample.history(ticker, now), stale=True)
