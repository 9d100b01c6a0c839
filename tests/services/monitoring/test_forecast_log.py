import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.stats import norm

from errors import ArtifactCorrupt
from schemas.common import DEFAULT_LEVELS
from schemas.realised import FIRST_UNITS, UNITS, RecordedStep, pack_quantiles, unpack_quantiles
from services.evaluation.accuracy import CRPS_LEVELS, crps_losses
from services.forecasting.forecast import Forecast
from services.monitoring.forecast_log import (
    ForecastLog,
    packed_record,
    read_record,
    record_key,
    record_of,
    recorded,
)
from services.prices.calendars import next_sessions
from services.prices.series import PriceHistory
from services.storage import pause
from services.storage.registry import ModelRegistry
from services.storage.write_behind import WriteBehind
from services.training.train import TrainedModel
from telemetry.measures import FORECASTS_LOGGED, NO_METER, PREDICTION_SECONDS, PREDICTIONS, Meter
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

    def __init__(self, store: InMemoryArtifactStore, meter: Meter = NO_METER, *, skip_demo: bool = False) -> None:
        self._writer = WriteBehind()
        self._log = ForecastLog(store, self._writer, meter, skip_demo=skip_demo)

    def record(self, *forecasts: Forecast) -> None:
        self._log.record("live", 0.0, *forecasts)
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


def test_quantiles_are_stored_nearly_as_they_were_served_those_of_the_first_step_most_exactly(make: Make) -> None:
    forecast = make()
    served = forecast.distribution.at(CRPS_LEVELS)[0]

    for step, quantiles in zip(record_of(forecast).steps, served, strict=True):
        units = FIRST_UNITS if step.step == 1 else UNITS
        packed = unpack_quantiles(pack_quantiles(quantiles.tolist(), step.step))
        assert step.quantiles == packed
        assert np.abs(quantiles - packed).max() <= (quantiles[-1] - quantiles[0]) / units


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

    for days in (1, 3, 3, 1):
        log.record(make(days))
    log.record(make(3), make(5))  # the first is known

    assert sorted(found.last_step for found in recorded(store)) == [1, 3, 5]


def test_what_had_happened_already_was_no_forecast(make: Make, store: InMemoryArtifactStore) -> None:
    Log(store).record(make(now=EVENING + timedelta(days=60)))

    assert store.list_keys("") == []


@pytest.mark.parametrize("demo", [False, True])
@pytest.mark.parametrize("skip_demo", [False, True])
def test_only_forecasts_from_sample_prices_are_left_out_where_these_replace_real_ones(
    make: Make, store: InMemoryArtifactStore, demo: bool, skip_demo: bool
) -> None:
    Log(store, skip_demo=skip_demo).record(make(history=replace(HISTORY, source="sample" if demo else "yahoo")))

    assert (store.list_keys("") == []) == (demo and skip_demo)


def test_a_log_leaves_nothing_out_unless_it_is_said(make: Make, store: InMemoryArtifactStore) -> None:
    writer = WriteBehind()

    ForecastLog(store, writer).record("live", 0.0, make(history=replace(HISTORY, source="sample")))
    writer.flush()

    assert len(store.list_keys("")) == 1


def test_a_forecast_from_sample_prices_keeps_no_other_of_its_answer_from_being_logged(
    make: Make, store: InMemoryArtifactStore
) -> None:
    sample = make(history=replace(HISTORY, source="sample"))

    Log(store, skip_demo=True).record(sample, make())

    assert len(store.list_keys("")) == 1


def test_an_answer_is_counted_once_and_timed_in_seconds_however_many_forecasts_it_has(
    make: Make, store: InMemoryArtifactStore, meter: RecordingMeter
) -> None:
    writer = WriteBehind()

    ForecastLog(store, writer, meter).record("batch", 250.0, make(), make(days=5))

    assert meter.labels(PREDICTIONS) == [{"type": "batch"}]
    assert (meter.values(PREDICTION_SECONDS), meter.labels(PREDICTION_SECONDS)) == ([0.25], [{"type": "batch"}])


def test_a_mistake_of_ours_is_logged_and_keeps_no_other_forecast_from_being_logged(
    make: Make, meter: RecordingMeter, caplog: pytest.LogCaptureFixture
) -> None:
    class Mistaken(InMemoryArtifactStore):
        def create(self, key: str, data: bytes) -> bool:
            if "_03_" in key:
                raise ZeroDivisionError
            return super().create(key, data)

    log = Log(Mistaken(), meter)
    for days in (3, 5, 3):
        log.record(make(days))

    assert [labels["outcome"] for labels in meter.labels(FORECASTS_LOGGED)] == ["failed", "written"]
    assert "ZeroDivisionError" in caplog.text


