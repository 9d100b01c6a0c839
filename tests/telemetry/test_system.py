import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from telemetry.system import MIN_INTERVAL_S, SystemUsage, is_alive

BUSY_S = 0.3


def now() -> datetime:
    return datetime.now(UTC)


def be_busy(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_cpu_use_counts_from_the_previous_reading() -> None:
    usage, moment = SystemUsage(), now()
    usage.read(moment)
    be_busy(BUSY_S)

    percent = usage.read(moment + timedelta(seconds=1)).cpu_percent

    assert percent == pytest.approx(100 * BUSY_S, abs=25)


def test_readings_in_quick_succession_are_equal() -> None:
    usage, moment = SystemUsage(), now()
    first = usage.read(moment).cpu_percent
    be_busy(0.05)

    again = usage.read(moment + timedelta(seconds=MIN_INTERVAL_S / 2)).cpu_percent

    assert again == first


def test_memory_and_uptime_are_those_of_the_process() -> None:
    taken = SystemUsage().read(now())

    assert taken.memory_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)
    assert 0 < taken.available_bytes < psutil.virtual_memory().total
    assert taken.uptime_s == pytest.approx(time.time() - psutil.Process().create_time(), abs=2)


def test_usage_of_several_processes_is_summed_without_ended_ones() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        together = SystemUsage().read(now(), (os.getpid(), other.pid, ended.pid))
        alone = SystemUsage().read(now(), (os.getpid(),))

    assert together.memory_bytes > alone.memory_bytes
    assert together.uptime_s == pytest.approx(alone.uptime_s, abs=1)


def test_an_ended_process_is_not_alive() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert is_alive(os.getpid())
    assert not is_alive(ended.pid)
