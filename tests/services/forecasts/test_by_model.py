"""From a stored model to an answer."""

from datetime import UTC, date, datetime

import pytest

from errors import (
    CalibrationTooSmall,
    HorizonTooLong,
    InsufficientHistory,
    InvalidRequest,
    ModelNotFound,
    TickerNotFound,
)
from schemas.predict import ForecastRequest, PredictRequest
from services.forecasts.by_model import forecast, predict
from services.prices.calendars import next_sessions
from services.storage.registry import CALIBRATION, ModelRegistry, file_report
from services.training.train import TrainedModel
from tests.fakes import FakePriceSource, InMemoryArtifactStore, walk_history

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
HISTORY = walk_history()
PRICES = FakePriceSource(HISTORY, walk_history("OTHER", seed=5), walk_history("SHORT", n_sessions=15))


@pytest.fixture
def registry(trained: TrainedModel) -> ModelRegistry:
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(trained.card, trained.files)
    return registry


@pytest.fixture
def model_id(trained: TrainedModel) -> str:
    return trained.card.model_id


def test_a_prediction_stands_between_its_bounds_with_persistence_beside_it(
    registry: ModelRegistry, model_id: str
) -> None:
    answer = predict(model_id, PredictRequest(), registry, PRICES, NOW)

    (price,) = answer.prediction
    narrow, wide = answer.intervals
    assert (narrow.level, wide.level) == (0.8, 0.95)
    assert wide.lower < narrow.lower < price < narrow.upper < wide.upper
    assert answer.persistence == answer.last_close == HISTORY.series.close[-1]


def test_a_prediction_names_the_true_next_session(registry: ModelRegistry, model_id: str) -> None:
    answer = predict(model_id, PredictRequest(), registry, PRICES, NOW)

    assert answer.last_session == HISTORY.as_of
    assert answer.target_session == next_sessions("XNYS", HISTORY.as_of, 1)[0]


def test_a_forecast_has_one_step_per_session_and_begins_as_the_prediction(
    registry: ModelRegistry, model_id: str
) -> None:
    answer = forecast(model_id, ForecastRequest(horizon=10), registry, PRICES, NOW)

    first = predict(model_id, PredictRequest(), registry, PRICES, NOW)
    assert [step.step for step in answer.forecast] == list(range(1, 11))
    assert [step.session for step in answer.forecast] == list(next_sessions("XNYS", HISTORY.as_of, 10))
    assert answer.forecast[0].price == first.prediction[0]
    assert answer.forecast[0].intervals == first.intervals


def test_an_answer_carries_the_record_of_the_test_part(registry: ModelRegistry, trained: TrainedModel) -> None:
    answer = predict(trained.card.model_id, PredictRequest(), registry, PRICES, NOW)

    assert answer.test.tickers == ("WALK",)
    assert answer.test.model == trained.card.test[0].model
    assert [one.level for one in answer.test.coverage] == [0.8, 0.95]


def test_a_forecast_as_of_a_past_session_knows_nothing_later(registry: ModelRegistry, model_id: str) -> None:
    past = date(2011, 6, 15)

    answer = predict(model_id, PredictRequest(as_of=past), registry, PRICES, NOW)

    assert answer.as_of == past
    assert answer.target_session == date(2011, 6, 16)
    assert any("looks back" in warning for warning in answer.warnings)


def test_another_ticker_than_the_models_own_is_said_in_the_answer(registry: ModelRegistry, model_id: str) -> None:
    answer = predict(model_id, PredictRequest(ticker="OTHER"), registry, PRICES, NOW)

    assert answer.ticker == "OTHER"
    assert answer.warnings == ("the model was fitted and tested on WALK, not on OTHER",)


def test_the_models_own_newest_prices_give_no_warning(registry: ModelRegistry, model_id: str) -> None:
    assert predict(model_id, PredictRequest(), registry, PRICES, NOW).warnings == ()


def test_an_unknown_model_is_not_found(registry: ModelRegistry) -> None:
    with pytest.raises(ModelNotFound):
        predict("nope", PredictRequest(), registry, PRICES, NOW)


def test_an_unknown_ticker_is_not_found(registry: ModelRegistry, model_id: str) -> None:
    with pytest.raises(TickerNotFound):
        predict(model_id, PredictRequest(ticker="NOPE"), registry, PRICES, NOW)


def test_fewer_sessions_than_the_lookback_are_refused(registry: ModelRegistry, model_id: str) -> None:
    with pytest.raises(InsufficientHistory, match="need 20 sessions of SHORT, found 15"):
        predict(model_id, PredictRequest(ticker="SHORT"), registry, PRICES, NOW)


def test_a_date_before_the_history_is_refused(registry: ModelRegistry, model_id: str) -> None:
    with pytest.raises(InsufficientHistory, match="found 0"):
        predict(model_id, PredictRequest(as_of=date(1999, 1, 4)), registry, PRICES, NOW)


def test_more_steps_than_the_model_has_are_refused(trained: TrainedModel) -> None:
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(trained.card.model_copy(update={"horizon": 5}), trained.files)

    with pytest.raises(HorizonTooLong, match="asked for 10 sessions"):
        forecast(trained.card.model_id, ForecastRequest(horizon=10), registry, PRICES, NOW)


def test_a_level_beyond_the_calibration_is_refused_not_guessed(trained: TrainedModel) -> None:
    few = b"[" + b",".join([b"[0.1,0.2,0.3,0.4]"] * 30) + b"]"
    files = {**trained.files, CALIBRATION: few}
    card = trained.card.model_copy(update={"files": {name: file_report(content) for name, content in files.items()}})
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(card, files)

    with pytest.raises(CalibrationTooSmall, match=r"4 scores cannot support level 0\.95"):
        predict(card.model_id, PredictRequest(), registry, PRICES, NOW)


def test_a_model_of_several_tickers_must_be_told_which(registry: ModelRegistry, trained: TrainedModel) -> None:
    other = trained.card.series[0].model_copy(update={"ticker": "OTHER"})
    card = trained.card.model_copy(update={"model_id": "pooled-1", "series": (*trained.card.series, other)})
    registry.publish(card, trained.files)

    with pytest.raises(InvalidRequest, match="WALK, OTHER: say which ticker"):
        predict("pooled-1", PredictRequest(), registry, PRICES, NOW)

    assert predict("pooled-1", PredictRequest(ticker="OTHER"), registry, PRICES, NOW).ticker == "OTHER"
