import csv
import io
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from errors import (
    ArtifactCorrupt,
    IdempotencyKeyReused,
    ModelNotFound,
    RunFinished,
    RunNotFound,
    RunNotResumable,
    StoreUnavailable,
)
from models.fitting import PARAMETERS
from schemas.run import Chunk, Round, Run, RunRequest
from schemas.train import TrainRequest
from services.jobs.job import LOST_AFTER_S, START_WITHIN
from services.prices.series import Defects
from services.runs import actions, work
from services.runs.actions import model_id_of, training_request
from services.runs.lease import LeaseLost, change, claim, release
from services.runs.pieces import Piece, spec_key
from services.runs.prices import pack, unpack
from services.runs.results import table
from services.runs.runs import MAX_ATTEMPTS, Runs
from services.runs.submission import resume_run, resume_waiting_runs
from services.training.train import TrainedModel, train_model
from services.training.work import publish as real_publish
from tests.fakes import FakePriceSource, UnreliableStore, walk_history
from tests.services.runs.conftest import EWMA, NOW, Killed, Place

TRAIN: dict[str, Any] = {"action": "train", "training": EWMA}


def resume(place: Place, run: Run) -> Run:
    return resume_run(run.id, place.runs, place, place.now, engine="local", n_workers=1)


def rows(place: Place, run: Run) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table(place.runs, run.id, "csv", NOW).decode())))


def states(place: Place, run: Run) -> dict[str, str]:
    return {one.ticker: one.state for one in place.runs.tickers(run.id, None, 100, None, place.now).tickers}


# the whole way


@pytest.mark.parametrize(("model", "n_chunks"), [("ewma", 8), ("return_lstm", 4)])
def test_chunks_are_larger_where_each_of_them_imports_torch(place: Place, model: str, n_chunks: int) -> None:
    training = {"model": model, "sequence_length": 20}

    run = place.start(action="train", training=training, tickers=list("ABCDEFGH"), engine="ray", n_workers=2)

    assert len(place.runs.view(run.id, NOW).rounds[0].round.chunks) == n_chunks


def test_each_ticker_has_its_model_its_forecast_and_its_accuracy(place: Place) -> None:
    run = place.start(**TRAIN, tickers=["A", "B"], horizon=2, levels=[0.8])

    ended = place.ended(run.id)

    assert (ended.state, ended.counts.succeeded, ended.share) == ("succeeded", 2, 1.0)
    found = rows(place, run)
    assert [(row["ticker"], row["step"], row["state"]) for row in found] == [
        ("A", "1", "succeeded"), ("A", "2", "succeeded"), ("B", "1", "succeeded"), ("B", "2", "succeeded"),
    ]  # fmt: skip
    for row in found:
        assert float(row["lower_80"]) < float(row["point"]) < float(row["upper_80"])
        card = place.registry.card(row["model_id"])
        report = card.test[int(row["step"]) - 1]
        assert float(row["mape"]) == pytest.approx(report.model.mape)
        assert row["weights_sha256"] == card.files[PARAMETERS].sha256
    assert place.store.get(f"runs/results/{run.id}.csv") == table(place.runs, run.id, "csv", NOW)


def test_a_ticker_that_fails_is_named_and_does_not_stop_the_others(place: Place) -> None:
    run = place.ended(place.start(**TRAIN, tickers=["NOPE", "A", "SHORT"]).id)

    assert run.state == "partial"
    assert {(one.ticker, one.code, one.status) for one in run.failures} == {
        ("NOPE", "ticker_not_found", 404),
        ("SHORT", "insufficient_history", 409),
    }
    (failed,) = [row for row in rows(place, run) if row["ticker"] == "NOPE"]
    assert (failed["state"], failed["error_code"], failed["point"]) == ("failed", "ticker_not_found", "")


def test_a_run_whose_tickers_all_fail_has_failed_without_a_worker(place: Place) -> None:
    run = place.ended(place.start(action="forecast", tickers=["NOPE", "NADA"]).id)

    assert (run.state, run.counts.failed) == ("failed", 2)


def test_a_mistake_in_one_ticker_is_opaque_and_does_not_stop_the_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(ticker: str, *given: object) -> object:
        if ticker == "A":
            raise ZeroDivisionError("secret")
        return real(ticker, *given)  # type: ignore[arg-type]

    real = actions.act
    monkeypatch.setattr(work, "act", broken)
    run = place.ended(place.start(**TRAIN, tickers=["A", "B"]).id)

    assert run.counts.succeeded == 1
    assert [(one.ticker, one.code) for one in run.failures] == [("A", "internal")]
    assert "secret" not in run.failures[0].detail


