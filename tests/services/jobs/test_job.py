import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from inspect import signature

import pytest

from errors import (
    AppError,
    BacktestCapacityExceeded,
    IdempotencyKeyReused,
    JobFinished,
    StoreUnavailable,
    TrainerUnavailable,
    TrainingCapacityExceeded,
)
from schemas.backtest import BacktestRequest
from schemas.job import Job, JobEnd, JobSpec, KeyUse, Progress
from schemas.train import TrainRequest
from schemas.webhook import Webhook
from services.jobs.heartbeat import BEAT_S
from services.jobs.job import (
    DEAD_AFTER,
    LOST_AFTER_S,
    Jobs,
    lost_end,
    naming_job,
    record_end,
    refused_end,
    was_refused,
)
from services.jobs.liveness import MOST_JOBS, Liveness
from services.storage.s3 import S3ArtifactStore
from telemetry.measures import TRAINING_SECONDS, TRAININGS
from tests.fakes import InMemoryArtifactStore, RecordingMeter, UnreliableStore, job_spec

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


def test_the_delivery_of_a_webhook_is_open_before_its_job_and_there_is_none_without_one(
    jobs: Jobs, store: InMemoryArtifactStore
) -> None:
    other = spec("20240719t220001-1a2b3c4d")

    jobs.add(spec().model_copy(update={"webhook": Webhook(url="https://example.com/hook")}))
    with_webhook = set(store.list_keys(""))
    jobs.add(other)

    assert len(with_webhook) == 2
    assert set(store.list_keys("")) - with_webhook == {f"jobs/{other.id}/spec.json"}
    assert jobs.status(JOB, NOW).webhook is not None
    assert jobs.status(other.id, NOW).webhook is None


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


class Monotonic:
    """A clock of the reader alone."""

    def __init__(self) -> None:
        self.s = 10.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


@pytest.fixture
def reader(store: InMemoryArtifactStore, monotonic: Monotonic) -> Jobs:
    """A reader of a job whose worker has written one heartbeat."""
    jobs = Jobs(store, monotonic)
    jobs.add(spec())
    jobs.claim(spec(), "w1", NOW)
    jobs.report(JOB, progress(after(30)))
    return jobs


def test_a_job_whose_worker_falls_silent_is_lost_for_good(reader: Jobs, monotonic: Monotonic) -> None:
    reader.status(JOB, after(31))

    monotonic.s += LOST_AFTER_S
    still = reader.status(JOB, after(31 + LOST_AFTER_S))
    monotonic.s += 1
    gone = reader.status(JOB, after(32 + LOST_AFTER_S))
    reader.report(JOB, progress(after(100)))

    assert still.state == "running"
    assert gone.state == "lost"
    assert gone.error is not None
    assert gone.error.code == "job_lost"
    assert reader.status(JOB, after(101)).state == "lost"


@pytest.mark.parametrize("beat_s", [60, 0], ids=["forward", "set back"])
def test_a_worker_that_falls_silent_after_a_later_heartbeat_is_lost_too(
    reader: Jobs, monotonic: Monotonic, beat_s: int
) -> None:
    reader.status(JOB, after(31))
    monotonic.s += 30
    reader.report(JOB, progress(after(beat_s)))
    reader.status(JOB, after(61))

    monotonic.s += LOST_AFTER_S
    still = reader.status(JOB, after(61 + LOST_AFTER_S))
    monotonic.s += 1
    gone = reader.status(JOB, after(62 + LOST_AFTER_S))

    assert (still.state, gone.state) == ("running", "lost")


@pytest.mark.parametrize("skew_s", [-3600, -3599, -61, -25, 0, 25, 61, 3600, 86400])
def test_clocks_that_differ_do_not_lose_a_job(reader: Jobs, monotonic: Monotonic, skew_s: int) -> None:
    """The worker's clock is so much ahead of the reader's."""
    for beat in range(0, 300, 30):
        reader.report(JOB, progress(after(beat)))
        assert reader.status(JOB, after(beat - skew_s)).state == "running"
        monotonic.s += 30


