"""From a symbol, or from bare prices, to an answer."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import Settings, default_model
from errors import CalibrationTooSmall, HorizonTooLong, InsufficientHistory, PricesInvalid, ZeroVariance
from models.base import CLOSE
from models.conformal import CalibratedForecaster, Calibration, IntervalForecast
from schemas.by_symbol import LiveRequest, PricesRequest, SymbolForecastRequest, SymbolPrediction
from schemas.predict import ForecastRequest
from services.forecasts.by_model import evidence, forecast
from services.forecasts.by_symbol import closes_only, forecast_symbol, predict_live, predict_prices, timestamp
from services.forecasts.inference import Inference, forecast_windows
from services.prices.calendars import next_sessions
from services.storage.registry import CALIBRATION, ModelRegistry, file_report
from services.training.train import TrainedModel
from tests.fakes import FakePriceSource, FixedForecaster, InMemoryArtifactStore, random_walk, walk_history

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
HISTORY = walk_history()
LAST_CLOSE = float(HISTORY.series.close[-1])
PRICES = FakePriceSource(HISTORY, walk_history("OTHER", seed=5), walk_history("YOUNG", n_sessions=19))
LOOKBACK = 20
LEVELS = (0.8, 0.95)


@pytest.fixture
def registry(trained: TrainedModel) -> ModelRegistry:
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(trained.card, trained.files)
    registry.move_alias("default", trained.card.model_id, NOW)
    return registry


def by_hand(trained: TrainedModel, registry: ModelRegistry, prices: tuple[float, ...]) -> SymbolPrediction:
    return predict_prices(PricesRequest(prices=prices), trained.card, (), registry, NOW)


def closes_only_history() -> tuple[float, ...]:
    return tuple(HISTORY.series.close[-LOOKBACK:].tolist())


def test_a_live_prediction_is_the_first_day_of_the_forecast(registry: ModelRegistry) -> None:
    live = predict_live(LiveRequest(symbol="WALK"), registry, PRICES, NOW)

    first = forecast_symbol(SymbolForecastRequest(symbol="WALK", days=30), registry, PRICES, NOW).forecast[0]

    assert (live.predicted_price, live.intervals) == (first.predicted_price, first.intervals)
    assert (live.prediction_for_date, live.expected_change_pct) == (first.date, first.expected_change_pct)


def test_a_forecast_by_symbol_is_the_models_own(registry: ModelRegistry, trained: TrainedModel) -> None:
    by_symbol = forecast_symbol(SymbolForecastRequest(symbol="WALK", days=7), registry, PRICES, NOW)

    by_model = forecast(trained.card.model_id, ForecastRequest(horizon=7), registry, PRICES, NOW)

    assert [day.predicted_price for day in by_symbol.forecast] == [step.price for step in by_model.forecast]
    assert [day.intervals for day in by_symbol.forecast] == [step.intervals for step in by_model.forecast]
    assert [day.date for day in by_symbol.forecast] == [step.session for step in by_model.forecast]


def test_a_forecast_names_the_true_next_sessions(registry: ModelRegistry) -> None:
    answer = forecast_symbol(SymbolForecastRequest(symbol="WALK", days=30), registry, PRICES, NOW)

    assert tuple(day.date for day in answer.forecast) == next_sessions("XNYS", HISTORY.as_of, 30)
    assert (answer.base_price, answer.base_date) == (LAST_CLOSE, HISTORY.as_of)


def test_the_reference_price_is_the_first_of_the_models_window(registry: ModelRegistry) -> None:
    answer = predict_live(LiveRequest(symbol="WALK"), registry, PRICES, NOW)

    assert answer.reference_price == HISTORY.series.close[-LOOKBACK]
    assert answer.predicted_ratio == answer.predicted_price / answer.reference_price


def test_a_change_is_against_the_last_close_also_where_another_price_is_forecast(
    registry: ModelRegistry, trained: TrainedModel
) -> None:
    card = trained.card.model_copy(update={"model_id": "highs", "target_column": "High"})
    registry.publish(card, trained.files)

    answer = predict_live(LiveRequest(symbol="WALK", model_id="highs"), registry, PRICES, NOW)

    assert answer.last_known_price == LAST_CLOSE
    assert answer.persistence == HISTORY.series.bars[-1, 1]
    assert answer.expected_change_pct == pytest.approx(100 * (answer.predicted_price / LAST_CLOSE - 1))


def test_prices_by_hand_are_forecast_as_a_history_of_closes(registry: ModelRegistry, trained: TrainedModel) -> None:
    answer = by_hand(trained, registry, closes_only_history())

    window = closes_only(closes_only_history())
    expected = registry.load(trained.card).predict_intervals(window, np.array([LOOKBACK - 1]), LEVELS)
    assert answer.predicted_price == expected.median[0, 0]
    assert [interval.upper for interval in answer.intervals] == expected.upper[0, 0].tolist()


@given(factor=st.floats(1e-3, 1e3))
def test_prices_in_another_unit_give_the_forecast_in_that_unit(factor: float, trained: TrainedModel) -> None:
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(trained.card, trained.files)
    closes = closes_only_history()

    scaled = by_hand(trained, registry, tuple(factor * close for close in closes))

    plain = by_hand(trained, registry, closes)
    assert scaled.predicted_price == pytest.approx(factor * plain.predicted_price, rel=1e-6)
    assert scaled.expected_change_pct == pytest.approx(plain.expected_change_pct, abs=1e-4)


@given(prices=st.lists(st.floats(1e-12, 1e12), min_size=LOOKBACK, max_size=LOOKBACK))
def test_no_prices_by_hand_fail_without_a_name(prices: list[float], trained: TrainedModel) -> None:
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(trained.card, trained.files)

    try:
        answer = by_hand(trained, registry, tuple(prices))
    except (ZeroVariance, PricesInvalid):
        return

    assert all(interval.lower <= answer.predicted_price <= interval.upper for interval in answer.intervals)


def test_prices_that_never_move_are_refused(registry: ModelRegistry, trained: TrainedModel) -> None:
    with pytest.raises(ZeroVariance, match=r"the last 20 prices are all 31\.29"):
        by_hand(trained, registry, (31.29,) * LOOKBACK)


def test_a_history_that_stopped_moving_is_refused_whatever_came_before(registry: ModelRegistry) -> None:
    bars = np.array(HISTORY.series.bars)
    bars[-LOOKBACK:] = bars[-LOOKBACK]
    halted = FakePriceSource(replace(HISTORY, series=replace(HISTORY.series, bars=bars)))

    with pytest.raises(ZeroVariance):
        predict_live(LiveRequest(symbol="WALK"), registry, halted, NOW)


def test_fewer_sessions_than_the_lookback_are_refused(registry: ModelRegistry) -> None:
    with pytest.raises(InsufficientHistory, match="need 20 sessions of YOUNG, found 19"):
        predict_live(LiveRequest(symbol="YOUNG"), registry, PRICES, NOW)


def test_more_days_than_the_model_has_are_refused(registry: ModelRegistry, trained: TrainedModel) -> None:
    registry.publish(trained.card.model_copy(update={"model_id": "short", "horizon": 5}), trained.files)

    with pytest.raises(HorizonTooLong, match="asked for 6 sessions, model 'short' forecasts 5"):
        forecast_symbol(SymbolForecastRequest(symbol="WALK", days=6, model_id="short"), registry, PRICES, NOW)


def test_a_level_beyond_the_calibration_is_refused(registry: ModelRegistry, trained: TrainedModel) -> None:
    files = {**trained.files, CALIBRATION: b"[" + b",".join([b"[0.1,0.2,0.3,0.4]"] * 30) + b"]"}
    reports = {name: file_report(content) for name, content in files.items()}
    registry.publish(trained.card.model_copy(update={"model_id": "few", "files": reports}), files)

    with pytest.raises(CalibrationTooSmall):
        predict_live(LiveRequest(symbol="WALK", model_id="few"), registry, PRICES, NOW)


def test_a_stale_history_is_said_to_be(registry: ModelRegistry) -> None:
    answer = predict_live(LiveRequest(symbol="WALK"), registry, FakePriceSource(replace(HISTORY, stale=True)), NOW)

    assert answer.stale
    assert any("newer ones are not available" in warning for warning in answer.warnings)


def test_a_timestamp_is_utc_in_whole_seconds() -> None:
    in_sao_paulo = datetime(2024, 7, 19, 17, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=-3)))

    assert timestamp(in_sao_paulo) == datetime(2024, 7, 19, 20, tzinfo=UTC)
    assert timestamp(in_sao_paulo).tzinfo is UTC


def test_many_windows_in_one_pass_are_as_many_single_ones() -> None:
    forecaster = CalibratedForecaster(FixedForecaster(), Calibration((np.arange(1.0, 101.0),) * 3))
    windows = [random_walk(2, seed=seed) for seed in range(5)]

    together = forecast_windows(forecaster, windows, LEVELS)

    for row, window in enumerate(windows):
        assert together.outlook(row, 3) == forecast_windows(forecaster, [window], LEVELS).outlook(0, 3)
        assert together.forecast.median[row, 0] == pytest.approx(window[-1, CLOSE])


def test_no_window_needs_no_pass() -> None:
    forecaster = CalibratedForecaster(FixedForecaster(), Calibration((np.arange(1.0, 101.0),) * 3))

    nothing = forecast_windows(forecaster, [], LEVELS)

    assert nothing.forecast.lower.shape == (0, 3, 2)


def test_a_bound_that_is_no_number_is_refused_by_name() -> None:
    bounds = np.array([[[1.0]], [[np.inf]]])
    inference = Inference(IntervalForecast(np.ones((2, 1)), bounds, bounds), (0.8,), elapsed_ms=1.0)

    assert inference.outlook(0, 1).prices == (1.0,)
    with pytest.raises(PricesInvalid, match="leap too far"):
        inference.outlook(1, 1)


@pytest.mark.parametrize(
    ("ticker", "tickers"),
    [
        ("^GSPC", ("^GSPC",)),
        ("^IXIC", ("^IXIC",)),
        ("PETR4.SA", ("PETR4.SA",)),
        ("VALE3.SA", ("^GSPC", "^IXIC")),
        (None, ("^GSPC", "^IXIC")),
    ],
)
def test_evidence_quotes_one_group_of_sessions_at_the_farthest_step(
    ticker: str | None, tickers: tuple[str, ...]
) -> None:
    card = default_model(Settings(_env_file=None)).card

    found = evidence(card, (0.8,), 5, ticker)

    assert (found.tickers, found.step) == (tickers, 5)
    assert [(one.level, one.n_origins) for one in found.coverage] == [(0.8, found.n_origins)]
    assert found.model == card.evidence(ticker, 5)[1].model