@pytest.mark.parametrize("action", ["backtest", "forecast"])
def test_stored_models_are_tested_and_used(place: Place, action: str) -> None:
    trained = place.ended(place.start(**TRAIN, tickers=["A"]).id)
    (model,) = place.runs.tickers(trained.id, None, 1, None, NOW).tickers

    run = place.start(action=action, tickers=["A"], model_id=model.model_id, horizon=1, suffix="0000000b")

    assert place.ended(run.id).state == "succeeded"
    (row,) = rows(place, run)
    assert row["model_id"] == model.model_id
    assert bool(row["mape"]) == (action == "backtest")
    assert bool(row["point"]) == (action == "forecast")


def test_forecasts_of_a_run_are_logged_and_scored_by_another(place: Place) -> None:
    trained = place.ended(place.start(**TRAIN, tickers=["A"]).id)
    (model,) = place.runs.tickers(trained.id, None, 1, None, NOW).tickers
    whole = walk_history("A", n_sessions=510)
    last = whole.series.tail(11).first_session
    place.prices = FakePriceSource(whole.between(None, last))
    place.now = NOW.replace(year=last.year, month=last.month, day=last.day, hour=23)
    place.ended(place.start(action="forecast", tickers=["A"], model_id=model.model_id, horizon=2, suffix="0000000b").id)
    place.prices, place.now = FakePriceSource(whole), place.now + timedelta(days=7)

    run = place.ended(place.start(action="score", tickers=["A", "B"], suffix="0000000c").id)

    assert (run.counts.succeeded, run.counts.failed) == (1, 1)
    found = [row for row in rows(place, run) if row["ticker"] == "A"]
    assert [(row["step"], row["n_origins"]) for row in found] == [("1", "1"), ("2", "1")]


def test_the_same_request_gives_the_same_weights_in_another_run(place: Place) -> None:
    first = place.ended(place.start(**TRAIN, tickers=["A"]).id)
    other = Place()
    second = other.ended(other.start(**TRAIN, tickers=["B", "A"], suffix="0000000b").id)

    def digest(where: Place, run: Run) -> str | None:
        return {one.ticker: one.weights_sha256 for one in where.runs.tickers(run.id, None, 9, None, NOW).tickers}["A"]

    assert digest(place, first) == digest(other, second) is not None


def test_seeds_and_ids_depend_on_the_ticker_and_the_seed_alone(place: Place) -> None:
    run = place.start(**TRAIN, tickers=["A", "B"])
    spec = place.runs.spec(run.id)
    again = place.runs.spec(place.start(**TRAIN, tickers=["A"], suffix="0000000b").id)

    assert training_request(spec, "A").seed == training_request(again, "A").seed
    assert training_request(spec, "A").seed != training_request(spec, "B").seed
    assert model_id_of(spec, "A") != model_id_of(again, "A")
    assert model_id_of(spec, "A") == model_id_of(spec, "A") != model_id_of(spec, "B")


# losses


def test_a_worker_that_dies_is_replaced_and_what_is_done_is_not_done_again(place: Place) -> None:
    place.patch.setattr("services.runs.submission.CHUNKS_PER_WORKER", 2)  # A and B are one chunk
    run = place.start(**TRAIN, tickers=["A", "B", "C"])
    trained: list[str] = []
    _watch(place, trained, dies_once_on="B")

    ended = place.ended(run.id)

    assert ended.state == "succeeded"
    assert trained == ["A", "B", "C", "B"]  # the suspect comes last
    (lost,) = ended.lost_workers
    assert (lost.worker, lost.ticker, lost.reason) == ("worker-1", "B", "the worker ended with exit code -9")


def test_a_ticker_that_kills_every_worker_is_lost_and_the_others_are_done(place: Place) -> None:
    run = place.start(**TRAIN, tickers=["A", "B", "C"])
    _watch(place, [], always_on="A")

    ended = place.ended(run.id)

    assert (ended.state, ended.counts.succeeded, ended.counts.lost) == ("partial", 2, 1)
    assert [(one.ticker, one.code) for one in ended.failures] == [("A", "job_lost")]
    assert len(ended.lost_workers) == 2


