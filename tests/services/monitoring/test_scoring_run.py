"""One scoring with the metrics that alarms are based on."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import numpy as np
import pytest

from errors import PricesUnreachable
from schemas.realised import DriftCounts, ScoreReport
from services.monitoring.forecast_log import record_key
from services.monitoring.scoring import scores_key
from services.monitoring.scoring_run import run_scoring, unscored_ratio
from services.prices.series import PriceHistory, PriceSource
from services.storage.registry import ModelRegistry
from services.training.train import TrainedModel
from telemetry.measures import COVERAGE_Z, DRIFT, REALISED_COVERAGE, SCORING_FINISHED, SCORING_RUNS, UNSCORED_RATIO
from tests.fakes import (
    FailingPriceSource,
    FakePriceSource,
    InMemoryArtifactStore,
    RecordingMeter,
    forecast_record,
    walk_history,
)

HISTORY = walk_history(n_sessions=1000)
SESSIONS = [session.item() for session in HISTORY.series.sessions]
NOW = datetime.combine(SESSIONS[-1], time(23), UTC)
N_FORECASTS = 60


@pytest.fixture
def logged(store: InMemoryArtifactStore) -> InMemoryArtifactStore:
    """A store with a one-step forecast of each of the last sessions."""
    for row in range(-N_FORECASTS - 1, -1):
        close = float(HISTORY.series.close[row])
        record = forecast_record("WALK", SESSIONS[row], [SESSIONS[row + 1]], close, levels=(0.8, 0.95))
        store.create(record_key(record), record.model_dump_json().encode())
    return store


def run(store: InMemoryArtifactStore, prices: PriceSource, trained: TrainedModel, meter: RecordingMeter) -> ScoreReport:
    registry = ModelRegistry(store)
    registry.publish(trained.card, trained.files)
    registry.move_alias("default", trained.card.model_id, NOW)
    return run_scoring(store, prices, registry, NOW, meter)


def without(days: int) -> PriceHistory:
    """The history as a source has it that lacks the sessions of 2 to ``days`` days ago."""
    age = np.datetime64(NOW.date()) - HISTORY.series.sessions
    kept = (age < np.timedelta64(2, "D")) | (age > np.timedelta64(days, "D"))
    return replace(HISTORY, series=HISTORY.series.where(kept))


def test_a_run_records_coverage_drift_and_its_own_end(
    logged: InMemoryArtifactStore, trained: TrainedModel, meter: RecordingMeter
) -> None:
    run(logged, FakePriceSource(HISTORY), trained, meter)

    assert meter.values(SCORING_RUNS) == [1]
    assert meter.values(SCORING_FINISHED) == [NOW.timestamp()]
    assert meter.values(UNSCORED_RATIO) == [0]
    assert len(meter.values(COVERAGE_Z)) == 2
    assert [(one["kind"], one["level"]) for one in meter.labels(REALISED_COVERAGE)] == [
        ("share", "0.8"),
        ("share", "0.95"),
    ]
    assert sum(meter.values(DRIFT)) == 1


def test_of_few_sessions_a_share_says_nothing(
    logged: InMemoryArtifactStore, trained: TrainedModel, meter: RecordingMeter
) -> None:
    run(logged, FakePriceSource(without(7)), trained, meter)  # of the last 14 days, half of at most nine sessions

    assert meter.values(UNSCORED_RATIO) == [0]


@pytest.mark.parametrize(("n_scored", "ratio"), [(5, 0.0), (6, 0.4), (7, 4 / 11)])
def test_of_ten_sessions_from_two_days_to_two_weeks_ago_those_without_scores_are_a_share(
    store: InMemoryArtifactStore, n_scored: int, ratio: float
) -> None:
    ages = [2, 14, *range(3, n_scored + 1), 0, 1, 15, 30]
    for age in ages:
        store.put(scores_key("WALK", NOW.date() - timedelta(days=age)), b"{}")

    found = unscored_ratio(store, ScoreReport(n_sessions=0, n_pairs=0, n_waiting=4, unscored=()), NOW)

    assert found == pytest.approx(ratio)


def test_many_sessions_without_scores_are_a_share(
    store: InMemoryArtifactStore, trained: TrainedModel, meter: RecordingMeter
) -> None:
    for ticker in ("WALK", "GONE"):
        for row in range(-15, -1):
            record = forecast_record(ticker, SESSIONS[row], [SESSIONS[row + 1]], float(HISTORY.series.close[row]))
            store.create(record_key(record), record.model_dump_json().encode())

    run(store, FakePriceSource(HISTORY), trained, meter)

    assert meter.values(UNSCORED_RATIO) == [pytest.approx(0.5)]


def test_a_run_without_any_price_is_still_a_run(
    logged: InMemoryArtifactStore, trained: TrainedModel, meter: RecordingMeter
) -> None:
    run(logged, FailingPriceSource(PricesUnreachable("down")), trained, meter)

    assert meter.values(SCORING_RUNS) == [1]
    assert meter.values(COVERAGE_Z) == []


class CountedPriceSource(FakePriceSource):
    """Counts the requests."""

    n_requests = 0

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        self.n_requests += 1
        return super().history(ticker, now, recent)


def test_a_report_counts_drift_and_names_the_drifted(
    logged: InMemoryArtifactStore, trained: TrainedModel, meter: RecordingMeter
) -> None:
    wild = HISTORY.series.bars.copy()
    wild[-5:, 1], wild[-5:, 2] = 1.2 * wild[-5:, 3], wild[-5:, 3] / 1.2
    prices = CountedPriceSource(replace(HISTORY, series=replace(HISTORY.series, bars=wild)))

    report = run(logged, prices, trained, meter)

    assert report.drift == DriftCounts(ok=0, warning=0, drifted=1, unknown=0)
    assert report.drifted == ("WALK",)
    assert prices.n_requests == 2  # one for the scores, one right after it for drift


def test_a_ticker_whose_forecasts_are_forgotten_and_whose_scores_are_not_has_a_drift_status(
    logged: InMemoryArtifactStore, trained: TrainedModel, meter: RecordingMeter
) -> None:
    before = run(logged, FakePriceSource(HISTORY), trained, meter)
    for key in logged.list_keys("forecasts/"):
        logged.delete(key)

    report = run(logged, FakePriceSource(HISTORY), trained, meter)

    assert report.drift is not None
    assert report.drift == before.drift != DriftCounts(ok=0, warning=0, drifted=0, unknown=0)


def test_a_ticker_without_prices_has_no_known_drift(
    logged: InMemoryArtifactStore, trained: TrainedModel, meter: RecordingMeter
) -> None:
    run(logged, FakePriceSource(HISTORY), trained, meter)

    report = run(logged, FailingPriceSource(PricesUnreachable("down")), trained, meter)

    assert report.drift == DriftCounts(ok=0, warning=0, drifted=0, unknown=1)


def test_without_a_default_model_no_status_is_recorded(
    logged: InMemoryArtifactStore, meter: RecordingMeter, caplog: pytest.LogCaptureFixture
) -> None:
    report = run_scoring(logged, FakePriceSource(HISTORY), ModelRegistry(logged), NOW, meter)

    assert report.drift is None
    assert meter.values(DRIFT) == []
    assert "no drift status of the default model" in caplog.text
