"""Ends are announced until a receiver has taken them in: a real receiver, a store in memory, and a clock that moves."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from errors import JobFailed, WebhookRefused
from schemas.job import JobEnd, JobFailure
from schemas.run import RunEnd, TickerCounts
from schemas.webhook import Webhook, WebhookStatus
from services.announcements import ORPHANED_AFTER, Announcements
from services.jobs.job import START_WITHIN, Jobs
from services.runs.pieces import Piece
from services.runs.submission import resume_run
from services.storage.store import ArtifactStore
from services.training.submission import retry_training
from services.webhooks.addresses import WebhookPolicy
from services.webhooks.deliveries import DONE, GIVE_UP_AFTER, OPEN, claim_attempt, open_delivery, read_open
from telemetry.measures import WEBHOOK_ATTEMPTS, WEBHOOKS_FAILING
from tests.fakes import InMemoryArtifactStore, RecordingMeter, UnreliableStore, job_spec
from tests.services.runs.conftest import Place
from tests.webhook_receiver import Receiver, receiving

NOW = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
JOB = "20260301t233000-0000000a"
OTHER = "20260301t233000-0000000b"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MINUTE = timedelta(minutes=1)


@dataclass
class Scene:
    """Jobs and runs on a store, and what announces their ends."""

    receiver: Receiver
    store: ArtifactStore = field(default_factory=InMemoryArtifactStore)
    now: datetime = NOW

    def __post_init__(self) -> None:
        self.place = Place(store=self.store, now=self.now)  # type: ignore[arg-type]  # any store will do
        self.jobs = Jobs(self.store)
        self.meter = RecordingMeter()

    @property
    def announcements(self) -> Announcements:
        """As a process that has just begun has it."""
        policy = WebhookPolicy(allow_http=True, allow_private=True)
        return Announcements(self.store, self.jobs, self.place.runs, lambda: self.now, policy, meter=self.meter)

    @property
    def webhook(self) -> Webhook:
        return Webhook(url=self.receiver.url, secret=SECRET)

    def add(self, job_id: str = JOB) -> None:
        spec = job_spec(job_id, self.now).model_copy(update={"webhook": self.webhook})
        assert self.jobs.add(spec)
        assert self.jobs.claim(spec, "worker", self.now)

    def end(self, job_id: str = JOB) -> None:
        error = JobFailure.of(JobFailed("no luck"))
        assert self.jobs.end(job_id, JobEnd(state="failed", at=self.now, error=error))

    def status(self, job_id: str = JOB) -> WebhookStatus:
        status = self.jobs.status(job_id, self.now).webhook
        assert status is not None
        return status

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(one.body) for one in self.receiver.received]

    def ids(self) -> list[str]:
        return [one.headers["webhook-id"] for one in self.receiver.received]


@pytest.fixture
def scene() -> Iterator[Scene]:
    with receiving() as receiver:
        yield Scene(receiver)


def test_the_end_of_a_job_is_announced_once(scene: Scene) -> None:
    scene.add()
    scene.announcements.deliver_due()
    assert (scene.ids(), scene.status().state) == ([], "waiting")

    scene.end()
    for _ in range(3):
        scene.announcements.deliver_due()
        scene.now += timedelta(days=1)

    assert scene.ids() == [f"job_{JOB}"]
    assert scene.messages() == [
        {
            "type": "job.failed",
            "timestamp": NOW.isoformat(),
            "data": {
                "id": JOB,
                "kind": "training",
                "state": "failed",
                "model_id": "walk-1",
                "url": f"/jobs/{JOB}",
                "error": {"code": "job_failed", "detail": "no luck"},
            },
        }
    ]
    assert scene.status() == WebhookStatus(
        host="127.0.0.1", state="delivered", attempts=1, last_error=None, next_attempt_at=None
    )
    assert scene.store.list_keys(OPEN) == []


def test_a_receiver_that_is_down_for_an_hour_gets_it(scene: Scene) -> None:
    scene.add()
    scene.end()
    scene.receiver.statuses = [503] * 100
    while scene.now < NOW + timedelta(hours=1):
        scene.announcements.deliver_due()
        scene.now += MINUTE
    assert len(scene.ids()) == 6  # after 0, 1, 3, 7, 15 and 31 minutes
    assert scene.status().state == "retrying"
    assert scene.status().last_error == "127.0.0.1 answered 503"
    assert scene.status().next_attempt_at == NOW + 63 * MINUTE

    scene.receiver.statuses = []
    while scene.now < NOW + timedelta(hours=3):
        scene.announcements.deliver_due()
        scene.now += MINUTE

    assert len(scene.ids()) == 7
    assert len({*scene.ids()}) == len({one.body for one in scene.receiver.received}) == 1
    assert (scene.status().state, scene.status().attempts) == ("delivered", 7)
    assert scene.status().last_error is None


def test_a_receiver_that_never_answers_is_given_up_after_three_days(scene: Scene) -> None:
    scene.add()
    scene.end()
    scene.receiver.statuses = [500] * 1000
    while scene.store.list_keys(OPEN):
        assert scene.now <= NOW + GIVE_UP_AFTER + timedelta(hours=1)
        scene.announcements.deliver_due()
        scene.now += 10 * MINUTE

    assert scene.now > NOW + GIVE_UP_AFTER
    assert scene.status().state == "given_up"
    assert scene.status().last_error == "127.0.0.1 answered 500"
    assert scene.status().next_attempt_at is None


def test_attempts_and_the_webhooks_that_fail_are_measured(scene: Scene) -> None:
    for job_id in (JOB, OTHER):
        scene.add(job_id)
        scene.end(job_id)
    scene.receiver.statuses = [503, 503]

    for _ in range(3):  # both fail, none is due yet, both are delivered
        scene.announcements.deliver_due()
        scene.now += MINUTE / 2

    attempts = [labels["outcome"] for labels in scene.meter.labels(WEBHOOK_ATTEMPTS)]
    assert attempts == ["failed", "failed", "delivered", "delivered"]
    assert scene.meter.values(WEBHOOKS_FAILING) == [2, 2, 0]


def test_a_webhook_that_is_given_up_no_longer_counts_as_failing(scene: Scene) -> None:
    scene.add()
    scene.end()
    scene.receiver.statuses = [410]

    scene.announcements.deliver_due()

    assert scene.meter.labels(WEBHOOK_ATTEMPTS) == [{"outcome": "given_up"}]
    assert scene.meter.values(WEBHOOKS_FAILING) == [0]


def test_a_receiver_that_is_gone_is_given_up_at_once(scene: Scene) -> None:
    scene.add()
    scene.end()
    scene.receiver.statuses = [410]

    scene.announcements.deliver_due()

    assert (scene.status().state, scene.status().attempts) == ("given_up", 1)


def test_a_worker_that_dies_between_the_end_and_the_delivery_loses_nothing(scene: Scene) -> None:
    scene.add()
    scene.end()  # and no more: another process finds the open delivery

    Scene(scene.receiver, scene.store).announcements.deliver_due()

    assert scene.ids() == [f"job_{JOB}"]


def test_a_process_that_dies_in_an_attempt_only_delays_the_next(scene: Scene) -> None:
    scene.add()
    scene.end()
    delivery = read_open(scene.store, f"job_{JOB}")
    assert delivery is not None
    assert claim_attempt(scene.store, delivery, scene.now) is not None  # and no more

    scene.announcements.deliver_due()
    assert scene.ids() == []
    scene.now += MINUTE
    scene.announcements.deliver_due()

    assert scene.ids() == [f"job_{JOB}"]


def test_of_two_processes_one_makes_the_attempt(scene: Scene) -> None:
    scene.add()
    delivery = read_open(scene.store, f"job_{JOB}")
    assert delivery is not None

    claims = [claim_attempt(scene.store, delivery, scene.now) for _ in range(2)]

    assert [one is not None for one in claims] == [True, False]


def test_a_process_that_dies_after_a_delivery_leaves_nothing_that_is_sent_again(scene: Scene) -> None:
    scene.add()
    scene.end()
    (key,) = scene.store.list_keys(OPEN)
    before = scene.store.get(key)
    scene.announcements.deliver_due()
    scene.store.put(key, before)  # as if it had died before it deleted this

    scene.announcements.deliver_due()

    assert len(scene.ids()) == 1
    assert scene.store.list_keys(OPEN) == []


def test_a_job_whose_worker_is_lost_is_announced(scene: Scene) -> None:
    assert scene.jobs.add(job_spec(JOB, NOW).model_copy(update={"webhook": scene.webhook}))
    scene.now += START_WITHIN + MINUTE

    scene.announcements.deliver_due()

    assert [one["type"] for one in scene.messages()] == ["job.lost"]


def test_a_retry_is_announced_to_the_same_address(scene: Scene) -> None:
    scene.add()
    scene.end()
    retried = retry_training(JOB, scene.jobs, scene.place, scene.now, "0000000b")
    assert scene.jobs.end(retried.id, JobEnd(state="cancelled", at=scene.now))

    scene.announcements.deliver_due()

    assert sorted(scene.ids()) == [f"job_{JOB}", f"job_{OTHER}"]


def test_a_delivery_that_fails_does_not_hide_the_others(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.store.create(f"{OPEN}job_{OTHER}.json", b"not a delivery")
    scene.store.create(f"{OPEN}surprise.json", b"{}")
    scene.add()
    scene.end()

    with caplog.at_level(logging.WARNING):
        scene.announcements.deliver_due()

    assert scene.ids() == [f"job_{JOB}"]
    assert "is delivered later" in caplog.text


def test_a_delivery_without_its_job_is_kept_for_a_day(scene: Scene) -> None:
    open_delivery(scene.store, f"job_{JOB}", NOW)
    scene.announcements.deliver_due()
    assert len(scene.store.list_keys(OPEN)) == 1

    scene.now += ORPHANED_AFTER
    scene.announcements.deliver_due()

    assert scene.store.list_keys(OPEN) == []


def test_a_store_that_is_down_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with receiving() as receiver:
        store = UnreliableStore()
        scene = Scene(receiver, store)
        scene.add()
        scene.end()
        store.down = True

        with caplog.at_level(logging.WARNING):
            scene.announcements.deliver_due()
            scene.announcements.deliver_job(JOB)
        assert "webhooks are not delivered now" in caplog.text
        store.down = False
        scene.announcements.deliver_due()

    assert len(receiver.received) == 1


def test_neither_log_nor_answer_has_the_secret_or_the_path(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.add()
    scene.end()
    scene.receiver.statuses = [500]

    with caplog.at_level(logging.DEBUG):
        scene.announcements.deliver_due()

    shown = (
        caplog.text + scene.jobs.status(JOB, NOW).model_dump_json() + scene.jobs.page(9, None, NOW).model_dump_json()
    )
    assert "127.0.0.1" in shown
    assert SECRET not in shown
    assert "path-secret" not in shown
    assert all(SECRET.encode() not in scene.store.get(key) for key in scene.store.list_keys(OPEN))


def test_a_run_is_announced_at_its_end_and_again_when_a_resumed_one_ends(scene: Scene) -> None:
    run = scene.place.start(action="score", tickers=["A"], webhook=scene.webhook.model_dump())
    scene.announcements.deliver_due()
    assert scene.ids() == []
    lost = TickerCounts(lost=1)
    scene.place.runs.end(Piece(run.id, 0), RunEnd(state="lost", at=NOW, counts=lost))
    scene.announcements.deliver_due()

    resume_run(run.id, scene.place.runs, scene.place, scene.place.now, engine="local", n_workers=1)
    status = scene.place.runs.status(run.id, scene.now)
    assert status.webhook is not None
    assert status.webhook.state == "waiting"
    scene.place.runs.end(Piece(run.id, 1), RunEnd(state="lost", at=NOW, counts=lost))
    scene.announcements.deliver_run(run.id, 1)

    assert scene.ids() == [f"run_{run.id}_0", f"run_{run.id}_1"]
    first, _ = scene.messages()
    assert first["type"] == "run.lost"
    assert first["data"]["url"] == f"/runs/{run.id}"
    assert first["data"]["counts"]["lost"] == 1
    assert SECRET not in scene.place.runs.status(run.id, NOW).model_dump_json()


def test_a_run_that_was_resumed_before_its_end_was_delivered_is_announced_once(scene: Scene) -> None:
    run = scene.place.start(action="score", tickers=["A"], webhook=scene.webhook.model_dump())
    lost = TickerCounts(lost=1)
    scene.place.runs.end(Piece(run.id, 0), RunEnd(state="lost", at=NOW, counts=lost))
    resume_run(run.id, scene.place.runs, scene.place, scene.place.now, engine="local", n_workers=1)
    scene.announcements.deliver_due()
    scene.place.runs.end(Piece(run.id, 1), RunEnd(state="lost", at=NOW, counts=lost))
    scene.announcements.deliver_due()

    assert scene.ids() == [f"run_{run.id}_1"]
    assert scene.store.list_keys(OPEN) == []
    assert len(scene.store.list_keys(DONE)) == 1


def test_an_address_is_checked_when_it_is_given(scene: Scene) -> None:
    strict = Announcements(scene.store, scene.jobs, scene.place.runs, lambda: NOW, WebhookPolicy())

    strict.validate(None)
    with pytest.raises(WebhookRefused):
        strict.validate(Webhook(url="https://169.254.169.254/latest/meta-data"))
