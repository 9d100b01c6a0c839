"""The one path: from a model's name and a ticker, many tickers or bare closes to a forecast."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import (
    AppError,
    CalibrationTooSmall,
    HorizonTooLong,
    InsufficientHistory,
    InvalidRequest,
    ModelNotFound,
    PricesInvalid,
    StoreUnavailable,
    TickerNotFound,
    ZeroVariance,
)
from models.adaptive import AdaptiveForecaster
from models.base import CLOSE, QuantileForecast, closes_only
from models.trading import HaltAwareForecaster
from services.forecasting.forecast import Batch, Forecast
from services.forecasting.forecast_input import input_from_closes
from services.forecasting.forecasting import FETCHERS, Forecasting, Formed
from services.forecasting.replays import REPLAYS, ReplayStore
from services.prices.calendars import next_sessions
from services.prices.market import MarketAwareSource
from services.prices.series import PriceHistory, PriceSource
from services.storage.registry import CALIBRATION, ModelRegistry, ServedModel, file_report
from services.storage.write_behind import WriteBehind
from services.training.train import TrainedModel
from tests.fakes import FakePriceSource, InMemoryArtifactStore, walk_history

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
HISTORY = walk_history()
PRICES = FakePriceSource(
    HISTORY,
    walk_history("OTHER", seed=5),
    walk_history("A", seed=1),
    walk_history("B", seed=2),
    walk_history("FEW", n_sessions=300, seed=3),
    walk_history("YOUNG", n_sessions=19),
)
MARKET = MarketAwareSource(
    FakePriceSource(HISTORY, walk_history("YOUNG", n_sessions=19), walk_history("^GSPC", seed=9))
)
LOOKBACK = 20
LEVELS = (0.8, 0.95)


class Store(InMemoryArtifactStore):
    """A store that can be made unavailable for replays."""

    down = False

    def get(self, key: str) -> bytes:
        if self.down and key.startswith(REPLAYS):
            raise StoreUnavailable("no answer")
        return super().get(key)

    def put(self, key: str, data: bytes) -> None:
        if self.down:
            raise StoreUnavailable("no answer")
        super().put(key, data)


@pytest.fixture
def store(trained: TrainedModel) -> Store:
    store = Store()
    registry = ModelRegistry(store)
    registry.publish(trained.card, trained.files)
    registry.move_alias("default", trained.card.model_id, NOW)
    return store


class Process:
    """One process over a store."""

    def __init__(self, store: InMemoryArtifactStore, prices: PriceSource = PRICES) -> None:
        self.registry = ModelRegistry(store)
        self.writer = WriteBehind()
        self.forecasting = Forecasting(self.registry, prices, ReplayStore(store, self.writer))

    def ticker(self, ticker: str | None = "WALK", horizon: int = 1, **options: object) -> Forecast:
        model = options.pop("model", "default")
        return self.forecasting.forecast_ticker(model, ticker, horizon, LEVELS, NOW, **options)  # type: ignore[arg-type]

    def tickers(self, *tickers: str, horizon: int = 1, model: str | None = "default") -> Batch:
        return self.forecasting.forecast_tickers(model, tickers, horizon, LEVELS, NOW)

    def closes(self, closes: list[float]) -> Forecast:
        return self.forecasting.forecast_closes(self.registry.serve("default"), closes, LEVELS, NOW)


@pytest.fixture
def process(store: Store) -> Process:
    return Process(store)


def assert_same(one: Forecast, other: Forecast) -> None:
    for name in ("median", "lower", "upper"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


def test_bounds_enclose_the_median_and_the_wider_level_the_narrower(process: Process) -> None:
    forecast = process.ticker(horizon=30)

    bounds = [forecast.lower[:, 1], forecast.lower[:, 0], forecast.median, forecast.upper[:, 0], forecast.upper[:, 1]]
    assert (np.diff(bounds, axis=0) > 0).all()
    assert forecast.given.last_value == HISTORY.series.close[-1]
    assert forecast.given.sessions == next_sessions("XNYS", HISTORY.as_of, 30)


def test_the_model_of_one_ticker_needs_no_ticker_and_warns_of_another(process: Process) -> None:
    assert_same(process.ticker(None), process.ticker("WALK"))
    assert process.ticker("WALK").warnings == ()
    assert process.ticker("OTHER").warnings == ("the model was fitted and tested on WALK, not on OTHER",)


def test_a_model_of_several_tickers_needs_one(process: Process, trained: TrainedModel) -> None:
    other = trained.card.series[0].model_copy(update={"ticker": "OTHER"})
    card = trained.card.model_copy(update={"model_id": "pooled-1", "series": (*trained.card.series, other)})
    process.registry.publish(card, trained.files)

    with pytest.raises(InvalidRequest, match="WALK, OTHER: name one"):
        process.ticker(None, model="pooled-1")

    assert process.ticker("OTHER", model="pooled-1").warnings == ()


def test_a_forecast_as_of_a_past_session_knows_nothing_later(process: Process) -> None:
    past = date(2011, 6, 15)

    forecast = process.ticker(as_of=past)

    short = FakePriceSource(HISTORY.between(None, past))
    assert_same(forecast, Process(process.registry.store, short).ticker())  # type: ignore[arg-type]
    assert (forecast.given.history.as_of, forecast.given.sessions) == (past, (date(2011, 6, 16),))
    assert any("looks back" in warning for warning in forecast.warnings)


def test_a_model_of_another_price_forecasts_it_from_its_own_past(process: Process, trained: TrainedModel) -> None:
    process.registry.publish(
        trained.card.model_copy(update={"model_id": "highs", "target_column": "High"}), trained.files
    )

    assert process.ticker(model="highs").given.last_value == HISTORY.series.bars[-1, 1]


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda process: process.ticker(model="nope"), ModelNotFound, "nope"),
        (lambda process: process.tickers("A", model="nope"), ModelNotFound, "nope"),
        (lambda process: process.ticker("NOPE"), TickerNotFound, "NOPE"),
        (lambda process: process.ticker("YOUNG"), InsufficientHistory, "need 20 sessions of YOUNG, found 19"),
        (lambda process: process.ticker(as_of=date(1999, 1, 4)), InsufficientHistory, "found 0"),
        (
            lambda process: process.ticker(horizon=31),
            HorizonTooLong,
            "asked for 31 sessions, the model forecasts 30",
        ),
        (lambda process: process.tickers("A", horizon=31), HorizonTooLong, "asked for 31 sessions"),
        (lambda process: process.closes([31.29] * LOOKBACK), ZeroVariance, r"the last 20 prices are all 31\.29"),
    ],
)
def test_what_cannot_be_forecast_is_refused(
    process: Process, ask: Callable[[Process], object], error: type[AppError], message: str
) -> None:
    with pytest.raises(error, match=message):
        ask(process)


def test_a_level_beyond_the_calibration_is_refused_not_guessed(process: Process, trained: TrainedModel) -> None:
    files = {**trained.files, CALIBRATION: b"[" + b",".join([b"[0.1,0.2,0.3,0.4]"] * 30) + b"]"}
    reports = {name: file_report(content) for name, content in files.items()}
    process.registry.publish(trained.card.model_copy(update={"model_id": "few", "files": reports}), files)

    with pytest.raises(CalibrationTooSmall, match=r"4 scores cannot support level 0\.95"):
        process.ticker(model="few")


def test_a_history_that_stopped_moving_is_refused_whatever_came_before(store: Store) -> None:
    bars = np.array(HISTORY.series.bars)
    bars[-LOOKBACK:] = bars[-LOOKBACK]
    halted = FakePriceSource(replace(HISTORY, series=replace(HISTORY.series, bars=bars)))

    with pytest.raises(ZeroVariance):
        Process(store, halted).ticker()


def test_closes_are_forecast_as_the_static_model_forecasts_a_history_of_closes(
    process: Process, trained: TrainedModel
) -> None:
    closes = HISTORY.series.close[-LOOKBACK:]

    forecast = process.closes(closes.tolist())

    static = process.registry.load(trained.card).static
    expected = static.predict_quantiles(closes_only(closes), np.array([LOOKBACK - 1]))
    np.testing.assert_allclose(forecast.distribution.prices, expected.prices[:, :1], rtol=1e-12)


@pytest.fixture(scope="module")
def published(trained: TrainedModel) -> Process:
    return _published(trained)


@given(factor=st.floats(1e-3, 1e3))
def test_prices_in_another_unit_give_the_forecast_in_that_unit(factor: float, published: Process) -> None:
    closes = HISTORY.series.close[-LOOKBACK:]

    scaled, plain = (published.closes(prices.tolist()) for prices in (factor * closes, closes))

    np.testing.assert_allclose(scaled.upper, factor * plain.upper, rtol=1e-6)


@given(prices=st.lists(st.floats(1e-12, 1e12), min_size=LOOKBACK, max_size=LOOKBACK))
def test_any_closes_get_a_forecast_or_a_named_error(prices: list[float], published: Process) -> None:
    try:
        forecast = published.closes(prices)
    except (ZeroVariance, PricesInvalid):
        return

    assert (forecast.lower[0] <= forecast.median[0]).all()
    assert (forecast.upper[0] >= forecast.median[0]).all()


def _published(trained: TrainedModel) -> Process:
    store = InMemoryArtifactStore()
    process = Process(store)
    process.registry.publish(trained.card, trained.files)
    process.registry.move_alias("default", trained.card.model_id, NOW)
    return process


@pytest.mark.parametrize("bound", [np.inf, np.nan])
def test_a_bound_that_is_no_number_is_refused(trained: TrainedModel, bound: float) -> None:
    model = ServedModel(trained.card, _published(trained).registry.load(trained.card))
    given_ = input_from_closes([1.0, 2.0])
    quantiles = QuantileForecast(np.array([0.01, 0.5, 0.99]), np.array([[[1.0, 2.0, bound]]]))

    with pytest.raises(PricesInvalid, match="jump too far"):
        Forecast.of(model, given_, quantiles, (0.8,), NOW, 0.0)


def test_each_ticker_of_a_batch_has_its_forecast_or_its_error_in_order(process: Process) -> None:
    batch = process.tickers("B", "NOPE", "YOUNG", "FEW", "A", horizon=3)

    assert [type(one) for one in batch.forecasts.values()] == [
        Forecast,
        TickerNotFound,
        InsufficientHistory,
        Forecast,
        Forecast,
    ]
    assert list(batch.forecasts) == ["B", "NOPE", "YOUNG", "FEW", "A"]


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_ticker_has_one_interval_alone_in_a_batch_again_and_in_another_process(
    store: Store, *, batch_first: bool
) -> None:
    process, fresh, without_replays = Process(store), Process(store), Process(_copy(store))
    if batch_first:
        batch, alone = process.tickers("A", "B", "FEW", horizon=10), process.ticker("FEW", 10)
    else:
        alone, batch = process.ticker("FEW", 10), process.tickers("A", "B", "FEW", horizon=10)
    process.writer.flush()

    for other in (
        batch.forecasts["FEW"],
        process.ticker("FEW", 10),
        fresh.ticker("FEW", 10),
        fresh.tickers("FEW", "B", horizon=10).forecasts["FEW"],
        without_replays.ticker("FEW", 10),
    ):
        assert isinstance(other, Forecast)
        for name in ("median", "lower", "upper"):
            np.testing.assert_allclose(getattr(other, name), getattr(alone, name), rtol=1e-10)


def _copy(store: InMemoryArtifactStore) -> InMemoryArtifactStore:
    copied = InMemoryArtifactStore()
    for key in store.list_keys("models/") + store.list_keys("aliases/"):
        copied.put(key, store.get(key))
    return copied


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many histories each replay was of."""
    counted: list[int] = []
    replay = AdaptiveForecaster.newest_replays

    def counting(self: AdaptiveForecaster, histories: list[np.ndarray], kept: int) -> object:
        counted.append(len(histories))
        return replay(self, histories, kept)

    monkeypatch.setattr(AdaptiveForecaster, "newest_replays", counting)
    return counted


