from datetime import UTC, datetime, timedelta

import pytest

from models.fitting import FitProgress
from schemas.job import Progress
from services.jobs.heartbeat import Heartbeat, JobStopped
from services.jobs.job import Jobs

START = datetime(2024, 7, 19, 22, tzinfo=UTC)
JOB = "20240719t220000-1a2b3c4d"


class Reports(Jobs):
    """Keeps the progress that is reported, for a job that can be stopped."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.stopped = False

    def report(self, job_id: str, progress: Progress) -> None:
        self.progress = progress

    def is_stopped(self, job_id: str) -> bool:
        return self.stopped


def reported(*passes: float) -> Progress:
    """The progress of a fit of four epochs that needs ten seconds from each of these to the next."""
    reports, now = Reports(), START
    with Heartbeat(reports, JOB, 50, lambda: now) as heartbeat:
        for one in passes:
            heartbeat.fit(FitProgress(one, max_epochs=4))
            now += timedelta(seconds=10)
        now -= timedelta(seconds=10)
    assert reports.progress is not None
    return reports.progress


def test_the_share_grows_within_an_epoch() -> None:
    progress = reported(0.0, 0.5)

    assert (progress.share, progress.epoch, progress.max_epochs) == (0.125, 0, 4)
    assert progress.estimated_end == START + timedelta(seconds=80)


def test_a_fit_that_continues_is_judged_by_its_own_pace() -> None:
    progress = reported(2.0, 2.5)

    assert progress.share == 0.625
    assert progress.estimated_end == START + timedelta(seconds=40)


@pytest.mark.parametrize("passes", [(), (0.0,), (2.0,)])
def test_without_a_pace_no_end_is_estimated(passes: tuple[float, ...]) -> None:
    assert reported(*passes).estimated_end is None


def test_a_job_that_is_stopped_ends_its_fit_within_an_epoch() -> None:
    reports = Reports()

    with Heartbeat(reports, JOB, 50, lambda: START) as heartbeat:
        heartbeat.fit(FitProgress(0.1, 4))
        reports.stopped = True
        heartbeat._beat()
        with pytest.raises(JobStopped):
            heartbeat.fit(FitProgress(0.2, 4))