@pytest.mark.parametrize("jump_s", [-3600, -25, 25, 3600, 86400])
@pytest.mark.parametrize("whose", ["worker", "reader", "both"])
def test_a_clock_that_jumps_does_not_lose_a_job(reader: Jobs, monotonic: Monotonic, jump_s: int, whose: str) -> None:
    worker_s, reader_s = (jump_s if whose in (one, "both") else 0 for one in ("worker", "reader"))

    for beat in range(0, 300, 30):
        jumped = beat >= 90
        assert reader.status(JOB, after(beat + jumped * reader_s)).state == "running"  # before the next heartbeat
        reader.report(JOB, progress(after(beat + jumped * worker_s)))
        assert reader.status(JOB, after(beat + jumped * reader_s)).state == "running"
        monotonic.s += 30


def test_a_reader_that_looks_for_the_first_time_loses_only_what_is_old(
    reader: Jobs, store: InMemoryArtifactStore
) -> None:
    last = after(30)

    assert Jobs(store).status(JOB, last + DEAD_AFTER).state == "running"
    assert Jobs(store).status(JOB, last + DEAD_AFTER + timedelta(seconds=1)).state == "lost"


def test_a_worker_that_dies_before_its_first_heartbeat_is_lost(
    store: InMemoryArtifactStore, monotonic: Monotonic
) -> None:
    jobs = Jobs(store, monotonic)
    jobs.add(spec())
    jobs.claim(spec(), "w1", NOW)
    jobs.status(JOB, NOW)

    monotonic.s += LOST_AFTER_S + 1

    assert jobs.status(JOB, NOW).state == "lost"


def test_what_a_reader_remembers_is_bounded_and_ends_with_the_job(monotonic: Monotonic) -> None:
    liveness = Liveness(monotonic)

    for number in range(MOST_JOBS + 50):
        liveness.silence_s(f"job-{number}", NOW)

    assert len(liveness._seen) == MOST_JOBS
    assert liveness.silence_s("job-0", NOW) is None  # the oldest was forgotten
    assert liveness.silence_s(f"job-{MOST_JOBS + 49}", NOW) == 0.0
    assert liveness.silence_s(f"job-{MOST_JOBS + 49}", after(1)) == 0.0
    liveness.forget("job-0")
    assert liveness.silence_s("job-0", NOW) is None


def test_two_heartbeats_of_a_slow_store_come_within_the_silence_that_loses_a_job() -> None:
    """Between two stored heartbeats: a look for a cancellation, a pause and a put, each tried as often as S3 allows."""
    defaults = {name: one.default for name, one in signature(S3ArtifactStore.__init__).parameters.items()}
    attempts = defaults["max_attempts"]
    backoff_s = sum(2.0**attempt for attempt in range(attempts - 1))  # at most, in botocore's standard mode
    call_s = attempts * (defaults["connect_timeout_s"] + defaults["read_timeout_s"]) + backoff_s

    assert BEAT_S + 2 * call_s < LOST_AFTER_S


def test_whether_a_job_is_stopped_takes_one_call_of_the_store() -> None:
    store = UnreliableStore()
    jobs = Jobs(store)
    jobs.add(spec())
    store.calls.clear()

    assert not jobs.is_stopped(JOB)
    assert len(store.calls) == 1


def test_a_worker_whose_job_was_declared_lost_cannot_end_it(jobs: Jobs) -> None:
    jobs.add(spec())
    jobs.claim(spec(), "w1", NOW)
    jobs.status(JOB, after(7200))

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


@pytest.mark.parametrize(
    ("end", "refused"),
    [
        (refused_end(NOW, TrainingCapacityExceeded("busy")), True),
        (refused_end(NOW, BacktestCapacityExceeded("busy")), True),
        (refused_end(NOW, TrainerUnavailable("down")), True),
        (lost_end(NOW, "no worker came"), False),
        (JobEnd(state="succeeded", at=NOW), False),
    ],
)
def test_only_the_executor_refuses_a_job(jobs: Jobs, end: JobEnd, refused: bool) -> None:
    jobs.add(spec())
    jobs.end(JOB, end)

    assert was_refused(jobs.status(JOB, NOW)) is refused


def test_waiting_jobs_are_those_without_claim_or_end_oldest_first(jobs: Jobs) -> None:
    ids = [f"2024071{day}t220000-1a2b3c4d" for day in range(4)]
    for job_id in ids:
        jobs.add(spec(job_id))
    jobs.claim(spec(ids[1]), "w1", NOW)
    jobs.end(ids[2], lost_end(NOW, "no worker came"))

    assert jobs.waiting() == [ids[0], ids[3]]


