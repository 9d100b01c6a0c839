"""Limits per caller: requests, CPU seconds and wrong keys per minute, each a bucket that refills evenly."""

import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from errors import RateLimited

WINDOW_S = 60
WRONG_KEYS_PER_MINUTE = 60  # of an address, which may be that of a proxy with many callers
MAX_CALLERS = 10_000  # the least recent one is forgotten, so that a scan from many addresses cannot fill the memory


class Budget:
    """An amount per minute for each caller: unspent, it is there at once; spent, it comes back evenly.

    A caller may spend more than it has, because the cost of a request is known only after it. It then has a debt.
    """

    def __init__(self, per_minute: float, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self.unit = unit
        self._clock = clock
        self._accounts: dict[str, tuple[float, float]] = {}  # balance and its time, the least recent caller first
        self._lock = threading.Lock()  # requests are admitted in the event loop and charged in their threads

    def spend(self, caller: str, amount: float, least: float = -math.inf) -> float:
        """The balance before; the amount is spent unless the balance is below ``least``."""
        now = self._clock()
        with self._lock:
            balance, since = self._accounts.pop(caller, (self.per_minute, now))
            balance = min(self.per_minute, balance + (now - since) * self.per_minute / WINDOW_S)
            self._accounts[caller] = (balance if balance < least else balance - amount, now)
            if len(self._accounts) > MAX_CALLERS:
                del self._accounts[next(iter(self._accounts))]
        return balance

    def refusal(self, missing: float) -> RateLimited:
        """The error for a caller that is short of this amount."""
        wait_s = max(1, math.ceil(missing * WINDOW_S / self.per_minute))
        message = f"more than {self.per_minute:g} {self.unit} in a minute; try again in {wait_s} s"
        return RateLimited(message, retry_after_s=wait_s, limit=self.per_minute, unit=self.unit)


class Admission(NamedTuple):
    """Whether a request may go on, and the header fields that state the limit."""

    refusal: RateLimited | None
    fields: dict[str, str]


class Quotas:
    """The limits of one process; None is no limit."""

    def __init__(
        self,
        requests_per_minute: int | None = None,
        cpu_s_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = None if requests_per_minute is None else Budget(requests_per_minute, "requests", clock)
        self._cpu = None if cpu_s_per_minute is None else Budget(cpu_s_per_minute, "seconds of CPU time", clock)
        self._wrong_keys = Budget(WRONG_KEYS_PER_MINUTE, "requests with a wrong key", clock)

    @property
    def limits_cpu(self) -> bool:
        return self._cpu is not None

    def admit(self, caller: str) -> Admission:
        """Count a request; refuse it if the caller has no request left or a debt of CPU time.

        The fields are those of draft-ietf-httpapi-ratelimit-headers. It has no unit for CPU time, so only
        ``Retry-After`` shows that limit.
        """
        refusal, fields = None, {}
        if self._requests is not None:
            balance = self._requests.spend(caller, 1.0, least=1.0)
            if balance < 1.0:
                refusal = self._requests.refusal(1.0 - balance)
            fields = _fields(self._requests.per_minute, max(0.0, balance - 1.0))
        if self._cpu is not None and refusal is None and (balance := self._cpu.spend(caller, 0.0)) < 0:
            refusal = self._cpu.refusal(-balance)
        return Admission(refusal, fields)

    def refuse_key(self, address: str) -> RateLimited | None:
        """Count a request with a wrong key; the error where the address has sent too many.

        A right key from the same address is not affected: no one can lock out its owner.
        """
        balance = self._wrong_keys.spend(address, 1.0, least=1.0)
        return self._wrong_keys.refusal(1.0 - balance) if balance < 1.0 else None

    def charge(self, caller: str, cpu_s: float) -> None:
        """Count what a request has used."""
        if self._cpu is not None:
            self._cpu.spend(caller, cpu_s)


def _fields(limit: float, left: float) -> dict[str, str]:
    full_in_s = math.ceil((limit - left) * WINDOW_S / limit)
    return {
        "RateLimit-Policy": f'"requests";q={limit:.0f};w={WINDOW_S}',
        "RateLimit": f'"requests";r={int(left)};t={full_in_s}',
    }
