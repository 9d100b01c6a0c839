"""Accuracy of served forecasts, by ticker, model and step."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from threading import Lock
from typing import get_args

import numpy as np
from cachetools import LRUCache, cached

from errors import ArtifactCorrupt, ArtifactNotFound, UnknownExchange
from schemas.accuracy import DetailedReport
from schemas.common import DEFAULT_LEVELS
from schemas.keys import ticker_of
from schemas.realised import AccuracyOverTime, ForecastOutcome, RealisedAccuracy, SessionScores
from services.evaluation.scorer import Outcomes, score
from services.monitoring.overall import measure_overall
from services.monitoring.scoring import keys_of_scores, score_keys, session_of
from services.prices.exchanges import NEW_YORK, Kind, exchange_of, kind_of
from services.storage.documents import read_document, report_unreadable
from services.storage.store import ArtifactStore
from telemetry.measures import NO_METER, REALISED_COVERAGE, REALISED_FORECASTS, REALISED_MAPE, Meter

READERS = 8
REMEMBERED = 4096  # sessions of a ticker: every page, alert and drift status reads the same ones

MEASURED_DAYS = 90

Group = tuple[str, str, int]
"""Ticker, model and step."""


def realised_accuracy(
    store: ArtifactStore, now: datetime, days: int, ticker: str | None, model_id: str | None, meter: Meter = NO_METER
) -> AccuracyOverTime:
    """Scores of the sessions of the last ``days`` days, computed as in a backtest.

    Raises:
        StoreUnavailable: from the store.
    """
    since = now.date() - timedelta(days=days)
    groups: dict[Group, list[tuple[date, ForecastOutcome]]] = defaultdict(list)
    for scores in scores_since(store, since, ticker, meter):
        for pair in scores.pairs:
            if model_id is None or pair.model_id == model_id:
                groups[scores.ticker, pair.model_id, pair.step].append((scores.session, pair))
    figures = tuple(_figures(group, pairs) for group, pairs in sorted(groups.items()))
    return AccuracyOverTime(since=since, until=now.date(), accuracy=figures)


def measure_realised(store: ArtifactStore, now: datetime, meter: Meter) -> None:
    """Record the accuracy of one-step forecasts of the last ``MEASURED_DAYS`` days, by kind of ticker and of all."""
    by_kind: dict[str, list[ForecastOutcome]] = {kind: [] for kind in get_args(Kind)}
    found = scores_since(store, now.date() - timedelta(days=MEASURED_DAYS))
    measure_overall(found, meter)
    for scores in found:
        by_kind[_kind_of(scores)] += [pair for pair in scores.pairs if pair.step == 1]
    for kind, pairs in by_kind.items():
        meter.record(REALISED_FORECASTS, len(pairs), kind=kind)
        if not pairs:
            continue
        report = _report(pairs, 1)
        meter.record(REALISED_MAPE, report.model.mape, kind=kind, forecast="model")
        meter.record(REALISED_MAPE, report.persistence.mape, kind=kind, forecast="persistence")
        for one in report.coverage:
            if one.level in DEFAULT_LEVELS:
                meter.record(REALISED_COVERAGE, one.empirical_coverage, kind=kind, level=f"{one.level:g}")


def scores_since(
    store: ArtifactStore, since: date, ticker: str | None = None, meter: Meter = NO_METER
) -> list[SessionScores]:
    """Scored sessions from a day on, of one ticker or all, in the order of their keys; unreadable ones are left out."""
    every = score_keys(store) if ticker is None else keys_of_scores(store, ticker)
    keys = [key for key in every if session_of(key) >= since]
    with ThreadPoolExecutor(READERS) as readers:
        found = readers.map(lambda key: _scores_or_none(store, key, meter), keys)
        return [scores for scores in found if scores is not None]


def _scores_or_none(store: ArtifactStore, key: str, meter: Meter = NO_METER) -> SessionScores | None:
    try:
        return _scores(store, key)
    except ArtifactNotFound:  # forgotten since the keys were listed
        return None
    except ArtifactCorrupt as error:
        report_unreadable(error, meter)
        return None


@cached(LRUCache(REMEMBERED), lock=Lock())
def _scores(store: ArtifactStore, key: str) -> SessionScores:
    # written once, so a cached document stays true
    return read_document(store, key, SessionScores)


def tickers_scored(store: ArtifactStore) -> list[str]:
    """Every ticker with a scored forecast."""
    return sorted({ticker for key in score_keys(store) if (ticker := _ticker_of(store, key)) is not None})


def _kind_of(scores: SessionScores) -> Kind:
    try:
        exchange = scores.exchange or exchange_of(scores.ticker)
    except UnknownExchange:  # only documents from before exchanges were recorded
        exchange = NEW_YORK
    return kind_of(scores.ticker, exchange)


def _ticker_of(store: ArtifactStore, key: str) -> str | None:
    folder = key.split("/")[1]
    if "_" not in folder:
        return ticker_of(folder)
    scores = _scores_or_none(store, key)  # in version 0.1 "_" meant "&": the document itself knows its ticker
    return None if scores is None else scores.ticker


def _figures(group: Group, found: Sequence[tuple[date, ForecastOutcome]]) -> RealisedAccuracy:
    ticker, model_id, step = group
    sessions, pairs = [session for session, _ in found], [pair for _, pair in found]
    return RealisedAccuracy(
        ticker=ticker,
        model_id=model_id,
        model=pairs[-1].model,
        first_session=min(sessions),
        last_session=max(sessions),
        report=_report(pairs, step),
    )


def _report(pairs: Sequence[ForecastOutcome], step: int) -> DetailedReport:
    """The report of one step; forecasts from origins on the same day count once in p-values."""
    pairs = sorted(pairs, key=lambda pair: pair.origin)
    levels = sorted({level for pair in pairs for level in pair.levels})
    lower, upper = (np.full((len(pairs), 1, len(levels)), np.nan) for _ in range(2))
    for row, pair in enumerate(pairs):  # callers choose their levels
        columns = [levels.index(level) for level in pair.levels]
        lower[row, 0, columns], upper[row, 0, columns] = pair.lower, pair.upper
    found = Outcomes(
        last=np.array([pair.last for pair in pairs]),
        actual=np.array([[pair.actual] for pair in pairs]),
        median=np.array([[pair.median] for pair in pairs]),
        lower=lower,
        upper=upper,
        crps=np.array([[pair.crps] for pair in pairs]),
        persistence_crps=np.array([[pair.persistence_crps] for pair in pairs]),
    )
    return score(found, levels, step, sessions=np.array([pair.origin for pair in pairs], dtype="datetime64[D]"))
