"""Score every session that has closed, once, against its forecasts."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta

import numpy as np

from errors import AppError, ArtifactCorrupt, ArtifactNotFound, StoreUnavailable, UnknownExchange
from models.trading import is_untraded
from schemas.common import Document
from schemas.keys import key_name
from schemas.realised import ForecastOutcome, ForecastRecord, RecordedStep, ScoreReport, SessionScores, Unscored
from services.evaluation.accuracy import CRPS_LEVELS, crps_losses, point_crps_losses
from services.monitoring.forecast_log import RecordKey, read_record, recorded
from services.prices.calendars import last_completed_session, next_sessions
from services.prices.cleaning import UNUSABLE
from services.prices.exchanges import NEW_YORK, exchange_of, kind_of
from services.prices.series import PriceHistory, PriceSeries, PriceSource, to_date
from services.storage.documents import document_keys, read_document
from services.storage.store import ArtifactStore
from telemetry.measures import FORECASTS_SCORED, NO_METER, Meter

SCORES = "scores/"
UNSCORED = "_unscored.json"  # how keys of reasons end
NOT_TRADED, PRICE_UNUSABLE = "session_not_traded", "session_price_unusable"

RETRY_FOR = timedelta(days=14)
"""How long a session without a price is tried again. The price cache downloads a whole history once a week, so a bar
that its source adds or corrects within a week of the session is seen."""

LATE_AFTER = timedelta(days=2)
"""A younger session without scores may only be waiting for its source."""

SCORED_WITHIN = timedelta(days=90)
"""An older session is not scored any more, so that none is scored again whose scores were forgotten; the setting
``RETENTION_DAYS`` is at least that long."""

log = logging.getLogger(__name__)


def score_due(
    store: ArtifactStore,
    prices: PriceSource,
    now: datetime,
    meter: Meter = NO_METER,
    ticker: str | None = None,
    then: Callable[[str], None] = lambda _: None,
) -> ScoreReport:
    """Score all sessions that closed since the last run, of one ticker or all.

    Idempotent, and safe with others at the same time.

    A ticker whose prices are unavailable is reported and left for the next run. A session without a price, such as a
    closure announced after the forecast, is reported once. It is tried again for ``RETRY_FOR``, because a source may
    add or correct a bar later; then its document says that it has no scores.

    ``then`` is called with each ticker that has forecasts, once it is scored: the price source still has its history
    in memory.

    Raises:
        StoreUnavailable: from the store.
    """
    n_sessions, n_pairs, n_waiting, unscored = 0, 0, 0, []
    for name, keys in _by_ticker(store, ticker).items():
        waiting: set[date] = set()
        try:
            due = _due_of(name, keys, store, now)
            waiting = {session for session in due if LATE_AFTER <= now.date() - session <= RETRY_FOR}
            found = list(_scored(name, due, prices, now))
        except StoreUnavailable:
            raise
        except AppError as error:
            unscored.append(Unscored(ticker=name, code=error.code, detail=error.message))
            found = []
        for scores, reason in found:
            if reason is not None and _create(store, unscored_key(name, scores.session), reason):
                unscored.append(reason)
            if reason is not None and now.date() - scores.session <= RETRY_FOR:
                continue
            waiting.discard(scores.session)
            is_new = _create(store, scores_key(name, scores.session), scores)
            if is_new and scores.pairs:  # else another run has counted it
                kind = kind_of(name, scores.exchange or NEW_YORK)
                meter.record(FORECASTS_SCORED, len(scores.pairs), kind=kind)
                n_sessions += 1
                n_pairs += len(scores.pairs)
        n_waiting += len(waiting)
        then(name)
    return ScoreReport(n_sessions=n_sessions, n_pairs=n_pairs, n_waiting=n_waiting, unscored=tuple(unscored))


def _create(store: ArtifactStore, key: str, document: Document) -> bool:
    return store.create(key, document.model_dump_json().encode())


def scores_key(ticker: str, session: date) -> str:
    return f"{SCORES}{key_name(ticker)}/{session}.json"


def unscored_key(ticker: str, session: date) -> str:
    """Where the first reason is stored why a session has no scores; its scores may follow."""
    return scores_key(ticker, session).removesuffix(".json") + UNSCORED


def score_keys(store: ArtifactStore, prefix: str = SCORES) -> list[str]:
    """Keys of the documents with scores below a prefix, ascending; a document with another name is left out."""
    return [key for key in document_keys(store, prefix) if not key.endswith(UNSCORED) and _is_named_like_scores(key)]


def _is_named_like_scores(key: str) -> bool:
    try:
        session_of(key)
        _, _, _ = key.split("/")
    except ValueError:
        log.warning("left out: %s is not named like scores of a session", key)
        return False
    return True


def keys_of_scores(store: ArtifactStore, ticker: str) -> list[str]:
    folders = dict.fromkeys([key_name(ticker), ticker.replace("&", "_")])  # version 0.1 wrote "_" for "&"
    keys = [key for folder in folders for key in score_keys(store, f"{SCORES}{folder}/")]
    if "&" in ticker or "_" in ticker:  # the folder of version 0.1 may hold scores of two tickers
        return [key for key in keys if _has_scores_of(ticker, store, key)]
    return keys


def _has_scores_of(ticker: str, store: ArtifactStore, key: str) -> bool:
    try:
        return read_document(store, key, SessionScores).ticker == ticker
    except (ArtifactNotFound, ArtifactCorrupt):  # forgotten since the keys were listed, or damaged
        return False


def session_of(key: str) -> date:
    return date.fromisoformat(key.rpartition("/")[2].removesuffix(".json"))


def _by_ticker(store: ArtifactStore, ticker: str | None) -> Mapping[str, list[RecordKey]]:
    found: dict[str, list[RecordKey]] = defaultdict(list)
    for key in recorded(store, ticker):
        found[key.ticker].append(key)
    return found


def _due_of(
    ticker: str, keys: Sequence[RecordKey], store: ArtifactStore, now: datetime
) -> Mapping[date, Sequence[ForecastRecord]]:
    """The records of a ticker by the sessions that are due."""
    done = _done(store, ticker)
    return _due(_readable(store, [key.key for key in keys if _may_be_due(key, done, now)]), done, now)


def _scored(
    ticker: str, due: Mapping[date, Sequence[ForecastRecord]], prices: PriceSource, now: datetime
) -> Iterator[tuple[SessionScores, Unscored | None]]:
    """The scores of each session that is due, oldest first, with a reason if a session has none."""
    if not due:
        return
    earliest = min(record.origin for found in due.values() for record in found)
    history = prices.history(ticker, now, recent=(now.date() - earliest).days + 1)
    for session in sorted(due):
        if session > history.as_of:
            break  # its price is not known yet
        reason = _why_unscored(history, session)
        pairs = () if reason else tuple(_pairs(history, session, due[session]))
        if not pairs:
            reason = reason or _without_outcome(history, session)
        exchange = history.series.exchange
        yield SessionScores(ticker=ticker, exchange=exchange, session=session, scored_at=now, pairs=pairs), reason


def _done(store: ArtifactStore, ticker: str) -> frozenset[date]:
    """The sessions that have been handled: their document has scores, or the reason why there are none."""
    return frozenset(session_of(key) for key in keys_of_scores(store, ticker))


def _may_be_due(key: RecordKey, done: AbstractSet[date], now: datetime) -> bool:
    """Whether the record may have a step to score, according to its key and the calendar.

    A record is finished when its last session is, and none before it can be retried any more.
    """
    given_up = now.date() - RETRY_FOR
    if key.last_session is not None and key.last_session < given_up and key.last_session in done:
        return False
    try:
        exchange = exchange_of(key.ticker)
    except UnknownExchange:  # the record may name one
        return True
    listed = next_sessions(exchange, key.origin, key.last_step)
    last = key.last_session or listed[-1]
    closed = min(last, last_completed_session(exchange, now))
    oldest = now.date() - SCORED_WITHIN
    return any(oldest <= session <= closed and session not in done for session in (*listed, last))


def _due(
    records: Iterable[ForecastRecord], done: AbstractSet[date], now: datetime
) -> Mapping[date, Sequence[ForecastRecord]]:
    """The records with a step for each session that has closed and is not done.

    The sessions are those of the record: the calendar may have changed since.
    """
    oldest = now.date() - SCORED_WITHIN
    due: dict[date, list[ForecastRecord]] = defaultdict(list)
    for record in records:
        last = last_completed_session(record.exchange or exchange_of(record.ticker), now)
        for step in record.steps:
            if oldest <= step.session <= last and step.session not in done:
                due[step.session].append(record)
    return due


def _why_unscored(history: PriceHistory, session: date) -> Unscored | None:
    ticker = history.series.ticker
    if _price(history.series, session) is not None:
        return None
    dropped = history.defects.dropped
    if any(np.datetime64(session) in dropped[reason] for reason in UNUSABLE if reason in dropped):
        detail = f"the price source has a row of {ticker} for {session}, but no usable close"
        return Unscored(ticker=ticker, session=session, code=PRICE_UNUSABLE, detail=detail)
    return _not_traded(ticker, session)


def _without_outcome(history: PriceHistory, session: date) -> Unscored:
    """Why a session with a close has no outcome: nothing traded, or a price that was forecast is unknown."""
    ticker = history.series.ticker
    if not _traded_since(history.series, session, session - timedelta(days=1)):
        return _not_traded(ticker, session)
    detail = f"a price of {ticker} for {session} or for the origin of its forecast is missing in the forecast's column"
    return Unscored(ticker=ticker, session=session, code=PRICE_UNUSABLE, detail=detail)


def _not_traded(ticker: str, session: date) -> Unscored:
    detail = f"{ticker} did not trade on {session}, or the exchange was closed that day"
    return Unscored(ticker=ticker, session=session, code=NOT_TRADED, detail=detail)


def _readable(store: ArtifactStore, keys: Iterable[str]) -> Iterator[ForecastRecord]:
    """The records under the keys; a corrupt one is logged and does not keep others from being scored."""
    for key in keys:
        try:
            yield read_record(store, key)
        except ArtifactNotFound:
            continue  # forgotten since the keys were listed
        except ArtifactCorrupt as error:
            log.warning("a forecast will not be scored: %s", error.message)


def _pairs(history: PriceHistory, session: date, records: Sequence[ForecastRecord]) -> Iterator[ForecastOutcome]:
    """The first forecast of each model and origin, with its outcome, where the target column is known."""
    seen: set[tuple[str, date]] = set()
    for record in sorted(records, key=lambda record: record.made_at):
        step = next((step for step in record.steps if step.session == session), None)
        if step is None or (record.model_id, record.origin) in seen:
            continue
        actual = _actual(history, record, session)
        if actual is not None:
            seen.add((record.model_id, record.origin))
            yield _pair(record, step, actual)


def _actual(history: PriceHistory, record: ForecastRecord, session: date) -> float | None:
    """The price of a session on the scale of the forecast's adjusted prices.

    A dividend or split since then has changed all earlier adjusted prices by one factor, the origin's included.
    None if the price is unknown, or if it only repeats because nothing traded since the origin.
    """
    if not _traded_since(history.series, session, record.origin):
        return None
    series = history.series.with_target(record.target_column)
    price, then = _price(series, session), _price(series, record.origin)
    return None if price is None or then is None else price * (record.last / then)


def _traded_since(series: PriceSeries, session: date, origin: date) -> bool:
    """Whether the ticker traded in a session after ``origin``, up to ``session``."""
    later = (series.sessions > np.datetime64(origin)) & (series.sessions <= np.datetime64(session))
    return bool((later & ~is_untraded(series.bars)).any())


def _price(series: PriceSeries, session: date) -> float | None:
    """The close of a session; None if the series does not have the session."""
    row = int(np.searchsorted(series.sessions, np.datetime64(session)))
    found = row < len(series) and to_date(series.sessions[row]) == session
    return float(series.close[row]) if found else None


def _pair(record: ForecastRecord, step: RecordedStep, actual: float) -> ForecastOutcome:
    outcome, quantiles, last = np.array([actual]), np.array([step.quantiles]), np.array([record.last])
    return ForecastOutcome(
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
        persistence_crps=float(point_crps_losses(outcome, last)[0]),
        pit=_pit(actual, step.quantiles),
    )


def _pit(actual: float, quantiles: Sequence[float]) -> float:
    """Share of the distribution below the outcome; beyond the outermost quantiles, half of the rest."""
    if actual < quantiles[0]:
        return float(CRPS_LEVELS[0] / 2)
    if actual > quantiles[-1]:
        return float(1 - CRPS_LEVELS[0] / 2)
    return float(np.interp(actual, quantiles, CRPS_LEVELS))
