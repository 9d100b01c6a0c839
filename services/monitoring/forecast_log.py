"""The log of served forecasts: bounded, written in the background, never slowing or failing an answer."""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import islice
from queue import Empty, Full, Queue

import numpy as np
from cachetools import LRUCache

from errors import AppError
from schemas.common import DEFAULT_LEVELS
from schemas.realised import ForecastRecord, RecordedStep
from services.evaluation.accuracy import CRPS_LEVELS
from services.forecasts.served import ServedForecast
from services.prices.calendars import is_completed
from services.prices.keys import key_name, ticker_of
from services.storage.documents import document_keys, read_document
from services.storage.store import ArtifactStore
from telemetry.measures import FORECASTS_LOGGED, NO_METER, Meter

FORECASTS = "forecasts/"
MAX_WAITING = 1000
MAX_KNOWN = 10_000  # forecasts that need not be logged again
WRITERS = 8  # at once where an answer waits for them: enough to hide the waiting for S3
PAUSE_S = 30.0  # after the store has failed: on Lambda, an answer waits for its log

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordKey:
    """What the key of a record says, without reading the record.

    Attributes:
        key: where the record is stored.
        last_session: session of the last step; None in keys of version 0.1 and before.
    """

    ticker: str
    key: str
    origin: date
    last_step: int
    last_session: date | None


class ForecastLog:
    """Stores each served forecast once, from a thread of its own.

    Ticker, model and origin identify a forecast; one that was logged with as many steps is not logged again, so a
    million requests are one record a day. Steps whose session had closed before the answer are left out.

    Args:
        store: where the records go.
        meter: counts them.
        skip_demo: leave out forecasts from sample prices.
    """

    def __init__(self, store: ArtifactStore, meter: Meter = NO_METER, *, skip_demo: bool = False) -> None:
        self._store = store
        self._meter = meter
        self._skip_demo = skip_demo
        self._waiting: Queue[ServedForecast] = Queue(MAX_WAITING)
        self._known: LRUCache[tuple[str, str, date], int] = LRUCache(MAX_KNOWN)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._down_until = 0.0

    def record(self, served: ServedForecast) -> None:
        """Queue the forecast; drops and counts it where too many wait."""
        if self._skip_demo and served.origin.history.demo:
            return
        key = (served.ticker, served.card.model_id, served.last_session)
        with self._lock:
            if time.monotonic() < self._down_until:
                self._meter.record(FORECASTS_LOGGED, outcome="dropped")
                return
            if self._known.get(key, 0) >= served.horizon:
                return
            self._known[key] = served.horizon
        try:
            self._waiting.put_nowait(served)
        except Full:
            self._forget(served)
            self._meter.record(FORECASTS_LOGGED, outcome="dropped")

    def start(self) -> None:
        """Write from now on; a server does, Lambda flushes after each event instead."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="forecast-log", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Write what waits, several at once, until one fails: an unavailable store delays an answer only once."""
        waiting = self._taken()
        with ThreadPoolExecutor(WRITERS) as writers:
            while batch := tuple(islice(waiting, WRITERS)):
                if not all(tuple(writers.map(self._write, batch))):
                    return

    def _taken(self) -> Iterator[ServedForecast]:
        while True:
            try:
                yield self._waiting.get_nowait()
            except Empty:
                return

    def _run(self) -> None:
        while True:
            self._write(self._waiting.get())

    def _write(self, served: ServedForecast) -> bool:
        try:
            record = record_of(served)
            if record.steps and self._store.create(record_key(record), record.model_dump_json().encode()):
                self._meter.record(FORECASTS_LOGGED, outcome="written")
        except AppError as error:
            self._forget(served)
            self._down_until = time.monotonic() + PAUSE_S
            self._meter.record(FORECASTS_LOGGED, outcome="failed")
            log.warning("a forecast of %s was not logged: %s", served.ticker, error.message)
        except Exception:  # the thread must outlive our own mistakes, which the log shows
            self._forget(served)
            self._meter.record(FORECASTS_LOGGED, outcome="failed")
            log.exception("a forecast of %s was not logged", served.ticker)
        else:
            return True
        return False

    def _forget(self, served: ServedForecast) -> None:
        with self._lock:
            self._known.pop((served.ticker, served.card.model_id, served.last_session), None)


def record_of(served: ServedForecast) -> ForecastRecord:
    """The record of a forecast: the steps that were still open, unrounded.

    It has the default levels too, from the same distribution, so that their coverage is known whichever levels the
    first caller chose.
    """
    forecast, quantiles = served.inference.forecast, served.quantiles_at(CRPS_LEVELS)
    unasked = np.array([level for level in DEFAULT_LEVELS if level not in served.inference.levels])
    lower, upper = served.quantiles_at(0.5 - unasked / 2), served.quantiles_at(0.5 + unasked / 2)
    exchange = served.origin.history.series.exchange
    steps = [
        RecordedStep(
            step=h + 1,
            session=session,
            median=float(forecast.median[served.row, h]),
            lower=(*forecast.lower[served.row, h].tolist(), *lower[h].tolist()),
            upper=(*forecast.upper[served.row, h].tolist(), *upper[h].tolist()),
            quantiles=tuple(quantiles[h].tolist()),
        )
        for h, session in enumerate(served.origin.sessions)
        if not is_completed(exchange, session, served.made_at)
    ]
    return ForecastRecord(
        ticker=served.ticker,
        exchange=exchange,
        model_id=served.card.model_id,
        model=served.card.model,
        target_column=served.card.target_column,
        origin=served.last_session,
        made_at=served.made_at,
        last=served.origin.last_value,
        levels=(*served.inference.levels, *unasked.tolist()),
        steps=tuple(steps),
    )


def record_key(record: ForecastRecord) -> str:
    """Where a record is stored.

    The name ends with the number and the session of the last step, so that scoring reads only records with something
    left to score.
    """
    last = record.steps[-1]
    folder = f"{FORECASTS}{key_name(record.ticker)}/{record.model_id}"
    return f"{folder}/{record.origin}_{last.step:02d}_{last.session}.json"


def recorded(store: ArtifactStore) -> Iterator[RecordKey]:
    """The keys of all records, without reading any record."""
    for key in document_keys(store, FORECASTS):
        _, folder, _, name = key.split("/")
        origin, last_step, *last = name.removesuffix(".json").split("_")
        last_session = date.fromisoformat(last[0]) if last else None
        # version 0.1, whose keys have no last session, wrote "_" for "&" and knew no ticker with "_"
        ticker = ticker_of(folder) if last else folder.replace("_", "&")
        yield RecordKey(ticker, key, date.fromisoformat(origin), int(last_step), last_session)


def read_record(store: ArtifactStore, key: str) -> ForecastRecord:
    return read_document(store, key, ForecastRecord)