def test_a_chunk_that_cannot_be_begun_ends_after_some_attempts(place: Place) -> None:
    def die(_: Piece) -> None:
        raise Killed

    place.before_chunk = die
    ended = place.ended(place.start(**TRAIN, tickers=["A"]).id)

    assert (ended.state, ended.counts.lost) == ("failed", 1)
    assert len(ended.lost_workers) == MAX_ATTEMPTS


def test_a_model_that_a_lost_worker_has_stored_is_not_trained_again(place: Place) -> None:
    run = place.start(**TRAIN, tickers=["A"])
    trained: list[str] = []
    _watch(place, trained, dies_once_on="A", after=True)

    place.ended(run.id)

    assert trained == ["A"]
    assert states(place, run) == {"A": "succeeded"}


def test_a_silent_worker_is_lost_after_a_minute_by_the_readers_own_clock(place: Place) -> None:
    run, chunk = _claimed_chunk(place)

    place.runs.status(run.id, place.now)
    place.monotonic.now += LOST_AFTER_S + 1
    place.now += timedelta(seconds=1)
    ended = place.runs.status(run.id, place.now)

    assert (ended.state, ended.counts.lost) == ("lost", 1)
    assert {one.worker for one in ended.lost_workers} == {"coordinator", "worker"}
    with pytest.raises(LeaseLost):
        change(place.store, chunk.key, Chunk, "worker", place.now, lambda document: document)


def test_a_worker_whose_heartbeat_changes_is_alive(place: Place) -> None:
    run, chunk = _claimed_chunk(place)
    round_key = Piece(run.id, 0).key

    for _ in range(4):
        place.runs.status(run.id, place.now)
        place.monotonic.now += LOST_AFTER_S - 1
        place.now += timedelta(seconds=2)
        for key, worker in ((chunk.key, "worker"), (round_key, "coordinator")):
            change(place.store, key, Chunk if key == chunk.key else Round, worker, place.now, lambda document: document)

    assert place.runs.status(run.id, place.now).state == "running"


def test_a_run_that_no_coordinator_takes_is_lost_after_an_hour(place: Place) -> None:
    run = place.start(**TRAIN, tickers=["A"])

    assert place.runs.status(run.id, place.now + START_WITHIN).state == "queued"
    ended = place.runs.status(run.id, place.now + START_WITHIN + timedelta(seconds=1))

    assert (ended.state, ended.reason) == ("lost", "no worker claimed the rest in time")


def test_a_worker_of_a_round_that_has_ended_does_nothing(place: Place) -> None:
    run, chunk = _claimed_chunk(place)
    release(place.store, chunk.key, Chunk, "worker", place.now)
    place.runs.cancel(run.id, place.now)

    place.work(chunk, "late")

    assert place.runs.chunk(chunk).worker is None  # type: ignore[union-attr]
    assert place.registry.ids() == []


def test_of_two_workers_one_has_a_chunk(place: Place) -> None:
    _, chunk = _claimed_chunk(place)

    assert claim(place.store, chunk.key, Chunk, "other", place.now) is None
    release(place.store, chunk.key, Chunk, "other", place.now)
    assert claim(place.store, chunk.key, Chunk, "other", place.now) is None
    release(place.store, chunk.key, Chunk, "worker", place.now)
    assert claim(place.store, chunk.key, Chunk, "other", place.now) is not None


# cancel and resume


def test_a_cancelled_run_stops_and_resumes_where_it_stopped(place: Place) -> None:
    run = place.start(**TRAIN, tickers=["A", "B", "NOPE"])
    trained: list[str] = []
    _watch(place, trained)

    def act(ticker: str, *given: Any) -> object:
        result = real(ticker, *given)
        place.runs.cancel(run.id, place.now)  # while the result is on its way into the store
        return result

    real = actions.act
    place.patch.setattr(work, "act", act)

    cancelled = place.ended(run.id)
    assert (cancelled.state, cancelled.counts.cancelled, cancelled.counts.succeeded) == ("cancelled", 1, 1)
    with pytest.raises(RunFinished):
        place.runs.cancel(run.id, place.now)
    before = place.store.get(f"models/{model_id_of(place.runs.spec(run.id), 'A')}/metadata.json")
    place.patch.setattr(work, "act", real)
    resumed = resume(place, run)
    assert (resumed.state, resumed.n_resumed, resumed.ended_at) == ("queued", 1, None)
    assert states(place, run) == {"A": "succeeded", "B": "waiting", "NOPE": "waiting"}
    ended = place.ended(run.id, round_=1)

    assert trained == ["A", "B"]
    assert place.store.get(f"models/{model_id_of(place.runs.spec(run.id), 'A')}/metadata.json") == before
    assert states(place, run) == {"A": "succeeded", "B": "succeeded", "NOPE": "failed"}
    assert ended.state == "partial"


