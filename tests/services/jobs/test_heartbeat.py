import importlib
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

import pytest

from errors import StoreUnavailable
from models.fitting import FitProgress
from schemas.job import JobEnd, Phase, Progress
from services.jobs import heartbeat as module
from services.jobs.heartbeat import BACKTEST_PHASES, PHASES, Heartbeat, JobStopped
from services.jobs.job import Jobs

START = datetime(2024, 7, 19, 22, tzinfo=UTC)
JOB = "20240719t220000-1a2b3c4d"


class Reports(Jobs):
    """Keeps the progress that is reported, for a job that can be stopped."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.ends: list[JobEnd] = []
        self.stopped = False

    def report(self, job_id: str, progress: Progress) -> None:
        self.progress.append(progress)

    def is_stopped(self, job_id: str) -> bool:
        return self.stopped

    def end(self, job_id: str, end: JobEnd) -> bool:
        self.ends.append(end)
        return True


def reported(*done: FitProgress | float, seconds_left: float = math.inf) -> Progress:
    """The progress of a fit of four epochs that needs ten seconds from each of these to the next."""
    reports, now = Reports(), 0.0
    with Heartbeat(reports, JOB, 50, lambda: START + timedelta(seconds=now), lambda: now) as heartbeat:
        heartbeat.phase("fit")
        for one in done:
            heartbeat.fit(one if isinstance(one, FitProgress) else FitProgress(one, 4, seconds_left))
            now += 10
            seconds_left -= 10
        now -= 10
    return reports.progress[-1]


def within_fit(share: float) -> float:
    """How much of the whole job is done with so much of the fit."""
    return pytest.approx(PHASES["fit"] + share * (PHASES["calibrate"] - PHASES["fit"]))  # type: ignore[return-value]


def test_the_share_grows_within_an_epoch() -> None:
    progress = reported(0.0, 0.5)

    assert progress.share == within_fit(0.125)
    assert (progress.epoch, progress.max_epochs) == (0, 4)
    assert progress.estimated_end == START + timedelta(seconds=80)


def test_a_fit_that_continues_is_judged_by_its_own_pace() -> None:
    progress = reported(2.0, 2.5)

    assert progress.share == within_fit(0.625)
    assert progress.estimated_end == START + timedelta(seconds=40)


@pytest.mark.parametrize("passes", [(), (0.0,), (2.0,)])
def test_without_a_pace_no_end_is_estimated(passes: tuple[float, ...]) -> None:
    progress = reported(*passes)

    assert (progress.fit, progress.estimated_end) == (1, None)


def test_a_fit_that_runs_out_of_time_is_estimated_by_its_time() -> None:
    progress = reported(0.0, 0.5, seconds_left=30)

    assert progress.estimated_end == START + timedelta(seconds=10 + 20)
    assert progress.share == within_fit(1 / 3)
    assert reported(0.0, 0.5, seconds_left=5).estimated_end == START + timedelta(seconds=10)  # now


def test_the_share_of_a_fit_of_one_epoch_is_that_of_its_epoch() -> None:
    assert reported(FitProgress(0.5, 1)).share == within_fit(0.5)


def test_the_second_fit_has_its_own_share_and_pace() -> None:
    first, second = FitProgress(4, 4, fits=2), [FitProgress(one, 2, fit=2, fits=2) for one in (0.0, 0.5)]

    assert reported(first).share == within_fit(0.5)
    progress = reported(first, *second)
    assert (progress.fit, progress.max_epochs) == (2, 4)
    assert progress.share == within_fit(0.5 + 0.125)
    assert progress.estimated_end == START + timedelta(seconds=20 + 30)


def test_the_share_never_falls_and_is_whole_only_at_the_end() -> None:
    reports = Reports()

    with Heartbeat(reports, JOB, 50, lambda: START) as heartbeat:
        for (phase, begins), ends in zip(PHASES.items(), [*PHASES.values(), 1.0][1:], strict=True):
            for done in (0.0, 0.5, 0.2):
                heartbeat.phase(phase, done)
                heartbeat._beat()
            assert [one.share for one in reports.progress[-3:-1]] == pytest.approx([begins, (begins + ends) / 2])
            if phase == "fit":
                for passes in (0.0, 3.0, 1.0):
                    heartbeat.fit(FitProgress(passes, 4))
                    heartbeat._beat()
        shares = [one.share for one in reports.progress]
        heartbeat.finish()

    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] < 1.0
    assert reports.progress[-1].share == 1.0
    assert all(one.estimated_end is None for one in reports.progress if one.phase != "fit")


def test_a_wall_clock_that_jumps_does_not_touch_the_pace() -> None:
    reports, wall, now = Reports(), START, 0.0

    with Heartbeat(reports, JOB, 50, lambda: wall, lambda: now) as heartbeat:
        heartbeat.phase("fit")
        heartbeat.fit(FitProgress(0.0, 4))
        now += 10
        wall += timedelta(hours=1)
        heartbeat.fit(FitProgress(1.0, 4))

    assert reports.progress[-1].estimated_end == wall + timedelta(seconds=30)


def test_a_job_that_is_stopped_ends_its_fit_within_an_epoch() -> None:
    assert_stops(lambda heartbeat: heartbeat.fit(FitProgress(0.2, 4)))


def test_a_job_that_is_stopped_ends_its_fit_at_the_next_epoch() -> None:
    assert_stops(lambda heartbeat: heartbeat.epoch(0.5))


def test_losses_of_epochs_are_reported_in_their_order() -> None:
    reports = Reports()

    with Heartbeat(reports, JOB, 50, lambda: START) as heartbeat:
        for loss in (0.5, 0.25):
            heartbeat.epoch(loss)

    assert (reports.progress[-1].epoch, reports.progress[-1].validation_losses) == (2, (0.5, 0.25))


def test_whether_a_job_is_wanted_is_read_from_the_store_at_once() -> None:
    reports = Reports()

    with Heartbeat(reports, JOB, 50, lambda: START) as heartbeat:
        heartbeat.validate_wanted()
        reports.stopped = True
        with pytest.raises(JobStopped):
            heartbeat.validate_wanted()


def test_the_phases_of_a_backtest_share_its_time() -> None:
    reports = Reports()

    with Heartbeat(reports, JOB, 50, lambda: START, phases=BACKTEST_PHASES) as heartbeat:
        heartbeat.phase("backtest", 0.5)

    assert [reports.progress[0].share, reports.progress[-1].share] == pytest.approx([0.0, 0.51])


@pytest.mark.usefixtures("quick")
def test_work_goes_on_while_the_store_is_down_and_its_heartbeat_comes_back_with_the_store(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Reports):
        is_down = False

        def report(self, job_id: str, progress: Progress) -> None:
            if self.is_down:
                raise StoreUnavailable("the bucket is away")
            super().report(job_id, progress)

        def is_stopped(self, job_id: str) -> bool:
            if self.is_down:
                raise StoreUnavailable("the bucket is away")
            return False

    reports = Failing()
    with Heartbeat(reports, JOB, 50, lambda: START) as heartbeat:
        heartbeat.phase("fit")
        reports.is_down = True
        heartbeat._beat()
        reports.is_down = False
        heartbeat.phase("test")
        heartbeat._beat()
        assert reports.progress[-1].phase == "test"
        reports.is_down = True

    assert f"the heartbeat of job {JOB} was not stored: the bucket is away" in caplog.text
    assert f"whether job {JOB} is cancelled could not be read: the bucket is away" in caplog.text


@pytest.mark.parametrize("phase", PHASES)
def test_a_job_that_is_stopped_begins_no_phase(phase: Phase) -> None:
    assert_stops(lambda heartbeat: heartbeat.phase(phase))


def assert_stops(step: Callable[[Heartbeat], None]) -> None:
    """In a thread, which no signal interrupts, the step raises."""
    reports, raised = Reports(), []

    def run() -> None:
        with Heartbeat(reports, JOB, 50, lambda: START) as heartbeat:
            heartbeat.phase("fit")
            reports.stopped = True
            heartbeat._beat()
            try:
                step(heartbeat)
            except JobStopped:
                raised.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert raised == [True]


def test_the_intervals_leave_a_second_of_the_five_in_which_a_cancelled_job_ends() -> None:
    assert module.BEAT_S + module.GRACE_S + module.INTERRUPT_S < 4.0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BEAT_S", "INTERRUPT_S", "GRACE_S"):
        monkeypatch.setattr(module, name, 0.05)


def test_more_frequent_heartbeats_end_the_work_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 30.0)
    reports, began = Reports(), time.monotonic()

    with Heartbeat(reports, JOB, 50, lambda: START, beat_s=0.01) as heartbeat:
        heartbeat.phase("test")
        reports.stopped = True
        with pytest.raises(JobStopped):
            time.sleep(20)

    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("quick")
def test_the_work_of_a_main_thread_is_interrupted_where_it_is_at_the_next_beat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "INTERRUPT_S", 30.0)
    reports, began = Reports(), time.monotonic()

    def before(_signal: int, _frame: FrameType | None) -> None:
        pass

    def work() -> None:
        try:
            time.sleep(20)
        except Exception:  # noqa: BLE001 - as careless libraries do
            time.sleep(20)

    former = signal.signal(signal.SIGUSR1, before)
    with Heartbeat(reports, JOB, 50, lambda: START) as heartbeat:
        heartbeat.phase("test")
        reports.stopped = True
        with pytest.raises(JobStopped):
            work()

    assert time.monotonic() - began < 10
    assert signal.signal(signal.SIGUSR1, former) is before


@pytest.mark.usefixtures("quick")
def test_work_that_cleans_up_after_it_was_interrupted_is_not_interrupted_again() -> None:
    reports, cleaned_up = Reports(), False

    def work() -> None:
        nonlocal cleaned_up
        try:
            time.sleep(20)
        finally:
            time.sleep(0.2)  # several signals come meanwhile
            cleaned_up = True

    with Heartbeat(reports, JOB, 50, lambda: START) as heartbeat:
        heartbeat.phase("test")
        reports.stopped = True
        with pytest.raises(JobStopped):
            work()

    assert cleaned_up


@pytest.mark.usefixtures("quick")
def test_the_end_of_the_work_is_not_interrupted() -> None:
    asked = threading.Event()

    class StoppedAtTheEnd(Reports):
        def is_stopped(self, job_id: str) -> bool:
            asked.set()
            return heartbeat._over.wait(10)

    with Heartbeat(StoppedAtTheEnd(), JOB, 50, lambda: START) as heartbeat:
        heartbeat.phase("test")
        assert asked.wait(10)


@pytest.mark.usefixtures("quick")
def test_what_must_not_be_torn_is_not_interrupted_and_stops_at_its_end() -> None:
    reports = Reports()

    with Heartbeat(reports, JOB, 50, lambda: START) as heartbeat:
        heartbeat.phase("publish")
        reports.stopped = True
        time.sleep(0.5)
        with pytest.raises(JobStopped):
            heartbeat.seal()

    assert {end.state for end in reports.ends} == {"cancelled"}  # meanwhile the heartbeat has ended the job


@pytest.mark.usefixtures("quick")
def test_before_its_first_phase_the_work_is_not_interrupted() -> None:
    reports = Reports()

    with Heartbeat(reports, JOB, 50, lambda: START) as heartbeat:
        reports.stopped = True
        time.sleep(0.3)
        with pytest.raises(JobStopped):
            heartbeat.phase("fetch")


@pytest.mark.usefixtures("quick")
def test_a_sealed_job_succeeds_whatever_is_requested() -> None:
    reports = Reports()

    with Heartbeat(reports, JOB, 50, lambda: START) as heartbeat:
        heartbeat.phase("evaluate")
        heartbeat.seal()
        reports.stopped = True
        time.sleep(0.5)
        heartbeat.seal()

    assert reports.ends == []


@pytest.mark.usefixtures("quick")
def test_an_import_is_not_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.5)\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    reports = Reports()

    def imports_and_works() -> None:
        importlib.import_module("slow_to_import")
        time.sleep(20)

    with Heartbeat(reports, JOB, 50, lambda: START) as heartbeat:
        heartbeat.phase("fit")
        reports.stopped = True
        with pytest.raises(JobStopped):
            imports_and_works()

    assert sys.modules["slow_to_import"].whole