def test_a_batch_is_replayed_together_once_and_kept_for_other_processes(store: Store, replays: list[int]) -> None:
    process = Process(store)
    process.tickers("A", "B")
    process.writer.flush()

    process.tickers("A", "B")
    Process(store).tickers("A", "B", "OTHER")

    assert replays == [2, 1]


def test_a_new_session_is_replayed_and_takes_the_place_of_the_one_before(store: Store, replays: list[int]) -> None:
    for history in (HISTORY.between(None, HISTORY.series.sessions[-2].astype(object)), HISTORY):
        process = Process(store, FakePriceSource(history))
        process.ticker()
        process.writer.flush()

    assert replays == [1, 1]
    assert len(store.list_keys(REPLAYS)) == 1


def test_a_forecast_as_of_a_past_session_leaves_the_kept_replay_alone(store: Store, replays: list[int]) -> None:
    process = Process(store)
    process.ticker()
    process.ticker(as_of=date(2011, 6, 15))
    process.writer.flush()

    Process(store).ticker()

    assert replays == [1, 1]


@pytest.mark.parametrize("damage", [b"{}", b"\xff"])
def test_a_damaged_replay_is_worked_out_again(store: Store, replays: list[int], damage: bytes) -> None:
    first = Process(store)
    kept = first.ticker()
    first.writer.flush()
    (key,) = store.list_keys(REPLAYS)
    store.put(key, damage)

    assert_same(Process(store).ticker(), kept)
    assert replays == [1, 1]


