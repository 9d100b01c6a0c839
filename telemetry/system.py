"""CPU and memory of the server's processes, read with psutil."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

MIN_INTERVAL_S = 0.5  # CPU use over a shorter interval is noise


@dataclass(frozen=True)
class Usage:
    """CPU and memory of some processes together.

    Attributes:
        cpu_percent: CPU time since the previous reading; 100 is one core.
        memory_bytes: resident memory.
        available_bytes: memory available on the machine.
        uptime_s: seconds since the oldest of the processes started.
    """

    cpu_percent: float
    memory_bytes: int
    available_bytes: int
    uptime_s: float


@dataclass(frozen=True)
class _Reading:
    at: float  # Unix time
    busy_s: float  # CPU time of the process until then
    percent: float = 0.0  # CPU use since the previous reading


def is_alive(process_id: int) -> bool:
    import psutil

    return psutil.pid_exists(process_id)


class SystemUsage:
    """Reads usage without waiting: CPU time counts from one reading to the next, at first since the process began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[int, _Reading] = {}

    def read(self, now: datetime, process_ids: Sequence[int] = ()) -> Usage:
        """Usage of these processes, or of this process if none is named."""
        import psutil

        memory, cpu_percent, uptime_s = 0, 0.0, 0.0
        for pid in process_ids or (os.getpid(),):
            try:
                process = psutil.Process(pid)
                times, resident, began = process.cpu_times(), process.memory_info().rss, process.create_time()
            except psutil.NoSuchProcess:  # it has just ended
                continue
            memory += resident
            uptime_s = max(uptime_s, now.timestamp() - began)
            cpu_percent += self._percent(pid, now.timestamp(), times.user + times.system, began)
        return Usage(cpu_percent, memory, psutil.virtual_memory().available, uptime_s)

    def _percent(self, pid: int, now: float, busy_s: float, began: float) -> float:
        with self._lock:
            before = self._last.get(pid, _Reading(began, 0.0))
            if now - before.at < MIN_INTERVAL_S:
                return before.percent
            percent = max(0.0, 100 * (busy_s - before.busy_s) / (now - before.at))  # a new process may reuse an old id
            self._last[pid] = _Reading(now, busy_s, percent)
            return percent
