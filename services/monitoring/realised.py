"""What served forecasts were worth, by ticker, model and step."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from threading import Lock
from typing import get_args

import numpy as np
from cachetools import LRUCache, cached
from numpy.typing import NDArray

from errors import UnknownExchange
from schemas.common import DEFAULT_LEVELS
from schemas.realised import (
    AccuracyOverTime,
    ForecastOutcome,
    RealisedAccuracy,
    RealisedErrors,
    RealisedInterval,
    RealisedSkill,
    SessionScores,
)
from services.evaluation import accuracy
from services.monitoring.scoring import SCORES, keys_of_scores, session_of
from services.prices.exchanges import NEW_YORK, Kind, exchange_of, kind_of
from services.prices.keys import ticker_of
from services.storage.documents import document_keys, read_document
from services.storage.store import ArtifactStore
from telemetry.measures import REALISED_COVERAGE, REALISED_FORECASTS, REALISED_MAPE, Meter

READERS = 8
REMEMBERED = 4096  # sessions of a ticker: every page, alert and drift status asks for the same ones

MEASURED_DAYS = 90

Group = tuple[str, str, int]
"""Ticker, model and step."""

Values = NDArray[np.float64]


def realised_accuracy(
    store: ArtifactStore, now: datetime, days: int, ticker: str | None, model_id: str | None
) -> AccuracyOverTime:
    """The figures of the sessions of the last ``days`` days, formed as a backtest forms them.

    Raises:
        ArtifactCorrupt: scores are not readable.
        StoreUnavailable: from the store.
    """
    since = now.date() - timedelta(days=days)
    groups: dict[Group, list[tuple[date, ForecastOutcome]]] = defaultdict(list)
    for scores in scores_since(store, since, ticker):
        for pair in scores.pairs:
            if model_id is None or pair.model_id == model_id:
                groups[scores.ticker, pair.model_id, pair.step].append((scores.session, pair))
    figures = tuple(_figures(group, found) for group, found in sorted(groups.items()))
    return AccuracyOverTime(since=since, until=now.date(), accuracy=figures)


def measure_realised(store: ArtifactStore, now: datetime, meter: Meter) -> None:
    """Tell the meter what one-step forecasts of the last ``MEASURED_DAYS`` days were worth, by kind of ticker."""
    by_kind: dict[str, list[ForecastOutcome]] = {kind: [] for kind in get_args(Kind)}
    for scores in scores_since(store, now.date() - timedelta(days=MEASURED_DAYS)):
        by_kind[_kind_of(scores)] += [pair for pair in scores.pairs if pair.step == 1]
    for kind, pairs in by_kind.items():
        meter.record(REALISED_FORECASTS, len(pairs), kind=kind)
        if not pairs:
            continue
        actual = _column(pairs, "actual")
        meter.record(REALISED_MAPE, accuracy.mape(actual, _column(pairs, "median")), kind=kind, forecast="model")
        meter.record(REALISED_MAPE, accuracy.mape(actual, _column(pairs, "last")), kind=kind, forecast="persistence")
        for interval in _intervals(pairs):
            if interval.level in DEFAULT_LEVELS:
                meter.record(REALISED_COVERAGE, interval.coverage, kind=kind, level=f"{interval.level:g}")


def scores_since(store: ArtifactStore, since: date, ticker: str | None = None) -> list[SessionScores]:
    """Scored sessions from a day on, of one ticker or all, in the order of their keys."""
    every = document_keys(store, SCORES) if ticker is None else keys_of_scores(store, ticker)
    keys = [key for key in every if session_of(key) >= since]
    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(lambda key: _scores(store, key), keys))


@cached(LRUCache(REMEMBERED), lock=Lock())
def _scores(store: ArtifactStore, key: str) -> SessionScores:
    """Scores are written once, so what was read of them holds."""
    return read_document(store, key, SessionScores)


def tickers_scored(store: ArtifactStore) -> list[str]:
    """Every ticker of which a forecast has come true, or not."""
    return sorted({_ticker_of(store, key) for key in document_keys(store, SCORES)})


def _kind_of(scores: SessionScores) -> Kind:
    try:
        exchange = scores.exchange or exchange_of(scores.ticker)
    except UnknownExchange:  # only documents from before exchanges were recorded
        exchange = NEW_YORK
    return kind_of(scores.ticker, exchange)


def _ticker_of(store: ArtifactStore, key: str) -> str:
    folder = key.split("/")[1]
    # in version 0.1 "_" meant "&": the document itself knows its ticker
    return _scores(store, key).ticker if "_" in folder else ticker_of(folder)


def _figures(group: Group, found: Sequence[tuple[date, ForecastOutcome]]) -> RealisedAccuracy:
    ticker, model_id, step = group
    sessions, pairs = [session for session, _ in found], [pair for _, pair in found]
    actual, last = _column(pairs, "actual"), _column(pairs, "last")
    own = _errors(actual, _column(pairs, "median"), _column(pairs, "crps"))
    theirs = _errors(actual, last, _column(pairs, "persistence_crps"))
    return RealisedAccuracy(
        ticker=ticker,
        model_id=model_id,
        model=pairs[-1].model,
        step=step,
        n=len(pairs),
        first_session=min(sessions),
        last_session=max(sessions),
        errors=own,
        persistence=theirs,
        skill=RealisedSkill(**{name: _skill(score, getattr(theirs, name)) for name, score in own.model_dump().items()}),
        intervals=tuple(_intervals(pairs)),
    )


def _column(pairs: Sequence[ForecastOutcome], name: str) -> Values:
    return np.array([getattr(pair, name) for pair in pairs], dtype=np.float64)


def _errors(actual: Values, forecast: Values, crps: Values) -> RealisedErrors:
    return RealisedErrors(
        mae=accuracy.mae(actual, forecast),
        mape=accuracy.mape(actual, forecast),
        rmse=accuracy.rmse(actual, forecast),
        crps=float(crps.mean()),
    )


def _intervals(pairs: Sequence[ForecastOutcome]) -> Iterator[RealisedInterval]:
    """Callers choose their levels, so each level has pairs of its own."""
    by_level: Mapping[float, list[tuple[float, float, float]]] = defaultdict(list)
    for pair in pairs:
        for level, lower, upper in zip(pair.levels, pair.lower, pair.upper, strict=True):
            by_level[level].append((pair.actual, lower, upper))
    for level, told in sorted(by_level.items()):
        actual, lower, upper = np.array(told).T
        yield RealisedInterval(
            level=level,
            coverage=accuracy.coverage(actual, lower, upper),
            width=accuracy.width(actual, lower, upper),
            n=len(told),
        )


def _skill(score: float, reference: float) -> float | None:
    skill = accuracy.skill(score, reference)
    return None if np.isnan(skill) else skill
