"""The nightly run: what it forecasts, keeps, names and publishes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from errors import PricesRateLimited, StoreUnavailable, TickerNotFound
from schemas.train import TrainRequest
from services import nightly as module
from services.monitoring.forecast_log import ForecastLog, recorded
from services.nightly import N_CLOSES, Nightly
from services.prices.series import PriceHistory, PriceSource
from services.publication import DRAFT, draft_and_latest, publish, read_pointer, read_publication
from services.storage.registry import ModelRegistry
from services.storage.write_behind import WriteBehind
from services.training.train import TrainedModel, train_model
from telemetry.measures import FORECASTS_PUBLISHED, FORECASTS_PUBLISHED_AT, PUBLICATIONS
from tests.fakes import (
    EMPTY_REGISTRY,
    FakePriceSource,
    InMemoryArtifactStore,
    RecordingMeter,
    forecasting,
    walk_history,
)

TICKERS = ("AAA", "BBB", "CCC")
HISTORIES = [walk_history(ticker, n_sessions=600, seed=seed) for seed, ticker in enumerate(TICKERS)]
AS_OF = HISTORIES[0].as_of
NOW = datetime.combine(AS_OF, datetime.min.time(), UTC) + timedelta(hours=23)


class CountingSource(FakePriceSource):
    """Counts the requests of each ticker; fails for some."""

    def __init__(self, *histories: PriceHistory) -> None:
        super().__init__(*histories)
        self.asked: list[str] = []
        self.errors: dict[str, Exception] = {}

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        self.asked.append(ticker)
        if ticker in self.errors:
            raise self.errors[ticker]
        return super().history(ticker, now, recent)


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    """A model that costs next to nothing."""
    request = TrainRequest(ticker="WALK", model="ewma", calibration="static")
    history = FakePriceSource(walk_history(n_sessions=800))
    return train_model(request, history, EMPTY_REGISTRY, "walk-20240719-1a2b3c4d", NOW, lambda _: None)


@pytest.fixture
def prices() -> CountingSource:
    return CountingSource(*HISTORIES)


@pytest.fixture
def nightly(
    store: InMemoryArtifactStore, trained: TrainedModel, prices: CountingSource, meter: RecordingMeter
) -> Nightly:
    registry = ModelRegistry(store)
    registry.publish(trained.card, trained.files)
    registry.move_alias("default", trained.card.model_id, NOW)
    return run_of(TICKERS, store, registry, prices, meter)


def run_of(
    tickers: tuple[str, ...],
    store: InMemoryArtifactStore,
    registry: ModelRegistry,
    prices: PriceSource,
    meter: RecordingMeter,
) -> Nightly:
    writer = WriteBehind()
    log = ForecastLog(store, writer, meter)
    return Nightly(
        tickers, forecasting(registry, prices), registry, prices, prices, store, log, writer, meter, downloads=True
    )


def published(store: InMemoryArtifactStore) -> dict[str, object]:
    run = read_publication(store, read_pointer(store).document)
    return {one.ticker: one for one in run.forecasts} | {one.ticker: one.code for one in run.failed}


def test_a_run_publishes_every_ticker_and_logs_the_forecasts(
    nightly: Nightly, store: InMemoryArtifactStore, meter: RecordingMeter, trained: TrainedModel
) -> None:
    report = nightly.publish(NOW, 60)

    run = read_publication(store, read_pointer(store).document)
    first = run.forecasts[0]
    assert (report.n_made, report.n_kept, report.n_left, report.published_at) == (3, 0, 0, NOW)
    assert [one.ticker for one in run.forecasts] == list(TICKERS)
    assert (first.as_of, first.model_id, first.drift) == (AS_OF, trained.card.model_id, "ok")
    assert first.closes == pytest.approx(HISTORIES[0].series.close[-N_CLOSES:].tolist(), rel=1e-7)
    assert len(first.median) == run.horizon == min(20, trained.card.horizon)
    assert sorted(key.ticker for key in recorded(store)) == list(TICKERS)
    assert meter.values(PUBLICATIONS) == [1]
    assert meter.values(FORECASTS_PUBLISHED_AT) == [NOW.timestamp()]
    assert meter.values(FORECASTS_PUBLISHED) == [3, 0]


def test_a_forecast_is_that_of_the_route_for_many(nightly: Nightly, store: InMemoryArtifactStore) -> None:
    nightly.publish(NOW, 60)

    run = read_publication(store, read_pointer(store).document)
    batch = nightly.forecasting.forecast_tickers(None, TICKERS, run.horizon, run.levels, NOW)
    for one in run.forecasts:
        forecast = batch.forecasts[one.ticker]
        assert not isinstance(forecast, Exception)
        assert one.median == pytest.approx(forecast.median.tolist(), rel=1e-7)
        assert [list(row) for row in one.lower] == [pytest.approx(row, rel=1e-7) for row in forecast.lower.tolist()]


def test_a_run_that_is_run_again_reads_no_prices_and_publishes_the_same(
    nightly: Nightly, store: InMemoryArtifactStore, prices: CountingSource
) -> None:
    nightly.publish(NOW, 60)
    before = published(store)
    prices.asked.clear()

    again = nightly.publish(NOW + timedelta(hours=1), 60)

    assert prices.asked == []
    assert (again.n_made, again.n_kept) == (0, 3)
    assert published(store) == before
    assert read_pointer(store).made_at == NOW + timedelta(hours=1)


def test_a_newer_session_or_another_model_makes_a_forecast_again(
    nightly: Nightly, trained: TrainedModel, store: InMemoryArtifactStore
) -> None:
    nightly.publish(NOW, 60)
    other = replace_id(trained, "walk-20240719-0000ffff")
    nightly.registry.publish(other.card, other.files)
    nightly.registry.move_alias("ticker/BBB", other.card.model_id, NOW)

    moved, next_week = nightly.publish(NOW, 60), nightly.publish(NOW + timedelta(days=5), 60)

    assert (moved.n_made, moved.n_kept) == (1, 2)
    assert (next_week.n_made, next_week.n_kept) == (3, 0)


def replace_id(trained: TrainedModel, model_id: str) -> TrainedModel:
    return replace(trained, card=trained.card.model_copy(update={"model_id": model_id}))


def test_a_bad_ticker_is_named_and_does_not_hide_the_others(
    nightly: Nightly, store: InMemoryArtifactStore, prices: CountingSource
) -> None:
    prices.errors["BBB"] = TickerNotFound("no BBB", ticker="BBB")
    every = replace(nightly, tickers=("BBB", "not a ticker", *TICKERS[::2]))

    report = every.publish(NOW, 60)

    assert [(one.ticker, one.code) for one in report.failed] == [
        ("BBB", "ticker_not_found"),
        ("not a ticker", "ticker_not_found"),
    ]
    assert list(published(store)) == ["AAA", "CCC", "BBB", "not a ticker"]


def test_a_failed_ticker_is_tried_again_by_the_next_run(
    nightly: Nightly, store: InMemoryArtifactStore, prices: CountingSource
) -> None:
    prices.errors["BBB"] = TickerNotFound("no BBB", ticker="BBB")
    nightly.publish(NOW, 60)
    prices.errors.clear()

    report = nightly.publish(NOW + timedelta(minutes=1), 60)

    assert (report.n_made, report.n_failed) == (1, 0)
    assert list(published(store)) == list(TICKERS)


def test_without_a_single_forecast_the_run_before_stays(
    nightly: Nightly, store: InMemoryArtifactStore, prices: CountingSource
) -> None:
    nightly.publish(NOW, 60)
    before = read_pointer(store)
    prices.errors = {ticker: TickerNotFound(f"no {ticker}", ticker=ticker) for ticker in TICKERS}

    report = nightly.publish(NOW + timedelta(days=5), 60)

    assert (report.n_failed, report.published_at) == (3, None)
    assert read_pointer(store) == before


def test_a_run_whose_time_is_up_continues_with_what_is_left(
    nightly: Nightly, store: InMemoryArtifactStore, prices: CountingSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    prices.errors["AAA"] = TickerNotFound("no AAA", ticker="AAA")

    reports = [nightly.publish(NOW, 0) for _ in TICKERS]

    assert [one.n_left for one in reports] == [2, 1, 0]
    assert [one.published_at for one in reports] == [None, None, NOW]
    assert prices.asked.count("AAA") == 2  # once for drift, once for the forecast
    assert list(published(store)) == ["BBB", "CCC", "AAA"]
    assert not store.exists(DRAFT)


def test_a_slice_keeps_the_forecasts_of_the_one_before(
    nightly: Nightly, store: InMemoryArtifactStore, prices: CountingSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)

    first = nightly.publish(NOW, 0)
    draft, latest = draft_and_latest(store)
    prices.asked.clear()
    second = nightly.publish(NOW, 0)

    assert (first.n_made, first.n_left, latest) == (2, 1, None)
    assert draft is not None
    assert [one.ticker for one in draft.forecasts] == ["AAA", "BBB"]
    assert set(prices.asked) == {"CCC"}
    assert (second.n_made, second.n_kept, second.published_at) == (1, 2, NOW)


def test_a_ticker_that_left_the_list_leaves_the_publication(nightly: Nightly, store: InMemoryArtifactStore) -> None:
    nightly.publish(NOW, 60)

    replace(nightly, tickers=("CCC", "AAA")).publish(NOW, 60)

    assert list(published(store)) == ["CCC", "AAA"]


def test_a_store_that_is_down_ends_the_run(
    nightly: Nightly, store: InMemoryArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise StoreUnavailable("the store is down")

    monkeypatch.setattr(store, "create", down)

    with pytest.raises(StoreUnavailable):
        nightly.publish(NOW, 60)


def test_an_empty_list_publishes_nothing(nightly: Nightly, store: InMemoryArtifactStore) -> None:
    publish_nothing = replace(nightly, tickers=()).publish(NOW, 60)

    assert (publish_nothing.n_tickers, publish_nothing.published_at) == (0, None)
    assert draft_and_latest(store) == (None, None)


def test_fetching_goes_through_the_tickers_in_slices(nightly: Nightly, prices: CountingSource) -> None:
    prices.errors["BBB"] = TickerNotFound("no BBB", ticker="BBB")

    reports = [nightly.fetch(None, NOW, 0)]
    while reports[-1].next_after is not None:
        reports.append(nightly.fetch(reports[-1].next_after, NOW, 0))

    assert prices.asked == list(TICKERS)
    assert [one.next_after for one in reports] == ["AAA", "BBB", None]
    assert [[bad.ticker for bad in one.failed] for one in reports] == [[], ["BBB"], []]
    assert sum(one.n_fetched for one in reports) == 2


@pytest.mark.parametrize(("limited", "expected"), [("AAA", ""), ("BBB", "AAA")])
def test_a_source_that_limits_requests_ends_the_slice_with_the_pause_it_asks_for(
    nightly: Nightly, prices: CountingSource, limited: str, expected: str
) -> None:
    prices.errors[limited] = PricesRateLimited("too many", retry_after_s=7)

    report = nightly.fetch(None, NOW, 60)
    prices.errors.clear()
    rest = nightly.fetch(report.next_after or None, NOW, 60)

    assert (report.next_after, report.retry_after_s) == (expected, 7)
    assert rest.next_after is None
    assert report.n_fetched + rest.n_fetched == 3


def test_prices_on_disk_are_not_fetched(nightly: Nightly, prices: CountingSource) -> None:
    report = replace(nightly, downloads=False).fetch(None, NOW, 60)

    assert (report.n_fetched, report.next_after, prices.asked) == (0, None, [])


def test_publishing_while_another_run_has_published_later_keeps_the_later(
    nightly: Nightly, store: InMemoryArtifactStore
) -> None:
    nightly.publish(NOW, 60)
    latest = read_publication(store, read_pointer(store).document)
    publish(store, latest.model_copy(update={"made_at": NOW + timedelta(hours=2)}))

    nightly.publish(NOW + timedelta(hours=1), 60)

    assert read_pointer(store).made_at == NOW + timedelta(hours=2)
