"""Answers from the forecasts that a nightly run has published: nothing is computed but their order.

The pointer to the latest run is read again after ``TTL_S``; the run itself is read once. Each answer is
serialised once and kept as bytes, until another run is published or another session closes.
"""

import gzip
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property, partial
from hashlib import sha256

from cachetools import LRUCache
from pydantic import BaseModel

from errors import ArtifactCorrupt, ArtifactNotFound, ForecastNotPublished, InvalidRequest
from schemas.latest import (
    MAX_NAMED,
    FailedTicker,
    LatestForecast,
    LatestForecasts,
    LatestModel,
    LatestQuery,
    LatestTicker,
    Pointer,
    Publication,
    StoredForecast,
)
from schemas.predict import Interval, Step, steps_of
from services.prices.calendars import last_completed_session
from services.publication import read_pointer, read_publication
from services.storage.store import ArtifactStore
from services.storage.ttl_cache import TtlCache
from telemetry.measures import FORECASTS_PUBLISHED_AT, NO_METER, Meter

KEPT_BYTES = 16_000_000  # of answers
MIN_GZIP_BYTES = 1_000  # a smaller body fits into one packet either way
MODELS_NAMED = 20

Closed = Mapping[str, date]
"""The last completed session of each exchange."""


@dataclass(frozen=True)
class Answer:
    """A body as JSON, and compressed where that pays; ``etag`` is weak, because both have the same."""

    body: bytes
    compressed: bytes | None
    etag: str

    @classmethod
    def of(cls, document: BaseModel) -> "Answer":
        body = document.model_dump_json().encode()
        compressed = gzip.compress(body, 6, mtime=0) if len(body) >= MIN_GZIP_BYTES else None
        return cls(body, compressed, f'W/"{sha256(body).hexdigest()[:32]}"')

    def __len__(self) -> int:
        return len(self.body) + len(self.compressed or b"")


class LatestForecastsReader:
    """Reads the latest run for the routes.

    Args:
        store: has the runs; while it is down, the last known one is served.
        meter: records when that run was published.
    """

    def __init__(self, store: ArtifactStore, meter: Meter = NO_METER) -> None:
        self._store = store
        self._meter = meter
        self._pointers: TtlCache[str, Pointer] = TtlCache(1)
        self._runs: TtlCache[str, Publication] = TtlCache(2, expires=False)
        self._view: _View | None = None
        self._answers: LRUCache[tuple[object, ...], Answer] = LRUCache(KEPT_BYTES, getsizeof=len)
        self._lock = threading.Lock()

    def page(self, query: LatestQuery, now: datetime) -> Answer:
        """The rows of a page as ``LatestForecasts``.

        Raises:
            ForecastNotPublished: no run has been published.
            InvalidRequest: ``after`` is not one of the rows.
            ArtifactCorrupt, StoreUnavailable: from the store.
        """
        view = self._current(now)
        return self._answer(view, query.model_dump_json(), lambda: view.page(query))

    def ticker(self, ticker: str, now: datetime) -> Answer:
        """All steps of a ticker as ``LatestTicker``.

        Raises:
            ForecastNotPublished: no run has been published, or its run has no forecast of this ticker.
            ArtifactCorrupt, StoreUnavailable: from the store.
        """
        view = self._current(now)
        return self._answer(view, ticker, lambda: view.ticker(ticker))

    def _answer(self, view: "_View", name: str, make: Callable[[], BaseModel]) -> Answer:
        key = (view.key, name)
        with self._lock:
            found = self._answers.get(key)
        if found is None:
            found = Answer.of(make())
            with self._lock:
                if len(found) <= KEPT_BYTES:
                    self._answers[key] = found
        return found

    def _current(self, now: datetime) -> "_View":
        """The latest run as of ``now``; the same object until another run is published or another session closes."""
        try:
            pointer = self._pointers.get_or_load("latest", partial(read_pointer, self._store))
            run = self._runs.get_or_load(pointer.document, partial(read_publication, self._store, pointer.document))
        except ArtifactNotFound:  # the second read: the run was so old that it has been deleted
            raise ForecastNotPublished(
                "no forecasts have been published: set NIGHTLY_TICKERS and run `bin/stock-forecast nightly`"
            ) from None
        if not run.forecasts:
            raise ArtifactCorrupt(f"{pointer.document} has no forecasts")
        minute = now.replace(second=0, microsecond=0)  # sessions close at whole minutes
        with self._lock:
            view = self._view
        if view is not None and view.document == pointer.document and view.minute == minute:
            return view
        closed = {exchange: last_completed_session(exchange, minute) for exchange in _exchanges(run)}
        if view is None or view.document != pointer.document or view.closed != closed:
            view = _View(pointer.document, run, closed, minute)
        else:
            view.minute = minute
        self._meter.record(FORECASTS_PUBLISHED_AT, run.made_at.timestamp())
        with self._lock:
            self._view = view
        return view