def test_a_record_of_an_earlier_version_is_still_read(make: Make, store: InMemoryArtifactStore) -> None:
    record = record_of(make())
    key = record_key(record).replace(f"_{record.steps[-1].session}", "")
    document = record.model_dump(mode="json", exclude={"exchange"})
    for step, kept in zip(record.steps, document["steps"], strict=True):
        kept["quantiles"] = list(step.quantiles)  # in full, not compressed
    store.put(key, json.dumps(document).encode())

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


def test_a_record_of_thirty_steps_takes_less_than_ten_kilobytes(make: Make, store: InMemoryArtifactStore) -> None:
    template = record_of(make())
    spread = np.exp(0.02 * norm.ppf(CRPS_LEVELS) + 1e-5 * np.random.default_rng(0).random(99))
    sessions = next_sessions("XNYS", HISTORY.as_of, 30)
    steps = [
        step_of(k + 1, session, 137.123456789 * np.sort(spread) ** np.sqrt(k + 1)) for k, session in enumerate(sessions)
    ]
    record = template.model_copy(update={"steps": tuple(steps)})

    packed = packed_record(record)

    store.put("forecasts/record.json", packed)
    assert len(packed) < 10_000
    read = read_record(store, "forecasts/record.json")
    for ours, theirs in zip(record.steps, read.steps, strict=True):
        assert (theirs.median, theirs.lower, theirs.upper) == (ours.median, ours.lower, ours.upper)
        error = np.abs(np.array(theirs.quantiles) - ours.quantiles).max()
        assert error <= (ours.quantiles[-1] - ours.quantiles[0]) / UNITS


def step_of(step: int, session: date, quantiles: NDArray[np.float64]) -> RecordedStep:
    prices = quantiles.tolist()
    return RecordedStep(
        step=step,
        session=session,
        median=prices[49],
        lower=(prices[9], prices[1]),
        upper=(prices[89], prices[97]),
        quantiles=tuple(prices),
    )


def test_packing_changes_no_score_that_matters() -> None:
    random = np.random.default_rng(1)
    factor = norm.ppf(CRPS_LEVELS)
    served, packed, within = [], [], []
    for _ in range(2000):
        last, volatility = np.exp(random.uniform(-1, 11)), np.exp(random.uniform(np.log(0.002), np.log(0.06)))
        quantiles = last * np.exp(volatility * np.sort(factor * (1 + 0.15 * np.abs(factor))))
        actual = np.array([last * np.exp(volatility * random.normal())])
        kept = np.array(unpack_quantiles(pack_quantiles(quantiles.tolist())))
        served.append(crps_losses(actual, quantiles[None], CRPS_LEVELS)[0] / last)
        packed.append(crps_losses(actual, kept[None], CRPS_LEVELS)[0] / last)
        within.append(np.searchsorted(quantiles, actual)[0] == np.searchsorted(kept, actual)[0])

    assert np.mean(packed) == pytest.approx(np.mean(served), rel=1e-6)
    assert packed == pytest.approx(served, rel=1e-4)
    assert np.mean(within) > 0.998


@given(st.lists(st.floats(1e-6, 1e9), min_size=2, max_size=99).map(sorted))
def test_what_was_unpacked_packs_to_the_same(prices: list[float]) -> None:
    unpacked = unpack_quantiles(pack_quantiles(prices))

    assert unpack_quantiles(pack_quantiles(unpacked)) == unpacked
    assert (unpacked[0], unpacked[-1]) == (prices[0], prices[-1])
    assert [*unpacked] == sorted(unpacked)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\x1f\x8b",
        b"\x1f\x8bno gzip",
        gzip.compress(b"{}"),
        gzip.compress(b"x")[:-9],
        gzip.compress(bytes(10**6)) * 100,
    ],
    ids=["cut JSON", "cut gzip", "no gzip", "no record", "cut content", "a hundred megabytes"],
)
def test_a_damaged_record_is_named(store: InMemoryArtifactStore, content: bytes) -> None:
    store.put("forecasts/damaged.json", content)

    with pytest.raises(ArtifactCorrupt, match=r"forecasts/damaged\.json"):
        read_record(store, "forecasts/damaged.json")


@pytest.mark.parametrize("gaps", ["abc", [-1], [2**28], [0.5], None])
def test_gaps_that_nothing_wrote_are_refused(gaps: object) -> None:
    step = {"step": 1, "session": "2024-07-22", "median": 1.5, "lower": [1.0], "upper": [2.0]}

    with pytest.raises(ValidationError, match="gaps"):
        RecordedStep.model_validate({**step, "quantiles": {"lowest": 1.0, "highest": 2.0, "units": 9, "gaps": gaps}})
