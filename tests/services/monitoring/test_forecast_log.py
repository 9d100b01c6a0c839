import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from errors import StoreUnavailable
from schemas.by_symbol import SymbolForecastRequest
from schemas.common import DEFAULT_LEVELS
from services.forecasts.by_symbol import forecast_symbol
from services.forecasts.served import ServedForecast
from services.monitoring import forecast_log
from services.monitoring.forecast_log import ForecastLog, read_record, record_key, record_of, recorded
from services.prices.series import PriceHistory
from services.storage.registry import ModelRegistry
from services.training.train import TrainedModel
from telemetry.measures import FORECASTS_LOGGED
from tests.fakes import FakePriceSource, InMemoryArtifactStore, RecordingMeter, walk_history

HISTORY = walk_history("M&M")
EVENING = datetime.combine(HISTORY.as_of, datetime.min.time(), UTC) + timedelta(hours=23)

Serve = Callable[..., ServedForecast]


@pytest.fixture
def serve(trained: TrainedModel) -> Serve:
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(trained.card, trained.files)

    def serve(
        days: int = 3,
        now: datetime = EVENING,
        history: PriceHistory = HISTORY,
        levels: tuple[float, ...] = DEFAULT_LEVELS,
    ) -> ServedForecast:
        request = SymbolForecastRequest(symbol="M&M", days=days, model_id=trained.card.model_id, levels=levels)
        served: list[ServedForecast] = []
        forecast_symbol(request, registry, FakePriceSource(history), now, served.append)
        return served[0]

    return serve


@pytest.fixture
def store() -> InMemoryArtifactStore:
    return InMemoryArtifactStore()


def test_a_forecast_is_recorded_as_it_was_answered(serve: Serve, store: InMemoryArtifactStore) -> None:
    served = serve()
    log = ForecastLog(store)

    log.record(served)
    log.flush()

    (found,) = recorded(store)
    record = read_record(store, found.key)
    assert (found.ticker, found.origin, found.last_step) == ("M&M", HISTORY.as_of, 3)
    assert found.last_session == served.origin.sessions[-1]
    assert record.exchange == "XNYS"
    assert record.last == HISTORY.series.close[-1]
    assert [step.median for step in record.steps] == served.inference.forecast.median[0, :3].tolist()
    assert [step.session for step in record.steps] == list(served.origin.sessions)


def test_the_default_levels_are_recorded_with_the_levels_of_the_request(
    serve: Serve, store: InMemoryArtifactStore
) -> None:
    usual, unusual = serve(), serve(levels=(0.5, 0.95))

    record, asked = record_of(unusual), record_of(usual)

    assert (asked.levels, record.levels) == (DEFAULT_LEVELS, (0.5, 0.95, 0.8))
    for usual_step, step in zip(asked.steps, record.steps, strict=True):
        assert (step.lower[2], step.upper[2]) == pytest.approx((usual_step.lower[0], usual_step.upper[0]))
        assert (step.lower[1], step.upper[1]) == pytest.approx((usual_step.lower[1], usual_step.upper[1]))


def test_a_forecast_that_another_server_has_logged_is_not_counted_again(
    serve: Serve, store: InMemoryArtifactStore
) -> None:
    meter = RecordingMeter()

    for log in (ForecastLog(store, meter), ForecastLog(store, meter)):
        log.record(serve())
        log.flush()

    assert [labels["outcome"] for labels in meter.labels(FORECASTS_LOGGED)] == ["written"]


def test_what_waits_is_written_side_by_side(serve: Serve) -> None:
    together = threading.Barrier(3)

    class Waiting(InMemoryArtifactStore):
        def create(self, key: str, data: bytes) -> bool:
            together.wait(10)
            return super().create(key, data)

    store = Waiting()
    log = ForecastLog(store)
    for row in (-1, -2, -3):
        log.record(serve(history=HISTORY.between(None, HISTORY.series.sessions[row].item())))

    log.flush()

    assert len(list(recorded(store))) == 3


def test_the_same_forecast_is_logged_once_and_a_longer_one_again(serve: Serve, store: InMemoryArtifactStore) -> None:
    log = ForecastLog(store)

    for days in (3, 3, 1, 5):
        log.record(serve(days))
        log.flush()

    assert sorted(found.last_step for found in recorded(store)) == [3, 5]


def test_steps_whose_session_had_closed_are_left_out(serve: Serve, store: InMemoryArtifactStore) -> None:
    log = ForecastLog(store)

    log.record(serve(now=EVENING + timedelta(days=60)))
    log.flush()

    assert store.list_keys("") == []


def test_too_many_at_once_are_dropped_and_counted(
    serve: Serve, store: InMemoryArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast_log, "MAX_WAITING", 1)
    meter = RecordingMeter()
    log = ForecastLog(store, meter)
    first, second = serve(), serve(history=HISTORY.tail(400).between(None, HISTORY.series.sessions[-2].item()))

    log.record(first)
    log.record(second)
    log.flush()
    log.record(second)
    log.flush()

    assert [labels["outcome"] for labels in meter.labels(FORECASTS_LOGGED)] == ["dropped", "written", "written"]


def test_a_record_of_an_earlier_version_is_still_read(serve: Serve, store: InMemoryArtifactStore) -> None:
    record = record_of(serve())
    key = record_key(record).replace(f"_{record.steps[-1].session}", "")
    store.put(key, record.model_dump_json(exclude={"exchange"}).encode())

    (found,) = recorded(store)

    assert (found.origin, found.last_step, found.last_session) == (HISTORY.as_of, 3, None)
    assert read_record(store, key) == record.model_copy(update={"exchange": None})


class Down(InMemoryArtifactStore):
    """Fails until it is ``up``."""

    up = False

    def create(self, key: str, data: bytes) -> bool:
        if not self.up:
            raise StoreUnavailable("down")
        return super().create(key, data)


@pytest.mark.parametrize(
    ("pause_s", "then"), [(30.0, "dropped"), (0.0, "written")], ids=["during the pause", "after the pause"]
)
def test_a_store_that_is_down_fails_no_answer_and_is_tried_again_after_a_pause(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, pause_s: float, then: str
) -> None:
    monkeypatch.setattr(forecast_log, "PAUSE_S", pause_s)
    store, meter = Down(), RecordingMeter()
    log = ForecastLog(store, meter)
    log.record(serve())
    log.flush()

    store.up = True
    log.record(serve())
    log.flush()

    assert [labels["outcome"] for labels in meter.labels(FORECASTS_LOGGED)] == ["failed", then]


def test_a_server_writes_in_the_background(serve: Serve) -> None:
    written = threading.Event()

    class Telling(InMemoryArtifactStore):
        def create(self, key: str, data: bytes) -> bool:
            written.set()
            return super().create(key, data)

    log = ForecastLog(Telling())
    log.start()

    log.record(serve())

    assert written.wait(10)