def test_a_run_is_resumed_only_once_at_a_time_and_only_if_something_is_left(place: Place) -> None:
    run = place.start(**TRAIN, tickers=["A"])
    with pytest.raises(RunNotResumable, match="cancel it first"):
        resume(place, run)
    place.ended(run.id)
    with pytest.raises(RunNotResumable, match="every ticker"):
        resume(place, run)


def test_a_queued_run_is_cancelled_at_once(place: Place) -> None:
    run = place.start(**TRAIN, tickers=["A"])

    assert place.runs.cancel(run.id, place.now).state == "cancelled"
    assert place.ended(run.id).state == "cancelled"
    assert place.registry.ids() == []


def test_waiting_rounds_of_this_executor_are_taken_up_again(place: Place) -> None:
    waiting = place.start(**TRAIN, tickers=["A"])
    place.ended(place.start(**TRAIN, tickers=["A"], suffix="0000000b").id)
    place.runs.cancel(place.start(**TRAIN, tickers=["A"], suffix="0000000c").id, place.now)
    taken: list[str] = []
    taker = Place(store=place.store)
    place.patch.setattr(Place, "slot", lambda _: nullcontext(taken.append))

    resume_waiting_runs(place.runs, taker)
    taker.name = "elsewhere"
    resume_waiting_runs(place.runs, taker)

    assert taken == [f"{waiting.id}.0"]