class _View:
    """A run as of some minute: each row says whether it is stale."""

    def __init__(self, document: str, run: Publication, closed: Closed, minute: datetime) -> None:
        self.document = document
        self.run = run
        self.closed = closed
        self.minute = minute
        self.key = (document, *sorted(closed.items()))

    @cached_property
    def _stored(self) -> Mapping[str, StoredForecast]:
        return {one.ticker: one for one in self.run.forecasts}

    @cached_property
    def _rows(self) -> Mapping[str, LatestForecast]:
        return {one.ticker: _row(one, self.run.levels, self.closed) for one in self.run.forecasts}

    @cached_property
    def _failed(self) -> Mapping[str, FailedTicker]:
        return {one.ticker: one for one in self.run.failed}

    @cached_property
    def _summary(self) -> LatestForecasts:
        """The answer without rows."""
        run, rows = self.run, self._rows.values()
        newest: dict[str, date] = {}
        for row in rows:
            newest[row.exchange] = max(newest.get(row.exchange, row.as_of), row.as_of)
        models = Counter((row.model_id, row.model) for row in rows)
        return LatestForecasts(
            made_at=run.made_at,
            as_of=max(row.as_of for row in rows),
            session=Counter(row.session for row in rows).most_common(1)[0][0],
            stale=any(self.closed[exchange] > session for exchange, session in newest.items()),
            horizon=run.horizon,
            levels=run.levels,
            n_tickers=len(rows),
            n_stale=sum(row.stale for row in rows),
            n_failed=len(run.failed),
            n_models=len(models),
            models=tuple(
                LatestModel(model_id=model_id, model=model, n_tickers=count)
                for (model_id, model), count in models.most_common(MODELS_NAMED)
            ),
            failed=run.failed[:MAX_NAMED],
            forecasts=(),
            next_after=None,
        )

    def page(self, query: LatestQuery) -> LatestForecasts:
        rows, failed = list(self._rows.values()), self.run.failed
        if query.tickers is not None:
            wanted = query.tickers.split(",")
            rows = [self._rows[ticker] for ticker in wanted if ticker in self._rows]
            failed = tuple(self._missing(ticker) for ticker in wanted if ticker not in self._rows)
        ordered = _ordered(rows, query.sort)
        first = 0
        if query.after is not None:
            places = (place for place, row in enumerate(ordered) if row.ticker == query.after)
            first = next(places, -1) + 1
            if first == 0:
                raise InvalidRequest(f"after: {query.after} is not one of these forecasts; begin again without it")
        shown = tuple(ordered[first : first + query.limit])
        more = first + query.limit < len(ordered)
        return self._summary.model_copy(
            update={
                "forecasts": shown,
                "failed": failed[:MAX_NAMED],
                "next_after": shown[-1].ticker if more else None,
            }
        )

    def ticker(self, ticker: str) -> LatestTicker:
        stored = self._stored.get(ticker)
        if stored is None:
            missing = self._missing(ticker)
            raise ForecastNotPublished(missing.detail, ticker=ticker)
        return LatestTicker(
            **dict(self._rows[ticker]),
            published_at=self.run.made_at,
            horizon=len(stored.sessions),
            explanation=stored.explanation,
            forecast=_steps(stored, self.run.levels),
        )

    def _missing(self, ticker: str) -> FailedTicker:
        """Why the run has no forecast of a ticker."""
        failed = self._failed.get(ticker)
        if failed is not None:
            return failed.model_copy(update={"detail": f"{ticker} could not be forecast: {failed.detail}"})
        return FailedTicker(
            ticker=ticker,
            code=ForecastNotPublished.code,
            detail=f"{ticker} is not one of the tickers that are forecast every night; POST /predict/live forecasts it",
            status=ForecastNotPublished.status_code,
            failed_at=self.run.made_at,
        )


def _exchanges(run: Publication) -> set[str]:
    return {one.exchange for one in run.forecasts}


def _row(stored: StoredForecast, levels: tuple[float, ...], closed: Closed) -> LatestForecast:
    return LatestForecast(
        **{name: getattr(stored, name) for name in _SHARED},
        stale=closed[stored.exchange] > stored.as_of,
        session=stored.sessions[0],
        estimated=stored.estimated[0],
        price=stored.median[0],
        change_pct=100 * (stored.median[0] / stored.last_close - 1),
        intervals=_intervals(stored, levels, 0),
        expected_move_pct=stored.explanation.expected_move_pct,
        usual_move_pct=stored.explanation.usual_move_pct,
    )


_SHARED = tuple(name for name in StoredForecast.model_fields if name in LatestForecast.model_fields
                and name != "estimated")  # fmt: skip


def _steps(stored: StoredForecast, levels: tuple[float, ...]) -> tuple[Step, ...]:
    intervals = (_intervals(stored, levels, h) for h in range(len(stored.sessions)))
    return steps_of(stored.sessions, stored.estimated, stored.median, intervals, stored.persistence)


def _intervals(stored: StoredForecast, levels: tuple[float, ...], h: int) -> tuple[Interval, ...]:
    bounds = zip(levels, stored.lower[h], stored.upper[h], strict=True)
    return tuple(Interval(level=level, lower=lower, upper=upper) for level, lower, upper in bounds)


def _relative_move(row: LatestForecast) -> float | None:
    return row.expected_move_pct / row.usual_move_pct if row.usual_move_pct else None


def _range(row: LatestForecast) -> float:
    return (row.intervals[0].upper - row.intervals[0].lower) / row.price


def _drift(row: LatestForecast) -> int | None:
    return None if row.drift is None else ("drifted", "warning", "ok").index(row.drift)


_KEYS: Mapping[str, Callable[[LatestForecast], float | None]] = {
    "change": lambda row: row.change_pct,
    "move": lambda row: row.expected_move_pct,
    "relative_move": _relative_move,
    "range": _range,
    "drift": _drift,
}


def _ordered(rows: Sequence[LatestForecast], sort: str) -> list[LatestForecast]:
    """The rows by a key, and by ticker where it is the same; rows without the key come last in either order."""
    key, opposite = sort.removeprefix("-"), sort.startswith("-")
    if key == "ticker":
        return sorted(rows, key=lambda row: row.ticker, reverse=opposite)
    sign = -1 if opposite else 1

    def place(row: LatestForecast) -> tuple[bool, float, str]:
        value = _KEYS[key](row)
        return value is None, 0.0 if value is None else sign * value, row.ticker

    return sorted(rows, key=place)
