"""One scoring, and the metrics that follow from it."""

from datetime import datetime

from schemas.realised import ScoreReport
from services.monitoring.drift import measure_drift
from services.monitoring.realised import measure_realised
from services.monitoring.scoring import LATE_AFTER, RETRY_FOR, score_due, score_keys, session_of
from services.prices.series import PriceSource
from services.storage.registry import ModelRegistry
from services.storage.store import ArtifactStore
from telemetry.measures import SCORING_FINISHED, SCORING_RUNS, UNSCORED_RATIO, Meter

MIN_SESSIONS = 10  # of tickers; of fewer, a share says nothing


def run_scoring(
    store: ArtifactStore, prices: PriceSource, registry: ModelRegistry, now: datetime, meter: Meter
) -> ScoreReport:
    """Score all sessions that closed since the last run, and record accuracy, drift and what has no scores.

    Raises:
        ArtifactCorrupt: scores are not readable.
        StoreUnavailable: from the store.
    """
    report = score_due(store, prices, now, meter)
    meter.record(UNSCORED_RATIO, unscored_ratio(store, report, now))
    measure_realised(store, now, meter)
    measure_drift(registry, prices, store, now, meter)
    meter.record(SCORING_RUNS)
    meter.record(SCORING_FINISHED, now.timestamp())
    return report


def unscored_ratio(store: ArtifactStore, report: ScoreReport, now: datetime) -> float:
    """The share of sessions without scores, of those that a scoring tries again; 0 of fewer than ``MIN_SESSIONS``."""
    ages = [now.date() - session_of(key) for key in score_keys(store)]
    n_scored = sum(LATE_AFTER <= age <= RETRY_FOR for age in ages)
    total = n_scored + report.n_waiting
    return report.n_waiting / total if total >= MIN_SESSIONS else 0.0
