"""What the server's processes take of the machine: the door to psutil."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

AT_LEAST_S = 0.5  # a shorter interval says nothing of the processor


@dataclass(frozen=True)
class Usage:
    """What processes take of the machine.

    Attributes:
        cpu_percent: processor time since the usage was asked for before; 100 is one core.
        memory_bytes: resident memory.
        available_bytes: memory that the machine has left.
        uptime_s: seconds since the oldest of the processes began.
    """

    cpu_percent: float
    memory_bytes: int
    available_bytes: int
    uptime_s: float


@dataclass(frozen=True)
class _Reading:
    """Processor time that a process had used at a moment, and what that came to since the reading before."""

    at: float
    busy_s: float
    percent: float = 0.0


def is_alive(process_id: int) -> bool:
    """Whether there is such a process."""
    import psutil

    return psutil.pid_exists(process_id)


class SystemUsage:
    """Reads usage without waiting: processor time counts from one reading to the next, at first from the start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[int, _Reading] = {}

    def read(self, now: datetime, process_ids: Sequence[int] = ()) -> Usage:
        """The usage of these processes together; of this one where none is named."""
        import psutil

        memory, cpu_percent, uptime_s = 0, 0.0, 0.0
        for pid in process_ids or (os.getpid(),):
            try:
                process = psutil.Process(pid)
                times, resident, began = process.cpu_times(), process.memory_info().rss, process.create_time()
            except psutil.NoSuchProcess:  # it ended meanwhile
                continue
            memory += resident
            uptime_s = max(uptime_s, now.timestamp() - began)
            cpu_percent += self._percent(pid, now.timestamp(), times.user + times.system, began)
        return Usage(cpu_percent, memory, psutil.virtual_memory().available, uptime_s)

    def _percent(self, pid: int, now: float, busy_s: float, began: float) -> float:
        with self._lock:
            before = self._last.get(pid, _Reading(began, 0.0))
            if now - before.at < AT_LEAST_S:
                return before.percent
            percent = max(0.0, 100 * (busy_s - before.busy_s) / (now - before.at))  # a new process may have an old id
            self._last[pid] = _Reading(now, busy_s, percent)
            return percent
