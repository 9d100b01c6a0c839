"""A fetcher that waits while the price source limits requests, for downloads that take their time."""

import logging
from collections.abc import Callable
from datetime import date, datetime

from errors import AppError, PricesRateLimited, PricesUnreachable
from services.prices.cache.source import Fetcher
from services.prices.series import RawBars

MOST_WAITS = 3  # each twice as long as the one before
LONGEST_WAIT_S = 900
USUAL_WAIT_S = 60  # where the source does not say

log = logging.getLogger(__name__)


class PatientFetcher:
    """Waits as long as the fetcher says before it tries again, a few times.

    Attributes:
        failure: why the last fetch failed; None where it did not. A cache above may have answered with older prices.

    Args:
        fetcher: where prices come from.
        wait: sleeps so many seconds.
    """

    def __init__(self, fetcher: Fetcher, wait: Callable[[float], None]) -> None:
        self._fetcher = fetcher
        self._wait = wait
        self.name = fetcher.name
        self.failure: AppError | None = None

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        self.failure = None
        for n_waits in range(MOST_WAITS + 1):
            try:
                return self._fetcher.fetch(ticker, start, now)
            except PricesRateLimited as error:
                wait_s = (error.retry_after_s or USUAL_WAIT_S) * 2**n_waits
                if n_waits == MOST_WAITS or wait_s > LONGEST_WAIT_S:
                    self.failure = error
                    raise
                log.info("%s limits requests: waiting %d s", self.name, wait_s)
                self._wait(wait_s)
            except PricesUnreachable as error:
                self.failure = error
                raise
        raise AssertionError("the last attempt returns or raises")
