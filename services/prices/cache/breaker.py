"""A circuit breaker: after several failures in a row nothing is requested for a while."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from errors import AppError, PricesRateLimited, PricesUnreachable

_log = logging.getLogger(__name__)

FAILURES_TO_OPEN = 3
LONGEST_PAUSE_S = 900.0  # no pause lasts longer, whatever a server's Retry-After says

FAILURES = (PricesUnreachable, PricesRateLimited)  # every other outcome is an answer


class CircuitBreaker:
    """Counts the failures of one server and refuses requests while it is likely to fail again.

    ``FAILURES_TO_OPEN`` failures in a row, or one rate limit, open the circuit. After a pause a single trial request
    is let through. Its success closes the circuit; its failure doubles the pause.

    Args:
        server: name of the server in messages.
        pause_s: seconds of the first pause.
    """

    def __init__(self, server: str, pause_s: float) -> None:
        self._server = server
        self._first_pause_s = min(pause_s, LONGEST_PAUSE_S)
        self._pause_s = self._first_pause_s
        self._n_failures = 0
        self._rate_limited = False
        self._until: datetime | None = None  # open until then, and until a trial has succeeded
        self._lock = threading.Lock()

    @contextmanager
    def request(self, now: datetime) -> Iterator[None]:
        """The context of one request, whose outcome counts.

        Raises:
            PricesUnreachable, PricesRateLimited: the circuit is open; ``retry_after_s`` is set.
        """
        trial = self._admit(now)
        try:
            yield
        except FAILURES as error:
            self._record_failure(error, now, trial=trial)
            raise
        except AppError:
            self._record_answer(trial=trial)
            raise
        self._record_answer(trial=trial)

    def is_open(self, now: datetime) -> bool:
        """Whether requests are refused at ``now``."""
        with self._lock:
            return self._until is not None and now < self._until

    def _admit(self, now: datetime) -> bool:
        """Whether the request is the trial request."""
        with self._lock:
            if self._until is None:
                return False
            if now < self._until:
                raise self._refusal(self._until, now)
            # requests that come during the trial are refused; if it never ends, another trial follows after the pause
            self._until = now + timedelta(seconds=self._pause_s)
            return True

    def _record_failure(self, error: AppError, now: datetime, *, trial: bool) -> None:
        with self._lock:
            if self._until is not None and not trial:
                return  # the request began before the circuit opened
            self._n_failures += 1
            self._rate_limited = isinstance(error, PricesRateLimited)
            if trial:
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            if trial or self._rate_limited or self._n_failures >= FAILURES_TO_OPEN:
                asked_s = min(error.retry_after_s or self._pause_s, LONGEST_PAUSE_S)
                pause_s = max(asked_s, self._pause_s) if trial else asked_s
                self._until = now + timedelta(seconds=pause_s)
                _log.warning("no requests to %s for %.0f s: %s", self._server, pause_s, error.message)

    def _record_answer(self, *, trial: bool) -> None:
        with self._lock:
            if self._until is None or trial:
                self._close()

    def _close(self) -> None:
        self._pause_s = self._first_pause_s
        self._n_failures = 0
        self._rate_limited = False
        self._until = None

    def _refusal(self, until: datetime, now: datetime) -> AppError:
        left_s = max(1, round((until - now).total_seconds()))
        when = f"next try in {left_s} s, at {until:%H:%M:%S %Z}".rstrip()
        if self._rate_limited:
            return PricesRateLimited(f"{self._server} limits our requests; {when}", retry_after_s=left_s)
        return PricesUnreachable(
            f"{self._server} failed {self._n_failures} times in a row; {when}", retry_after_s=left_s
        )
