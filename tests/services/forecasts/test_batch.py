"""Many symbols in one call."""

import threading
from datetime import UTC, datetime

import pytest

from errors import HorizonTooLong, ModelNotFound
from models.base import QuantileForecast
from models.conformal import CalibratedForecaster, Calibration
from schemas.batch import BatchRequest
from services.evaluation.accuracy import CRPS_LEVELS
from services.forecasts.batch import FETCHERS, forecast_batch
from services.forecasts.served import ServedForecast
from services.prices.series import PriceHistory
from services.storage.registry import ModelRegistry
from services.training.train import TrainedModel
from tests.fakes import FakePriceSource, InMemoryArtifactStore, walk_history

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
PRICES = FakePriceSource(walk_history("A", seed=1), walk_history("B", seed=2), walk_history("YOUNG", n_sessions=19))


class CountingSource:
    """Counts how many threads ask at once; every call waits until as many as may come have come, or a moment."""

    def __init__(self) -> None:
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._gathered = threading.Event()

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            if self._at_once == FETCHERS:
                self._gathered.set()
        self._gathered.wait(5)
        with self._lock:
            self._at_once -= 1
        return PRICES.history("A", now)


@pytest.fixture
def registry(trained: TrainedModel) -> ModelRegistry:
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(trained.card, trained.files)
    registry.move_alias("default", trained.card.model_id, NOW)
    return registry


def test_each_symbol_has_its_result_or_its_error_in_the_order_asked(registry: ModelRegistry) -> None:
    answer = forecast_batch(BatchRequest(symbols=("B", "NOPE", "YOUNG", "A")), registry, PRICES, NOW)

    assert [one.symbol for one in answer.results] == ["B", "NOPE", "YOUNG", "A"]
    assert [one.error and (one.error.status, one.error.code) for one in answer.results] == [
        None,
        (404, "ticker_not_found"),
        (409, "insufficient_history"),
        None,
    ]
    assert [one.result is None for one in answer.results] == [False, True, True, False]


def test_a_symbol_is_forecast_from_its_own_prices(registry: ModelRegistry) -> None:
    answer = forecast_batch(BatchRequest(symbols=("A", "B")), registry, PRICES, NOW)

    for one in answer.results:
        assert one.result is not None
        assert one.result.base_price == PRICES.history(one.symbol, NOW).series.close[-1]
        assert one.result.forecast[0].predicted_price == pytest.approx(one.result.base_price, rel=0.02)


def test_many_symbols_take_one_pass_of_the_model(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    predict = CalibratedForecaster.predict_intervals

    def counted(self: CalibratedForecaster, *arguments: object) -> object:
        passes.append(arguments)
        return predict(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(CalibratedForecaster, "predict_intervals", counted)

    forecast_batch(BatchRequest(symbols=("A", "B")), registry, PRICES, NOW)

    assert len(passes) == 1


def test_prices_are_fetched_side_by_side_but_not_all_at_once(registry: ModelRegistry) -> None:
    source = CountingSource()
    symbols = tuple(f"S{number}" for number in range(3 * FETCHERS))

    forecast_batch(BatchRequest(symbols=symbols), registry, source, NOW)

    assert source.most_at_once == FETCHERS


def test_a_model_that_does_not_exist_fails_the_batch(registry: ModelRegistry) -> None:
    with pytest.raises(ModelNotFound):
        forecast_batch(BatchRequest(symbols=("A",), model_id="nope"), registry, PRICES, NOW)


def test_more_days_than_the_model_has_fail_the_batch(registry: ModelRegistry, trained: TrainedModel) -> None:
    registry.publish(trained.card.model_copy(update={"model_id": "short", "horizon": 5}), trained.files)

    with pytest.raises(HorizonTooLong):
        forecast_batch(BatchRequest(symbols=("A",), days=6, model_id="short"), registry, PRICES, NOW)


def test_the_distribution_of_a_batch_is_formed_once_and_each_has_its_own(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[ServedForecast] = []
    formed: list[QuantileForecast] = []
    form = Calibration.quantiles

    def counted(self: Calibration, forecast: QuantileForecast) -> QuantileForecast:
        formed.append(forecast)
        return form(self, forecast)

    request = BatchRequest(symbols=("A", "B"), days=3)
    forecast_batch(request, registry, PRICES, NOW, served.append)
    monkeypatch.setattr(Calibration, "quantiles", counted)

    quantiles = [one.quantiles_at(CRPS_LEVELS) for one in served]

    assert len(formed) == 1
    assert [table.shape for table in quantiles] == [(3, CRPS_LEVELS.size)] * 2
    for one, table in zip(served, quantiles, strict=True):
        middle = table[:, CRPS_LEVELS.size // 2]
        assert middle.tolist() == one.inference.forecast.median[one.row, :3].tolist()
