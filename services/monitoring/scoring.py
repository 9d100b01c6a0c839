"""Did it come true? Every session that has closed, scored once against what was forecast of it."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime

import numpy as np

from errors import AppError, ArtifactCorrupt, StoreUnavailable
from models.base import CLOSE
from schemas.realised import ForecastRecord, Pair, RecordedStep, ScoreReport, SessionScores, Unscored
from services.evaluation.accuracy import CRPS_LEVELS, crps_losses
from services.monitoring.forecast_log import folder_of, read_record, recorded
from services.prices.calendars import kind_of, last_completed_session, next_sessions
from services.prices.series import PriceHistory, PriceSource, to_date
from services.storage.store import ArtifactStore
from telemetry.measures import FORECASTS_SCORED, NO_METER, Meter

SCORES = "scores/"

Due = Mapping[date, Sequence[str]]
"""Keys of the records that speak of each session that has closed and is not scored."""

log = logging.getLogger(__name__)


def score_due(store: ArtifactStore, prices: PriceSource, now: datetime, meter: Meter = NO_METER) -> ScoreReport:
    """Score every session that has closed since; done again, it finds nothing to do.

    A ticker whose prices cannot be had is named and left for the next time.

    Raises:
        StoreUnavailable: from the store.
    """
    n_sessions, n_pairs, unscored = 0, 0, []
    for ticker, records in _by_ticker(store).items():
        try:
            scored = list(_scored(ticker, _due(store, ticker, records, now), store, prices, now))
        except StoreUnavailable:
            raise
        except AppError as error:
            unscored.append(Unscored(ticker=ticker, code=error.code, detail=error.message))
            continue
        for scores in scored:
            if store.create(scores_key(ticker, scores.session), scores.model_dump_json().encode()):
                meter.record(FORECASTS_SCORED, len(scores.pairs), kind=kind_of(ticker))
        n_sessions += len(scored)
        n_pairs += sum(len(scores.pairs) for scores in scored)
    return ScoreReport(n_sessions=n_sessions, n_pairs=n_pairs, unscored=tuple(unscored))


def scores_key(ticker: str, session: date) -> str:
    """Where the scores of a session are stored."""
    return f"{SCORES}{folder_of(ticker)}/{session}.json"


def _by_ticker(store: ArtifactStore) -> Mapping[str, list[tuple[str, date, int]]]:
    found: dict[str, list[tuple[str, date, int]]] = defaultdict(list)
    for ticker, key, origin, last_step in recorded(store):
        found[ticker].append((key, origin, last_step))
    return found


def _due(store: ArtifactStore, ticker: str, records: Sequence[tuple[str, date, int]], now: datetime) -> Due:
    last = last_completed_session(ticker, now)
    done = {key.rpartition("/")[2] for key in store.list_keys(f"{SCORES}{folder_of(ticker)}/")}
    due: dict[date, list[str]] = defaultdict(list)
    for key, origin, last_step in records:
        for session in next_sessions(ticker, origin, last_step):
            if session <= last and f"{session}.json" not in done:
                due[session].append(key)
    return due


def _scored(ticker: str, due: Due, store: ArtifactStore, prices: PriceSource, now: datetime) -> Iterator[SessionScores]:
    if not due:
        return
    history = prices.history(ticker, now)
    records = _readable(store, {key for keys in due.values() for key in keys})
    for session in sorted(due):
        if session > history.as_of:
            break  # its price is not to be had yet
        pairs = _pairs(history, session, [records[key] for key in due[session] if key in records])
        yield SessionScores(ticker=ticker, session=session, scored_at=now, pairs=tuple(pairs))


def _readable(store: ArtifactStore, keys: Iterable[str]) -> Mapping[str, ForecastRecord]:
    """The records under the keys; one that is corrupt is named in the log and keeps no other from being scored."""
    records = {}
    for key in keys:
        try:
            records[key] = read_record(store, key)
        except ArtifactCorrupt as error:
            log.warning("a forecast will not be scored: %s", error.message)
    return records


def _pairs(history: PriceHistory, session: date, records: Sequence[ForecastRecord]) -> Iterator[Pair]:
    """Of each model, origin and step what was said first; a session the ticker did not trade in has none."""
    said: set[tuple[str, date]] = set()
    for record in sorted(records, key=lambda record: record.made_at):
        step = next((step for step in record.steps if step.session == session), None)
        if step is None or (record.model_id, record.origin) in said:
            continue
        actual = _actual(history, record, session)
        if actual is not None:
            said.add((record.model_id, record.origin))
            yield _pair(record, step, actual)


def _actual(history: PriceHistory, record: ForecastRecord, session: date) -> float | None:
    """The price of a session in the money of the forecast's day.

    A dividend or split since then has changed every adjusted price before it by one factor,
    that of the origin included.
    """
    row, origin = _row(history, session), _row(history, record.origin)
    if row is None or origin is None:
        return None
    values = history.series.bars_of(record.target_column)[:, CLOSE]
    price, then = float(values[row]), float(values[origin])
    return None if np.isnan(price) or np.isnan(then) else price * (record.last / then)


def _row(history: PriceHistory, session: date) -> int | None:
    sessions = history.series.sessions
    row = int(np.searchsorted(sessions, np.datetime64(session)))
    return row if row < len(sessions) and to_date(sessions[row]) == session else None


def _pair(record: ForecastRecord, step: RecordedStep, actual: float) -> Pair:
    outcome, quantiles = np.array([actual]), np.array([step.quantiles])
    persistence = np.full((1, CRPS_LEVELS.size), record.last)
    return Pair(
        model_id=record.model_id,
        model=record.model,
        origin=record.origin,
        step=step.step,
        made_at=record.made_at,
        last=record.last,
        actual=actual,
        median=step.median,
        levels=record.levels,
        lower=step.lower,
        upper=step.upper,
        crps=float(crps_losses(outcome, quantiles, CRPS_LEVELS)[0]),
        persistence_crps=float(crps_losses(outcome, persistence, CRPS_LEVELS)[0]),
        pit=_pit(actual, step.quantiles),
    )


def _pit(actual: float, quantiles: Sequence[float]) -> float:
    """Share of the distribution below the outcome; beyond the outermost quantiles half of what is left."""
    if actual < quantiles[0]:
        return float(CRPS_LEVELS[0] / 2)
    if actual > quantiles[-1]:
        return float(1 - CRPS_LEVELS[0] / 2)
    return float(np.interp(actual, quantiles, CRPS_LEVELS))
