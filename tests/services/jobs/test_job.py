from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from errors import IdempotencyKeyReused, JobFinished
from schemas.job import JobEnd, JobSpec, KeyUse, Progress
from schemas.train import TrainRequest
from services.jobs.job import LOST_AFTER_S, Jobs, lost_end
from tests.fakes import job_spec

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
JOB = "20240719t220000-1a2b3c4d"


def spec(job_id: str = JOB) -> JobSpec:
    return job_spec(job_id, NOW)


def progress(at: datetime) -> Progress:
    return Progress(at=at, epoch=0, max_epochs=5, validation_losses=(), share=0.0, estimated_end=None)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_a_new_job_waits(jobs: Jobs) -> None:
    jobs.add(spec())

    job = jobs.status(JOB, NOW)

    assert (job.state, job.started_at, job.ended_at, job.progress) == ("queued", None, None, None)
    assert job.request == TrainRequest(ticker="WALK")


def test_a_claimed_job_runs(jobs: Jobs) -> None:
    jobs.add(spec())

    jobs.claim(spec(), "w1", after(1))

    job = jobs.status(JOB, after(2))
    assert (job.state, job.started_at) == ("running", after(1))


def test_of_many_workers_one_gets_the_job(jobs: Jobs) -> None:
    jobs.add(spec())

    with ThreadPoolExecutor(16) as workers:
        claims = list(workers.map(lambda n: jobs.claim(spec(), f"w{n}", NOW), range(64)))

    assert claims.count(True) == 1


def test_the_first_end_stands(jobs: Jobs) -> None:
    jobs.add(spec())

    first = jobs.end(JOB, JobEnd(state="succeeded", at=after(1)))
    second = jobs.end(JOB, JobEnd(state="failed", at=after(2)))

    assert (first, second) == (True, False)
    assert jobs.status(JOB, after(3)).state == "succeeded"


def test_a_job_whose_worker_falls_silent_is_lost_for_good(jobs: Jobs) -> None:
    jobs.add(spec())
    jobs.claim(spec(), "w1", NOW)
    jobs.report(JOB, progress(after(30)))

    still = jobs.status(JOB, after(30 + LOST_AFTER_S))
    gone = jobs.status(JOB, after(31 + LOST_AFTER_S))
    jobs.report(JOB, progress(after(60)))

    assert still.state == "running"
    assert gone.state == "lost"
    assert gone.error is not None
    assert gone.error.code == "job_lost"
    assert jobs.status(JOB, after(60)).state == "lost"


def test_a_worker_whose_job_was_declared_lost_cannot_end_it(jobs: Jobs) -> None:
    jobs.add(spec())
    jobs.claim(spec(), "w1", NOW)
    jobs.status(JOB, after(60))

    stands = jobs.end(JOB, JobEnd(state="succeeded", at=after(61)))

    assert not stands
    assert jobs.is_stopped(JOB)


def test_a_job_that_no_worker_takes_is_lost_after_its_deadline(jobs: Jobs) -> None:
    jobs.add(spec())

    late = NOW + timedelta(hours=1, seconds=1)

    assert jobs.claim(spec(), "w1", late) is False
    assert jobs.status(JOB, late).state == "lost"


def test_a_waiting_job_is_cancelled_at_once(jobs: Jobs) -> None:
    jobs.add(spec())

    job = jobs.cancel(JOB, after(1))

    assert (job.state, job.ended_at) == ("cancelled", after(1))
    assert jobs.claim(spec(), "w1", after(2)) is False


def test_a_running_job_stops_at_its_next_heartbeat(jobs: Jobs) -> None:
    jobs.add(spec())
    jobs.claim(spec(), "w1", NOW)

    job = jobs.cancel(JOB, after(1))

    assert (job.state, job.cancel_requested) == ("running", True)
    assert jobs.is_stopped(JOB)
    assert jobs.cancel(JOB, after(2)) == job


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "lost"])
def test_an_ended_job_cannot_be_cancelled(jobs: Jobs, state: str) -> None:
    jobs.add(spec())
    jobs.end(JOB, JobEnd.model_validate({"state": state, "at": NOW}))

    with pytest.raises(JobFinished, match=state):
        jobs.cancel(JOB, after(1))


def test_waiting_jobs_are_those_without_claim_or_end_oldest_first(jobs: Jobs) -> None:
    ids = [f"2024071{day}t220000-1a2b3c4d" for day in range(4)]
    for job_id in ids:
        jobs.add(spec(job_id))
    jobs.claim(spec(ids[1]), "w1", NOW)
    jobs.end(ids[2], lost_end(NOW, "no worker came"))

    assert jobs.waiting() == [ids[0], ids[3]]


def test_a_key_belongs_to_its_first_request(jobs: Jobs) -> None:
    first = KeyUse(job_id=JOB, created_at=NOW, model_id="walk-1", request_sha256="aa")
    again = first.model_copy(update={"job_id": "20240719t220001-1a2b3c4d"})
    other = again.model_copy(update={"request_sha256": "bb"})

    assert jobs.use_key("k", first) == first
    assert jobs.use_key("k", again) == first
    with pytest.raises(IdempotencyKeyReused):
        jobs.use_key("k", other)