@pytest.mark.parametrize("name", ["spec.json", "claim.json", "progress.json", "end.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"state": "paused"}'])
def test_a_job_that_cannot_be_read_is_named_and_hides_no_other(
    jobs: Jobs, store: InMemoryArtifactStore, caplog: pytest.LogCaptureFixture, name: str, content: bytes
) -> None:
    ids = [f"2024071{day}t220000-1a2b3c4d" for day in range(4)]
    for job_id in ids:
        jobs.add(spec(job_id))
    store.put(f"jobs/{ids[2]}/{name}", content)

    page = jobs.page(3, None, NOW)
    rest = jobs.page(3, page.next_after, NOW)

    assert [job.id for job in (*page.jobs, *rest.jobs)] == [ids[3], ids[1], ids[0]]
    assert (page.unreadable, rest.unreadable) == ((ids[2],), ())
    assert ids[2] in caplog.text


def test_a_page_of_unreadable_jobs_alone_still_leads_to_the_next(jobs: Jobs, store: InMemoryArtifactStore) -> None:
    ids = [f"2024071{day}t220000-1a2b3c4d" for day in range(3)]
    for job_id in ids:
        jobs.add(spec(job_id))
    store.put(f"jobs/{ids[2]}/spec.json", b"damaged")

    page = jobs.page(1, None, NOW)

    assert (page.jobs, page.unreadable, page.next_after) == ((), (ids[2],), ids[2])


@pytest.mark.parametrize("folder", ["notes", "20240719t220000-1a2b3c4d.bak", "20240719t220000-1a2b3c4d/old"])
def test_a_folder_that_is_none_of_a_job_is_not_listed(jobs: Jobs, store: InMemoryArtifactStore, folder: str) -> None:
    jobs.add(spec())
    store.put(f"jobs/{folder}/spec.json", spec().model_dump_json().encode())

    assert [job.id for job in jobs.page(10, None, NOW).jobs] == [JOB]
    assert jobs.waiting() == [JOB]
    assert jobs.family_position(spec("20240719t230000-1a2b3c4d")) == 1


def test_a_training_that_may_move_an_alias_counts_those_of_the_night_before_it(
    jobs: Jobs, store: InMemoryArtifactStore
) -> None:
    promoting = {
        "20240719t095959-1a2b3c4d": 0,  # more than twelve hours before
        "20240719t100000-1a2b3c4d": 1,
        "20240719t103000-1a2b3c4d": 1,
        "20240719t215959-1a2b3c4d": 1,
        "20240719t220001-1a2b3c4d": 0,  # later
    }
    for job_id in promoting:
        jobs.add(job_spec(job_id, NOW, promote_to="default"))
    jobs.add(job_spec("20240719t120000-1a2b3c4d", NOW))  # moves no alias
    backtest = spec("20240719t130000-1a2b3c4d").model_copy(update={"kind": "backtest", "request": BacktestRequest()})
    jobs.add(backtest)
    store.put("jobs/20240719t140000-1a2b3c4d/spec.json", b"{")  # perhaps one

    assert jobs.family_position(job_spec(JOB, NOW, promote_to="default")) == 1 + sum(promoting.values()) + 1


def test_the_night_before_a_training_may_begin_on_the_day_before(jobs: Jobs) -> None:
    morning = NOW.replace(hour=1)
    for job_id in ("20240718t125959-1a2b3c4d", "20240718t130000-1a2b3c4d", "20240719t003000-1a2b3c4d"):
        jobs.add(job_spec(job_id, NOW, promote_to="default"))

    assert jobs.family_position(job_spec("20240719t010000-1a2b3c4d", morning, promote_to="default")) == 3


def test_pages_lead_from_the_newest_job_to_the_oldest(jobs: Jobs) -> None:
    ids = [f"2024071{day}t220000-1a2b3c4d" for day in range(4)]
    for job_id in ids:
        jobs.add(spec(job_id))

    first = jobs.page(2, None, NOW)
    second = jobs.page(2, first.next_after, NOW)

    assert [job.id for job in (*first.jobs, *second.jobs)] == ids[::-1]
    assert (first.next_after, second.next_after) == (ids[2], None)


@pytest.mark.parametrize("kind", [StoreUnavailable, ValueError])
def test_every_failure_of_a_job_names_it(caplog: pytest.LogCaptureFixture, kind: type[Exception]) -> None:
    with pytest.raises(AppError) as failure, naming_job(JOB):
        raise kind("secret details")

    assert failure.value.context == {"job_id": JOB, "job_url": f"/jobs/{JOB}"}
    assert isinstance(failure.value, StoreUnavailable) == (kind is StoreUnavailable)
    assert ("secret details" in failure.value.message) == (kind is StoreUnavailable)
    assert (f"unexpected failure [job {JOB}]" in caplog.text) == (kind is ValueError)


def test_a_job_with_the_documents_of_another_is_unreadable(jobs: Jobs, store: InMemoryArtifactStore) -> None:
    store.put(f"jobs/{JOB}/spec.json", spec("20240719t230000-1a2b3c4d").model_dump_json().encode())

    assert jobs.page(10, None, NOW).unreadable == (JOB,)


def test_a_job_that_expires_while_it_is_listed_is_left_out(store: InMemoryArtifactStore) -> None:
    class Expiring(Jobs):
        def status(self, job_id: str, now: datetime) -> Job:
            store.delete(f"jobs/{JOB}/spec.json")
            return super().status(job_id, now)

    jobs, older = Expiring(store), "20240718t220000-1a2b3c4d"
    jobs.add(spec())
    jobs.add(spec(older))

    page = jobs.page(10, None, NOW)

    assert ([job.id for job in page.jobs], page.unreadable) == ([older], ())


def test_a_job_of_an_older_version_has_no_executor(jobs: Jobs, store: InMemoryArtifactStore) -> None:
    document = spec().model_dump(mode="json", exclude={"executor"})
    store.put(f"jobs/{JOB}/spec.json", json.dumps(document).encode())

    assert jobs.status(JOB, NOW).state == "queued"
    assert jobs.spec(JOB).is_for("anyone")


def test_a_training_that_ended_before_it_began_took_no_time(jobs: Jobs) -> None:
    meter = RecordingMeter()
    jobs.add(spec())
    jobs.claim(spec(), "w1", after(25))
    jobs.end(JOB, JobEnd(state="succeeded", at=NOW))

    record_end(meter, jobs.status(JOB, NOW))

    assert meter.values(TRAINING_SECONDS) == [0.0]


def test_a_training_is_counted_once_it_has_ended_with_the_time_it_took(jobs: Jobs) -> None:
    meter = RecordingMeter()
    jobs.add(spec())
    jobs.claim(spec(), "w1", after(5))
    record_end(meter, jobs.status(JOB, after(6)))
    before = list(meter.taken)
    jobs.end(JOB, JobEnd(state="failed", at=after(30)))

    record_end(meter, jobs.status(JOB, after(31)))
    record_end(meter, jobs.status(JOB, after(31)).model_copy(update={"kind": "backtest"}))

    assert before == []
    assert meter.labels(TRAININGS) == [{"state": "failed"}]
    assert meter.values(TRAINING_SECONDS) == [25.0]


def test_a_training_that_never_began_has_no_time(jobs: Jobs) -> None:
    meter = RecordingMeter()
    jobs.add(spec())

    record_end(meter, jobs.cancel(JOB, after(1)))

    assert (meter.labels(TRAININGS), meter.values(TRAINING_SECONDS)) == ([{"state": "cancelled"}], [])


def test_a_key_belongs_to_its_first_request(jobs: Jobs) -> None:
    first = KeyUse(job_id=JOB, created_at=NOW, model_id="walk-1", request_sha256="aa")
    again = first.model_copy(update={"job_id": "20240719t220001-1a2b3c4d"})
    other = again.model_copy(update={"request_sha256": "bb"})

    assert jobs.use_key("k", first) == first
    assert jobs.use_key("k", again) == first
    with pytest.raises(IdempotencyKeyReused):
        jobs.use_key("k", other)


def test_the_refused_attempts_of_a_key_are_counted(jobs: Jobs) -> None:
    use = KeyUse(job_id=JOB, created_at=NOW, model_id="walk-1", request_sha256="aa")
    counts = [jobs.attempts("ab")]

    for attempt in (0, 1, 11):
        jobs.use_key("ab", use, attempt)
        counts.append(jobs.attempts("ab"))

    assert counts == [0, 0, 1, 11]
    assert jobs.attempts("cd") == 0
