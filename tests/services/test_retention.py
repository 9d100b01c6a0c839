"""What is deleted after the retention, on a store that has everything, and what never is."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from config import MIN_RETENTION_DAYS, Settings
from errors import StoreUnavailable
from schemas.job import JobEnd, KeyUse
from schemas.realised import SessionScores
from services.jobs.job import END, Jobs
from services.monitoring.forecast_log import record_key
from services.monitoring.realised import scores_since, tickers_scored
from services.monitoring.scoring import SCORED_WITHIN, score_due, scores_key, unscored_key
from services.prices.cache import CachedSource
from services.prices.series import RawBars
from services.publication import publish, read_pointer
from services.retention import forget, forget_quietly
from services.storage.store import ArtifactStore, LocalArtifactStore
from tests.fakes import (
    FakePriceSource,
    InMemoryArtifactStore,
    UnreliableStore,
    forecast_record,
    job_spec,
    new_york_sessions,
    random_walk,
    walk_history,
)
from tests.services.publications import MADE_AT, publication

NOW = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
DAYS = 400
OLD, YOUNG = NOW - timedelta(days=DAYS + 1), NOW - timedelta(days=DAYS)
NEVER = {
    "models/m-1/metadata.json": b"{}",
    "models/m-1/model.onnx": b"network",
    "aliases/default.json": b"{}",
    "aliases/ticker/WALK.json": b"{}",
    "contests/default/20200101t000000-00000001.json": b"{}",
    "prices/AAPL.csv": b"Date,Close\n2001-01-01,1\n",
    "elsewhere/2001-01-01.json": b"{}",
}


def put_everything(store: ArtifactStore, at: datetime) -> set[str]:
    """One document of each kind that is forgotten, of that day, and the keys."""
    day, job_id = at.date(), f"{at:%Y%m%dt%H%M%S}-0000000a"
    record = forecast_record("WALK", day - timedelta(days=3), [day], 100.0)
    before = set(store.list_keys(""))
    store.put(record_key(record), record.model_dump_json().encode())
    scores = SessionScores(ticker="WALK", session=day, scored_at=at, pairs=())
    store.put(scores_key("WALK", day), scores.model_dump_json().encode())
    store.put(unscored_key("WALK", day), b"{}")
    store.put(f"replays/m-1/T{day:%d%m}.json", json.dumps({"session": f"{day}", "sha256": "ab"}).encode())
    store.put(f"analyses/WALK/{day}-{'0123456789abcdef' * 2}.json", b"{}")
    Jobs(store).add(job_spec(job_id, at))
    Jobs(store).end(job_id, JobEnd(state="cancelled", at=at))
    use = KeyUse(job_id=job_id, created_at=at, model_id="walk-1", request_sha256="ab")
    Jobs(store).use_key(f"{at:%d}" * 32, use)
    CachedSource(Fetcher(), store, ttl_s=900).history(f"T{day:%d%m}", at)
    for key in (f"specs/{job_id}.json", f"work/{job_id}/000/round.json", f"results/{job_id}.csv"):
        store.put(f"runs/{key}", b"{}")
    return set(store.list_keys("")) - before


class Fetcher:
    name = "yahoo"

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        return RawBars(new_york_sessions(300), random_walk(300), "USD")


@pytest.fixture(params=["memory", "folder"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return InMemoryArtifactStore() if request.param == "memory" else LocalArtifactStore(tmp_path)


def test_publications_go_by_the_day_in_their_name_and_the_pointer_stays(store: InMemoryArtifactStore) -> None:
    old = publish(store, publication())
    kept = publish(store, publication(made_at=MADE_AT + timedelta(days=300)))

    report = forget(store, (), MADE_AT + timedelta(days=350), 100)

    assert report.deleted == {"forecasts/": 1}
    assert not store.exists(old.document)
    assert read_pointer(store) == kept
    assert store.exists(kept.document)


def test_what_is_old_goes_and_what_is_young_or_a_model_stays(any_store: ArtifactStore, tmp_path: Path) -> None:
    for key, content in NEVER.items():
        any_store.put(key, content)
    old, young = put_everything(any_store, OLD), put_everything(any_store, YOUNG)
    for path in tmp_path.rglob("*.*"):
        os.utime(path, (0, 0))  # as after a copy that keeps no times

    reports = [forget(any_store, (), NOW, DAYS) for _ in range(3)]

    assert len(old) == len(young) == 12
    assert set(any_store.list_keys("")) == {*NEVER, *young}
    assert reports[0].before == YOUNG.date()
    assert reports[0].deleted == {
        "idempotency/": 1, "forecasts/": 1, "scores/": 2, "analyses/": 1, "replays/": 1, "jobs/": 1, "prices/": 1,
        "runs/": 3,
    }  # fmt: skip
    assert (reports[1].deleted, reports[2].deleted) == ({"jobs/": 1}, {})


def test_zero_days_forget_nothing(store: InMemoryArtifactStore) -> None:
    keys = put_everything(store, OLD)

    report = forget(store, (), NOW, 0)

    assert (report.before, report.deleted) == (None, {})
    assert set(store.list_keys("")) == keys


def test_a_cache_of_another_store_is_forgotten_too(store: InMemoryArtifactStore) -> None:
    cache = InMemoryArtifactStore()
    CachedSource(Fetcher(), cache, ttl_s=900).history("WALK", OLD)

    assert forget(store, (cache,), NOW, DAYS).deleted == {"prices/": 1}
    assert cache.list_keys("") == []


def test_a_document_that_states_no_age_stays(store: InMemoryArtifactStore) -> None:
    strange = {
        "replays/m-1/X.json": b"{",
        "idempotency/ab.json": b"{}",
        "prices/X.npz": b"damaged",
        "analyses/X/new-format.json": b"{}",
        "jobs/a-name/spec.json": b"{}",
        "scores/X/2020-99-99.json": b"{}",
    }
    for key, content in strange.items():
        store.put(key, content)

    assert forget(store, (), NOW, DAYS).deleted == {}
    assert set(store.list_keys("")) == set(strange)


def test_a_reader_that_has_the_spec_of_an_old_job_still_finds_its_end(store: InMemoryArtifactStore) -> None:
    put_everything(store, OLD)

    forget(store, (), NOW, DAYS)

    assert [key.rpartition("/")[2] for key in store.list_keys("jobs/")] == [END]


def test_the_last_session_of_a_record_counts_and_not_its_origin(store: InMemoryArtifactStore) -> None:
    record = forecast_record("WALK", OLD.date(), [YOUNG.date()], 100.0)
    store.put(record_key(record), b"{}")

    assert forget(store, (), NOW, DAYS).deleted == {}


def test_a_store_that_fails_is_logged_where_something_else_must_not_fail(caplog: pytest.LogCaptureFixture) -> None:
    store = UnreliableStore(down=True)

    with pytest.raises(StoreUnavailable):
        forget(store, (), NOW, DAYS)
    forget_quietly(store, (), NOW, DAYS)

    assert "old documents were not deleted: the store is down" in caplog.text


def test_readers_find_whole_documents_or_none_while_others_forget(store: InMemoryArtifactStore) -> None:
    for days in range(300):
        put_scores(store, NOW.date() - timedelta(days=DAYS + days))
    going_on = threading.Event()

    def read() -> int:
        n_reads = 0
        while not going_on.is_set():
            assert all(scores.ticker == "A_B" for scores in scores_since(store, date(2000, 1, 1)))
            assert tickers_scored(store) == ["A_B"]
            assert len(scores_since(store, date(2000, 1, 1), "A_B")) >= 1
            n_reads += 1
        return n_reads

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read) for _ in range(2)]
        try:
            deleted = forget(store, (), NOW, DAYS).deleted
        finally:
            going_on.set()

    assert deleted == {"scores/": 299}
    assert all(reader.result() >= 0 for reader in readers)


def put_scores(store: InMemoryArtifactStore, day: date) -> None:
    scores = SessionScores(ticker="A_B", session=day, scored_at=NOW, pairs=())
    store.put(scores_key("A_B", day), scores.model_dump_json().encode())


def test_a_session_whose_scores_were_forgotten_is_not_scored_again(store: InMemoryArtifactStore) -> None:
    history = walk_history()
    origin, *sessions = [session.item() for session in history.series.sessions[-31:]]
    record = forecast_record("WALK", origin, sessions, 100.0)
    store.put(record_key(record), record.model_dump_json().encode())
    evening = datetime.combine(sessions[-1], datetime.min.time(), UTC) + timedelta(hours=23)
    assert score_due(store, FakePriceSource(history), evening).n_pairs == 30
    later = evening + timedelta(days=MIN_RETENTION_DAYS)  # the record is kept for its last session

    forget(store, (), later, MIN_RETENTION_DAYS)

    assert len(store.list_keys("forecasts/")) == len(store.list_keys("scores/")) == 1
    assert score_due(store, FakePriceSource(history), later).n_pairs == 0


def test_the_shortest_retention_is_as_long_as_sessions_are_scored() -> None:
    assert timedelta(days=MIN_RETENTION_DAYS) >= SCORED_WITHIN


@pytest.mark.parametrize(("days", "is_allowed"), [(-1, False), (0, True), (1, False), (89, False), (90, True)])
def test_a_retention_is_none_or_long_enough_for_scores(days: int, is_allowed: bool) -> None:
    if is_allowed:
        assert Settings(_env_file=None, retention_days=days).retention_days == days
        return
    with pytest.raises(ValidationError, match="retention_days"):
        Settings(_env_file=None, retention_days=days)