def test_a_kept_replay_explains_the_width_without_running_over_the_year(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Process(store, MARKET)
    explained = first.ticker().explanation
    first.writer.flush()
    ran: list[int] = []
    predict = HaltAwareForecaster.predict_quantiles

    def counting(self: HaltAwareForecaster, bars: np.ndarray, origins: np.ndarray) -> QuantileForecast:
        ran.append(origins.size)
        return predict(self, bars, origins)

    monkeypatch.setattr(HaltAwareForecaster, "predict_quantiles", counting)

    again = Process(store, MARKET).ticker().explanation

    assert ran == [1]
    assert again.parts is not None
    assert again.parts.market is not None
    assert again.model_dump_json() == explained.model_dump_json()


def test_a_replay_of_an_earlier_version_is_replaced(store: Store, replays: list[int]) -> None:
    first = Process(store)
    first.ticker()
    first.writer.flush()
    (key,) = store.list_keys(REPLAYS)
    kept = json.loads(store.get(key))
    store.put(key, json.dumps({name: value for name, value in kept.items() if name != "width"}).encode())

    second = Process(store)
    second.ticker()
    second.writer.flush()

    assert replays == [1, 1]
    assert json.loads(store.get(key)) == kept


@pytest.mark.parametrize("as_of", [None, date(2011, 11, 15)])
def test_a_static_model_explains_its_width_from_the_same_year(
    process: Process, trained: TrainedModel, as_of: date | None
) -> None:
    card = trained.card.model_copy(update={"model_id": "static-1", "calibration": "static"})
    process.registry.publish(card, trained.files)
    process.forecasting.prices = MARKET

    static, adaptive = process.ticker(model="static-1", as_of=as_of), process.ticker(as_of=as_of)
    batch = process.tickers("WALK", "YOUNG", model="static-1")

    assert static.inputs == adaptive.inputs
    assert static.inputs.market == "^GSPC"
    one, other = static.explanation.parts, adaptive.explanation.parts
    assert one is not None
    assert other is not None
    assert one.market == pytest.approx(other.market, rel=0.2)
    assert one.calibration == pytest.approx(0, abs=0.5)
    if as_of is None:
        assert isinstance(batch.forecasts["WALK"], Forecast)
        assert batch.forecasts["WALK"].explanation == static.explanation


def test_a_ticker_without_a_year_of_prices_has_an_expected_move_alone(process: Process) -> None:
    forecast = process.ticker(as_of=date(2010, 12, 1))

    assert forecast.explanation.expected_move_pct > 0
    assert (forecast.explanation.usual_move_pct, forecast.explanation.parts) == (None, None)


def test_a_store_that_fails_costs_a_replay_and_nothing_else(store: Store, process: Process) -> None:
    kept = process.ticker()
    store.down = True

    for other in (Process(store), Process(store)):
        assert_same(other.ticker(), kept)
        other.writer.flush()

    assert store.list_keys(REPLAYS) == []


def test_prices_are_fetched_concurrently_but_not_all_at_once(store: Store) -> None:
    source = CountingSource()

    Process(store, source).tickers(*(f"S{number}" for number in range(3 * FETCHERS)))

    assert source.most_at_once == FETCHERS


class CountingSource:
    """Counts concurrent calls; every call waits until as many as may come have come, or a moment."""

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


def test_a_forecast_made_before_takes_no_run_of_the_model(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    first = process.ticker("A", 5)
    monkeypatch.setattr(AdaptiveForecaster, "predict_quantiles", None)

    again = process.ticker("A", 5)

    assert_same(again, first)
    assert again.given.bars[-1, CLOSE] == first.given.bars[-1, CLOSE]


FIVE_STEPS = b"[" + b",".join([b"[" + b",".join([b"0.5"] * 40) + b"]"] * 5) + b"]"


def own_model_of_a(store: Store, trained: TrainedModel, files: dict[str, bytes]) -> str:
    reports = {name: file_report(content) for name, content in files.items()}
    registry = ModelRegistry(store)
    registry.publish(trained.card.model_copy(update={"model_id": "a-1", "files": reports}), files)
    registry.move_alias("ticker/A", "a-1", NOW)
    return "a-1"


@pytest.fixture
def champion(store: Store, trained: TrainedModel) -> str:
    return own_model_of_a(store, trained, trained.files)


@pytest.fixture
def short_champion(store: Store, trained: TrainedModel) -> str:
    """A's own model, which supports five sessions only."""
    return own_model_of_a(store, trained, {**trained.files, CALIBRATION: FIVE_STEPS})


@pytest.mark.usefixtures("champion")
def test_where_no_model_is_named_a_ticker_is_forecast_by_its_own(process: Process) -> None:
    own, other, named = process.ticker("A", model=None), process.ticker("B", model=None), process.ticker("A")

    assert (own.card.model_id, own.alias) == ("a-1", "ticker/A")
    assert (other.card.model_id, other.alias) == ("walk-20240719-1a2b3c4d", "default")
    assert (named.card.model_id, named.alias) == (other.card.model_id, "default")
    assert process.ticker("A", model="a-1").alias is None
    assert_same(process.ticker(None, model="ticker/A"), own)


@pytest.mark.usefixtures("champion")
def test_a_batch_without_a_model_is_what_each_ticker_alone_is(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {ticker: process.ticker(ticker, model=None) for ticker in ("B", "A", "FEW")}
    process = Process(process.registry.store)  # type: ignore[arg-type]
    runs: list[str] = []
    run = Forecasting._run

    def counted(self: Forecasting, model: ServedModel, *args: object, **kwargs: object) -> list[Formed]:
        runs.append(model.card.model_id)
        return run(self, model, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Forecasting, "_run", counted)

    batch = process.tickers("B", "A", "NOPE", "FEW", model=None)

    assert sorted(runs) == ["a-1", "walk-20240719-1a2b3c4d"]
    assert (batch.card.model_id, batch.alias) == ("walk-20240719-1a2b3c4d", "default")
    assert isinstance(batch.forecasts["NOPE"], TickerNotFound)
    for ticker, one in alone.items():
        found = batch.forecasts[ticker]
        assert isinstance(found, Forecast)
        assert (found.card.model_id, found.alias) == (one.card.model_id, one.alias)
        np.testing.assert_allclose(found.upper, one.upper, rtol=1e-10)


@pytest.mark.usefixtures("short_champion")
def test_beyond_the_horizon_of_a_tickers_model_the_default_answers_with_a_warning(process: Process) -> None:
    alone, batch = process.ticker("A", 6, model=None), process.tickers("A", "B", horizon=6, model=None)

    for one in (alone, batch.forecasts["A"]):
        assert isinstance(one, Forecast)
        assert (one.alias, len(one.median)) == ("default", 6)
        assert (
            "the model of 'ticker/A' cannot be used, 'default' answers: "
            "asked for 6 sessions, the model forecasts 5" in one.warnings
        )
    assert isinstance(batch.forecasts["B"], Forecast)
    assert not any("cannot be used" in warning for warning in batch.forecasts["B"].warnings)
    with pytest.raises(HorizonTooLong, match="the model forecasts 5"):
        process.ticker("A", 6, model="a-1")


@pytest.mark.usefixtures("short_champion")
@pytest.mark.parametrize("horizon", [6, 31])
def test_a_horizon_that_the_default_does_not_support_either_is_refused(process: Process, horizon: int) -> None:
    process.registry.move_alias("default", "a-1", NOW)

    with pytest.raises(HorizonTooLong, match="the model forecasts 5"):
        process.ticker("A", horizon, model=None)
    with pytest.raises(HorizonTooLong, match="the model forecasts 5"):
        process.tickers("A", "B", horizon=horizon, model=None)


def test_a_default_that_cannot_be_read_is_an_error_of_the_tickers_that_need_it(
    store: Store, champion: str, trained: TrainedModel
) -> None:
    store.delete(f"models/{trained.card.model_id}/metadata.json")

    batch = Process(store).tickers("B", "A", model=None)

    assert isinstance(batch.forecasts["A"], Forecast)
    assert isinstance(batch.forecasts["B"], ModelNotFound)
    assert batch.card.model_id == champion
    with pytest.raises(ModelNotFound):
        Process(store).tickers("B", model=None)
