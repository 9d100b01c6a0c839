"""The log of served forecasts: written in the background, so that it neither slows nor fails an answer."""

import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial

from cachetools import LRUCache

from errors import AppError
from schemas.common import DEFAULT_LEVELS
from schemas.keys import key_name, ticker_of
from schemas.realised import ForecastRecord, RecordedStep, pack_quantiles, unpack_quantiles
from services.evaluation.accuracy import CRPS_LEVELS
from services.forecasting.forecast import Forecast
from services.prices.calendars import is_completed
from services.storage.documents import document_keys, packed, read_packed
from services.storage.store import ArtifactStore
from services.storage.write_behind import WriteBehind
from telemetry.measures import FORECASTS_LOGGED, NO_METER, PREDICTION_SECONDS, PREDICTIONS, Meter

FORECASTS = "forecasts/"
_PUBLISHED = re.compile(rf"{FORECASTS}(latest|draft|\d{{4}}-\d\d-\d\d_\d{{6}}_[0-9a-f]+)\.json")  # services.publication
MAX_KNOWN = 10_000  # forecasts that need not be logged again

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordKey:
    """The parts of a record's key, known without reading the record.

    Attributes:
        ticker: whose forecast it is.
        key: where the record is stored.
        origin: the session forecast from.
        last_step: number of the last step.
        last_session: session of the last step; None in keys of version 0.1 and before.
    """

    ticker: str
    key: str
    origin: date
    last_step: int
    last_session: date | None


class ForecastLog:
    """Stores each served forecast once, without delaying answers.

    Ticker, model and origin identify a forecast. It is logged again only if it has more steps than before, so a
    million requests make one record a day. Steps whose session had already closed are left out.

    Args:
        store: where the records go.
        writer: writes them.
        meter: counts them.
        skip_demo: leave out forecasts from sample prices that replace Yahoo's.
    """

    def __init__(
        self, store: ArtifactStore, writer: WriteBehind, meter: Meter = NO_METER, *, skip_demo: bool = False
    ) -> None:
        self._store = store
        self._writer = writer
        self._meter = meter
        self._skip_demo = skip_demo
        self._known: LRUCache[_Origin, int] = LRUCache(MAX_KNOWN)
        self._lock = threading.Lock()

    def record(self, kind: str, elapsed_ms: float, *forecasts: Forecast) -> None:
        """Measure one answer of a ``kind`` (manual, live, forecast or batch), and queue its forecasts.

        A forecast is dropped and counted if too many wait or the store has just failed.
        """
        self._meter.record(PREDICTIONS, type=kind)
        self._meter.record(PREDICTION_SECONDS, elapsed_ms / 1000, type=kind)
        for forecast in forecasts:
            history = forecast.given.history
            if self._skip_demo and history.demo:
                continue
            origin, horizon = (history.series.ticker, forecast.card.model_id, history.as_of), len(forecast.median)
            with self._lock:
                if self._known.get(origin, 0) >= horizon:
                    continue
                self._known[origin] = horizon
            if not self._writer.put(partial(self._write, forecast, origin)):
                self._forget(origin)
                self._meter.record(FORECASTS_LOGGED, outcome="dropped")

    def _write(self, forecast: Forecast, origin: "_Origin") -> bool:
        try:
            record = record_of(forecast)
            if record.steps and self._store.create(record_key(record), packed_record(record)):
                self._meter.record(FORECASTS_LOGGED, outcome="written")
        except Exception as error:  # the writer must outlive a mistake of ours, which the log then shows
            self._forget(origin)
            self._meter.record(FORECASTS_LOGGED, outcome="failed")
            if not isinstance(error, AppError):
                log.exception("a forecast of %s was not logged", origin[0])
            else:
                log.warning("a forecast of %s was not logged: %s", origin[0], error.message)
            return not isinstance(error, AppError)
        return True

    def _forget(self, origin: "_Origin") -> None:
        with self._lock:
            self._known.pop(origin, None)


_Origin = tuple[str, str, date]
"""Ticker, model and last known session."""


def record_of(forecast: Forecast) -> ForecastRecord:
    """The record of a forecast: its steps whose sessions have not closed, as it is stored.

    It has the default levels in addition to those of the request, so that they can always be scored.
    """
    given, levels = forecast.given, sorted({*forecast.levels, *DEFAULT_LEVELS})
    exchange = given.history.series.exchange
    quantiles = forecast.distribution.at(CRPS_LEVELS)[0].tolist()
    _, lower, upper = (prices[0].tolist() for prices in forecast.distribution.intervals(levels))
    steps = [
        RecordedStep(
            step=h + 1,
            session=session,
            median=float(forecast.median[h]),
            lower=lower[h],
            upper=upper[h],
            quantiles=unpack_quantiles(pack_quantiles(quantiles[h], h + 1)),
        )
        for h, session in enumerate(given.sessions)
        if not is_completed(exchange, session, forecast.made_at)
    ]
    return ForecastRecord(
        ticker=given.history.series.ticker,
        exchange=exchange,
        model_id=forecast.card.model_id,
        model=forecast.card.model,
        target_column=forecast.card.target_column,
        origin=given.history.as_of,
        made_at=forecast.made_at,
        last=given.last_value,
        levels=tuple(levels),
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


def recorded(store: ArtifactStore, ticker: str | None = None) -> Iterator[RecordKey]:
    """The keys of all records or those of a ticker, without reading any; a document with another name is left out."""
    for key in document_keys(store, FORECASTS if ticker is None else f"{FORECASTS}{key_name(ticker)}/"):
        if _PUBLISHED.fullmatch(key):
            continue
        try:
            yield _record_key(key)
        except ValueError:
            log.warning("left out: %s is not named like a forecast", key)


def _record_key(key: str) -> RecordKey:
    _, folder, _, name = key.split("/")
    origin, last_step, *last = name.removesuffix(".json").split("_", maxsplit=2)
    last_session = date.fromisoformat(last[0]) if last else None
    # version 0.1, whose keys have no last session, wrote "_" for "&" and knew no ticker with "_"
    ticker = ticker_of(folder) if last else folder.replace("_", "&")
    return RecordKey(ticker, key, date.fromisoformat(origin), int(last_step), last_session)


def packed_record(record: ForecastRecord) -> bytes:
    """The record as it is stored: compressed JSON, 9 kB for 30 steps."""
    return packed(record)


def read_record(store: ArtifactStore, key: str) -> ForecastRecord:
    """Read a record, also one of an earlier version, which is not compressed.

    Raises:
        ArtifactNotFound, StoreUnavailable: from the store.
        ArtifactCorrupt: it is damaged.
    """
    return read_packed(store, key, ForecastRecord)