# requests


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        ({"action": "train"}, "exactly one of tickers and universe"),
        ({"action": "train", "tickers": ["A"], "universe": "world"}, "exactly one of tickers and universe"),
        ({"action": "train", "tickers": ["A", "a"]}, "distinct"),
        ({"action": "forecast", "tickers": ["A"], "promote": True}, "not for forecast"),
        ({"action": "score", "tickers": ["A"], "training": {}}, "not for score"),
        ({"action": "train", "tickers": ["A"], "model_id": "m-1"}, "not for train"),
        ({"action": "fine_tune", "tickers": ["A"], "training": {"model": "ewma"}}, "only a return_lstm"),
        ({"action": "train", "tickers": ["A"], "training": {"base_model_id": "m-1"}}, "fine_tune"),
        ({"action": "train", "tickers": ["A"] * 5001}, "at most 5000"),
        ({"action": "train", "tickers": ["../A"]}, "ticker"),
        ({"action": "bake", "tickers": ["A"]}, "action"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(request_: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        RunRequest.model_validate(request_)


def test_a_model_that_does_not_exist_is_refused_before_the_run_is_stored(place: Place) -> None:
    with pytest.raises(ModelNotFound):
        place.start(action="forecast", tickers=["A"], model_id="m-1")

    assert place.store.list_keys("") == []


def test_requests_with_one_key_are_one_run(place: Place) -> None:
    first = place.start(key="k", **TRAIN, tickers=["A"])
    again = place.start(key="k", suffix="0000000b", **TRAIN, tickers=["A"])

    assert first == again
    with pytest.raises(IdempotencyKeyReused):
        place.start(key="k", suffix="0000000c", **TRAIN, tickers=["B"])


# readers


def test_runs_are_listed_by_pages_and_a_damaged_one_hides_none(place: Place) -> None:
    ids = [place.start(**TRAIN, tickers=["A"], suffix=f"0000000{digit}").id for digit in "abc"]
    place.store.put(spec_key(ids[1]), b"{")

    first = place.runs.page(2, None, NOW)
    second = place.runs.page(2, first.next_after, NOW)

    assert ([run.id for run in first.runs], first.unreadable) == ([ids[2]], (ids[1],))
    assert ([run.id for run in second.runs], second.next_after) == ([ids[0]], None)


def test_tickers_are_listed_by_pages_and_states(place: Place) -> None:
    run = place.ended(place.start(**TRAIN, tickers=["A", "NOPE", "B", "SHORT"]).id)

    first = place.runs.tickers(run.id, None, 2, None, NOW)
    second = place.runs.tickers(run.id, None, 2, first.next_after, NOW)
    failed = place.runs.tickers(run.id, "failed", 10, None, NOW)

    assert [one.ticker for one in (*first.tickers, *second.tickers)] == ["A", "NOPE", "B", "SHORT"]
    assert second.next_after is None
    assert [one.ticker for one in failed.tickers] == ["NOPE", "SHORT"]


def test_a_run_of_thousands_is_read_by_few_calls_once_it_has_ended() -> None:
    place = Place(store=UnreliableStore(), prices=FakePriceSource())
    run = place.ended(place.start(action="score", tickers=[f"T{n}" for n in range(5000)]).id)
    calls = place.store.calls  # type: ignore[attr-defined]
    calls.clear()

    assert Runs(place.store).status(run.id, NOW) == run
    assert len(calls) <= 4
    calls.clear()
    place.runs.tickers(run.id, None, 100, None, NOW)
    assert len(calls) < 100


def test_an_unknown_run_is_an_error(place: Place) -> None:
    for call in (place.runs.status, place.runs.cancel):
        with pytest.raises(RunNotFound):
            call("20240719t220000-00000000", NOW)


# prices


def test_prices_are_unpacked_as_they_were_packed() -> None:
    history = walk_history("A^B")
    history = type(history)(
        history.series,
        "yahoo",
        stale=True,
        defects=Defects({"undated": np.array(["NaT"], dtype="datetime64[D]")}, {"open": history.series.sessions[:2]}),
    )

    found = unpack(pack([history])).history("A^B", NOW)

    assert np.array_equal(found.series.bars, history.series.bars, equal_nan=True)
    assert np.array_equal(found.series.sessions, history.series.sessions)
    assert (found.source, found.stale, found.dropped, found.repaired) == ("yahoo", True, {"undated": 1}, {"open": 2})
    assert (found.series.exchange, found.series.currency) == (history.series.exchange, history.series.currency)
    assert not found.series.bars.flags.writeable


@pytest.mark.parametrize("damage", [lambda data: data[:-30], lambda data: b"", lambda data: b"PK" + data[2:500]])
def test_damaged_prices_are_an_error(damage: object) -> None:
    data = damage(pack([walk_history("A")]))  # type: ignore[operator]

    with pytest.raises(ArtifactCorrupt):
        unpack(data)


def test_prices_are_deleted_with_the_end_of_their_chunk(place: Place) -> None:
    run = place.ended(place.start(**TRAIN, tickers=["A"]).id)

    assert [key for key in place.store.list_keys("runs/") if key.endswith(".npz")] == []
    assert run.state == "succeeded"


def test_a_store_that_fails_fails_the_worker_and_not_the_ticker(place: Place) -> None:
    run = place.start(**TRAIN, tickers=["A"])
    failures = [StoreUnavailable("down")]

    def act(*given: Any) -> object:
        if failures:
            raise failures.pop()
        return real(*given)

    real = actions.act
    place.patch.setattr(work, "act", act)
    ended = place.ended(run.id)

    assert ended.state == "succeeded"
    assert [one.ticker for one in ended.lost_workers] == ["A"]


def _claimed_chunk(place: Place) -> tuple[Run, Piece]:
    """A run whose coordinator and whose one worker have begun."""
    run = place.start(**TRAIN, tickers=["A"])
    chunk = Piece(run.id, 0, 0)
    claim(place.store, Piece(run.id, 0).key, Round, "coordinator", place.now)
    place.runs.add_chunk(chunk, Chunk(tickers=("A",), touched_at=place.now))
    claim(place.store, chunk.key, Chunk, "worker", place.now)
    return run, chunk


def _watch(
    place: Place,
    trained: list[str],
    *,
    dies_once_on: str | None = None,
    always_on: str | None = None,
    after: bool = False,
) -> None:
    """Record each ticker that is trained; let the worker die before or after the training of one."""
    died: list[str] = []

    def train(request: TrainRequest, *given: Any, **named: Any) -> TrainedModel:
        ticker = str(request.ticker)
        trained.append(ticker)
        fatal = ticker == always_on or (ticker == dies_once_on and ticker not in died)
        if fatal and not after:
            died.append(ticker)
            raise Killed
        return train_model(request, *given, **named)

    def publish(*given: Any) -> None:
        real_publish(*given)
        if after and not died:
            died.append("published")
            raise Killed

    place.patch.setattr(actions, "train_model", train)
    place.patch.setattr(actions, "publish", publish)
