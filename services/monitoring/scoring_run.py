"""One scoring, and the metrics that follow from it."""

import logging
from collections import Counter
from datetime import datetime

from errors import AppError
from schemas.realised import DriftCounts, DriftOverview, DriftReport, ScoreReport, Unjudged
from services.monitoring.drift import judged, measure_drift, overview_of
from services.monitoring.realised import measure_realised, tickers_scored
from services.monitoring.scoring import LATE_AFTER, RETRY_FOR, score_due, score_keys, session_of
from services.prices.series import PriceSource
from services.storage.registry import DEFAULT, ModelRegistry
from services.storage.store import ArtifactStore
from telemetry.measures import SCORING_FINISHED, SCORING_RUNS, UNSCORED_RATIO, Meter

MIN_SESSIONS = 10  # of tickers; of fewer, a share says nothing
MAX_DRIFTED = 1000  # that a report names

log = logging.getLogger(__name__)


def run_scoring(
    store: ArtifactStore, prices: PriceSource, registry: ModelRegistry, now: datetime, meter: Meter
) -> ScoreReport:
    """Score all sessions that closed since the last run, and record accuracy, drift and what has no scores.

    Drift is judged ticker by ticker with the scoring, which spares reading all prices twice.

    Raises:
        ArtifactCorrupt: scores are not readable.
        StoreUnavailable: from the store.
    """
    found: dict[str, DriftReport | Unjudged] = {}

    def judge(ticker: str) -> None:
        found[ticker] = judged(ticker, None, registry, prices, store, now)

    can_judge = _has_default(registry)
    report = score_due(store, prices, now, meter, then=judge if can_judge else lambda _: None)
    meter.record(UNSCORED_RATIO, unscored_ratio(store, report, now))
    measure_realised(store, now, meter)
    if can_judge:
        scored = tickers_scored(store)
        for ticker in scored:
            if ticker not in found:
                judge(ticker)
        overview = overview_of(found[ticker] for ticker in scored)
        measure_drift(overview, meter)
        report = report.model_copy(update=_drift_of(overview))
    meter.record(SCORING_RUNS)
    meter.record(SCORING_FINISHED, now.timestamp())
    return report


def _has_default(registry: ModelRegistry) -> bool:
    try:
        registry.card(DEFAULT)
    except AppError as error:
        log.warning("no drift status of the default model: %s", error.message)
        return False
    return True


def _drift_of(overview: DriftOverview) -> dict[str, object]:
    """The fields of a ``ScoreReport`` about drift."""
    statuses = Counter(report.status for report in overview.reports)
    counts = DriftCounts(
        ok=statuses["ok"],
        warning=statuses["warning"],
        drifted=statuses["drifted"],
        unknown=len(overview.unjudged),
    )
    drifted = tuple(report.ticker for report in overview.reports if report.status == "drifted")
    return {"drift": counts, "drifted": drifted[:MAX_DRIFTED]}


def unscored_ratio(store: ArtifactStore, report: ScoreReport, now: datetime) -> float:
    """The share of sessions without scores, of those that a scoring tries again; 0 of fewer than ``MIN_SESSIONS``."""
    ages = [now.date() - session_of(key) for key in score_keys(store)]
    n_scored = sum(LATE_AFTER <= age <= RETRY_FOR for age in ages)
    total = n_scored + report.n_waiting
    return report.n_waiting / total if total >= MIN_SESSIONS else 0.0
