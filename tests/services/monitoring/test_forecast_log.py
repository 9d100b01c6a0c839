from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from schemas.common import DEFAULT_LEVELS
from services.forecasting.forecast import Forecast
from services.monitoring.forecast_log import ForecastLog, read_record, record_key, record_of, recorded
from services.prices.series import PriceHistory
from services.storage import pause
from services.storage.registry import ModelRegistry
from services.storage.write_behind import WriteBehind
from services.training.train import TrainedModel
from telemetry.measures import FORECASTS_LOGGED, NO_METER, Meter
from tests.fakes import (
    FakePriceSource,
    InMemoryArtifactStore,
    RecordingMeter,
    UnreliableStore,
    forecasting,
    walk_history,
)

HISTORY = walk_history("M&M")
EVENING = datetime.combine(HISTORY.as_of, datetime.min.time(), UTC) + timedelta(hours=23)

Make = Callable[..., Forecast]


@pytest.fixture
def make(trained: TrainedModel) -> Make:
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(trained.card, trained.files)

    def make(
        days: int = 3,
        now: datetime = EVENING,
        history: PriceHistory = HISTORY,
        levels: tuple[float, ...] = DEFAULT_LEVELS,
    ) -> Forecast:
        model = trained.card.model_id
        return forecasting(registry, FakePriceSource(history)).forecast_ticker(model, "M&M", days, levels, now)

    return make


class Log:
    """A log whose writes happen at once."""

    def __init__(self, store: InMemoryArtifactStore, meter: Meter = NO_METER) -> None:
        self._writer = WriteBehind()
        self._log = ForecastLog(store, self._writer, meter)

    def record(self, forecast: Forecast) -> None:
        self._log.record("live", 0.0, forecast)
        self._writer.flush()


def test_a_forecast_is_stored_as_it_was_served(make: Make, store: InMemoryArtifactStore) -> None:
    forecast = make()

    Log(store).record(forecast)

    (found,) = recorded(store)
    record = read_record(store, found.key)
    assert (found.ticker, found.origin, found.last_step) == ("M&M", HISTORY.as_of, 3)
    assert found.last_session == forecast.given.sessions[-1]
    assert record.exchange == "XNYS"
    assert record.last == HISTORY.series.close[-1]
    assert [step.median for step in record.steps] == forecast.median.tolist()
    assert [step.session for step in record.steps] == list(forecast.given.sessions)


def test_the_default_levels_are_stored_as_well_as_those_of_the_request(make: Make) -> None:
    usual, unusual = record_of(make()), record_of(make(levels=(0.5, 0.95)))

    assert (usual.levels, unusual.levels) == (DEFAULT_LEVELS, (0.5, 0.8, 0.95))
    for step, other in zip(usual.steps, unusual.steps, strict=True):
        assert (other.lower[1:], other.upper[1:]) == (step.lower, step.upper)


def test_a_forecast_that_another_server_has_logged_is_not_counted_again(
    make: Make, store: InMemoryArtifactStore
) -> None:
    meter = RecordingMeter()

    for log in (Log(store, meter), Log(store, meter)):
        log.record(make())

    assert [labels["outcome"] for labels in meter.labels(FORECASTS_LOGGED)] == ["written"]


def test_the_same_forecast_is_logged_once_and_a_longer_one_again(make: Make, store: InMemoryArtifactStore) -> None:
    log = Log(store)

    for days in (3, 3, 1, 5):
        log.record(make(days))

    assert sorted(found.last_step for found in recorded(store)) == [3, 5]


def test_what_had_happened_already_was_no_forecast(make: Make, store: InMemoryArtifactStore) -> None:
    Log(store).record(make(now=EVENING + timedelta(days=60)))

    assert store.list_keys("") == []


def test_a_record_of_an_earlier_version_is_still_read(make: Make, store: InMemoryArtifactStore) -> None:
    record = record_of(make())
    key = record_key(record).replace(f"_{record.steps[-1].session}", "")
    store.put(key, record.model_dump_json(exclude={"exchange"}).encode())

    (found,) = recorded(store)

    assert (found.origin, found.last_step, found.last_session) == (HISTORY.as_of, 3, None)
    assert read_record(store, key) == record.model_copy(update={"exchange": None})


@pytest.mark.parametrize(("pause_s", "outcomes"), [(30.0, ["failed", "dropped"]), (0.0, ["failed", "written"])])
def test_a_failed_store_is_left_alone_for_a_pause_and_tried_again(
    make: Make, meter: RecordingMeter, monkeypatch: pytest.MonkeyPatch, pause_s: float, outcomes: list[str]
) -> None:
    monkeypatch.setattr(pause, "PAUSE_S", pause_s)
    store = UnreliableStore(down=True)
    log = Log(store, meter)
    log.record(make())

    store.down = False
    log.record(make())

    assert [labels["outcome"] for labels in meter.labels(FORECASTS_LOGGED)] == outcomes
