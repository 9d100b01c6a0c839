"""The nightly run's part with prices: fetch those of all its tickers, forecast them, and publish the forecasts.

Both parts work for a limited time and say what is left, so that a request or a Lambda invocation may do a slice. What
is done costs nothing again: fetched prices are in the cache, and a forecast is made again only if a newer session has
closed or another model answers.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from errors import AppError, InvalidRequest, ModelNotFound, PricesRateLimited, StoreUnavailable, UniverseNotFound
from schemas.common import DEFAULT_LEVELS
from schemas.latest import MAX_NAMED, FailedTicker, FetchReport, Publication, PublishReport, StoredForecast
from schemas.realised import DriftStatus
from services.forecasting.forecast import Forecast
from services.forecasting.forecasting import Forecasting
from services.monitoring.drift import drift
from services.monitoring.forecast_log import ForecastLog
from services.nightly_tickers import ALL, MAX_TICKERS, UNIVERSE, parse_tickers
from services.prices.calendars import last_completed_session
from services.prices.series import PriceSource
from services.publication import draft_and_latest, publish, save_draft
from services.storage.registry import DEFAULT, ModelRegistry, ticker_alias
from services.storage.store import ArtifactStore
from services.storage.write_behind import WriteBehind
from services.training.universe import Universe, Universes
from telemetry.measures import FORECASTS_PUBLISHED, FORECASTS_PUBLISHED_AT, PUBLICATIONS, Meter

HORIZON = 20
N_CLOSES = 30  # of the line that a watch list draws
CHUNK = 50  # tickers forecast together: price sources keep the histories of 64 in memory
DRAFT_EVERY = 10  # chunks
RETRY_FAILED_AFTER = timedelta(hours=1)  # a run that continues does not try a ticker twice

log = logging.getLogger(__name__)


@dataclass
class _Progress:
    """The forecasts and failures of a run so far, by ticker."""

    forecasts: dict[str, StoredForecast] = field(default_factory=dict)
    failed: dict[str, FailedTicker] = field(default_factory=dict)

    def __contains__(self, ticker: str) -> bool:
        return ticker in self.forecasts or ticker in self.failed

    def publication(self, tickers: Sequence[str], horizon: int, now: datetime) -> Publication:
        """The forecasts in the order of the tickers."""
        return Publication(
            made_at=now,
            horizon=horizon,
            levels=DEFAULT_LEVELS,
            forecasts=tuple(self.forecasts[ticker] for ticker in tickers if ticker in self.forecasts),
            failed=tuple(self.failed[ticker] for ticker in tickers if ticker in self.failed),
        )


@dataclass(frozen=True)
class Nightly:
    """Fetches, forecasts and publishes.

    Attributes:
        tickers: of the run, each once.
        prices: those that drift is judged by, with all sessions.
        market_prices: the same with the market of each exchange.
        downloads: whether prices come over the network, so that they have to be fetched.
    """

    tickers: tuple[str, ...]
    forecasting: Forecasting
    registry: ModelRegistry
    prices: PriceSource
    market_prices: PriceSource
    store: ArtifactStore
    forecast_log: ForecastLog
    writer: WriteBehind
    meter: Meter
    downloads: bool

    def fetch(self, after: str | None, now: datetime, seconds: float) -> FetchReport:
        """The newest prices of the tickers after ``after``, one after the other, for about ``seconds``.

        A ticker that fails is named and skipped. If the source limits requests, the call ends and says how long to
        wait.
        """
        tickers = self.tickers if self.downloads else ()
        tickers = tickers[tickers.index(after) + 1 :] if after in tickers else tickers
        deadline, n_fetched, last = time.monotonic() + seconds, 0, after
        failed: list[FailedTicker] = []
        for ticker in tickers:
            if last != after and time.monotonic() > deadline:
                return self._fetched(n_fetched, failed, last)
            try:
                self.market_prices.history(ticker, now)
                n_fetched += 1
            except PricesRateLimited as error:
                return self._fetched(n_fetched, failed, last, error.retry_after_s or 60)
            except AppError as error:
                failed.append(_failed(ticker, error, now))
            last = ticker
        return self._fetched(n_fetched, failed, None)

    def _fetched(
        self, n_fetched: int, failed: Sequence[FailedTicker], last: str | None, retry_after_s: int | None = None
    ) -> FetchReport:
        next_after = last or ("" if retry_after_s is not None else None)
        return FetchReport(
            n_tickers=len(self.tickers),
            n_fetched=n_fetched,
            failed=tuple(failed[:MAX_NAMED]),
            next_after=next_after,
            retry_after_s=retry_after_s,
        )

    def publish(self, now: datetime, seconds: float) -> PublishReport:
        """Forecast the tickers that need it, for about ``seconds``, and publish all once none is left.

        A ticker that fails is named and does not affect others. Without a single forecast nothing is published, and
        what was published before stays.

        Raises:
            StoreUnavailable: from the store.
            ModelNotFound, ArtifactCorrupt, ArtifactTooNew, HorizonTooLong, CalibrationTooSmall: no model can answer.
        """
        deadline, horizon = time.monotonic() + seconds, self._horizon()
        progress = self._known(horizon, now)
        n_kept, todo = len(progress.forecasts), [one for one in self.tickers if one not in progress]
        n_done = 0
        for number, chunk in enumerate(_chunks(todo), start=1):
            if n_done and time.monotonic() > deadline:
                break
            self._forecast(chunk, horizon, now, progress)
            n_done += len(chunk)
            if number % DRAFT_EVERY == 0:
                self._save(progress, horizon, now)
        if n_done < len(todo):
            self._save(progress, horizon, now)
        published = n_done == len(todo) and bool(progress.forecasts)
        if published:
            publish(self.store, progress.publication(self.tickers, horizon, now))
            self._measure(progress, now)
        return PublishReport(
            n_tickers=len(self.tickers),
            n_made=len(progress.forecasts) - n_kept,
            n_kept=n_kept,
            n_failed=len(progress.failed),
            n_left=len(todo) - n_done,
            failed=tuple(progress.failed.values())[:MAX_NAMED],
            published_at=now if published else None,
        )

    def _horizon(self) -> int:
        try:
            return min(HORIZON, self.registry.card(DEFAULT).horizon)
        except ModelNotFound:  # every ticker may have a model of its own
            return HORIZON

    def _known(self, horizon: int, now: datetime) -> _Progress:
        """What earlier calls have forecast and is still current, and what has just failed."""
        progress = _Progress()
        wanted = frozenset(self.tickers)
        draft, latest = draft_and_latest(self.store)
        for run in (latest, draft):
            if run is None or run.horizon != horizon or run.levels != DEFAULT_LEVELS:
                continue
            current = (one for one in run.forecasts if one.ticker in wanted and self._is_current(one, now))
            progress.forecasts |= {one.ticker: one for one in current}
        if draft is not None:
            just_failed = (one for one in draft.failed if abs(now - one.failed_at) < RETRY_FAILED_AFTER)
            progress.failed |= {one.ticker: one for one in just_failed if one.ticker in wanted}
        return progress

    def _is_current(self, stored: StoredForecast, now: datetime) -> bool:
        """Whether the same forecast would be made again."""
        if stored.as_of < last_completed_session(stored.exchange, now):
            return False
        try:
            return self.registry.id_of(ticker_alias(stored.ticker)) == stored.model_id
        except StoreUnavailable:
            raise
        except AppError:
            return False

    def _forecast(self, tickers: Sequence[str], horizon: int, now: datetime, progress: _Progress) -> None:
        statuses = self._drift(tickers, now)
        batch = self.forecasting.forecast_tickers(None, tickers, horizon, DEFAULT_LEVELS, now)
        made = [one for one in batch.forecasts.values() if isinstance(one, Forecast)]
        self.forecast_log.record("batch", batch.elapsed_ms, *made)
        for ticker, forecast in batch.forecasts.items():
            if isinstance(forecast, AppError):
                log.warning("%s was not forecast: %s", ticker, forecast.message)
                progress.failed[ticker] = _failed(ticker, forecast, now)
            else:
                progress.forecasts[ticker] = stored_forecast(forecast, statuses.get(ticker))
        self.writer.flush()  # a queue has room for a few chunks only

    def _drift(self, tickers: Sequence[str], now: datetime) -> Mapping[str, DriftStatus]:
        """The drift status of each ticker that has enough sessions; reads their prices, which forecasts then find."""
        statuses: dict[str, DriftStatus] = {}
        for ticker in tickers:
            try:
                card = self.registry.card(ticker_alias(ticker))
                statuses[ticker] = drift(card, self.prices.history(ticker, now), self.store, now).status
            except StoreUnavailable:
                raise
            except AppError as error:  # the forecast of the ticker fails for the same reason, or needs less
                log.debug("%s has no drift status: %s", ticker, error.message)
        return statuses

    def _save(self, progress: _Progress, horizon: int, now: datetime) -> None:
        save_draft(self.store, progress.publication(self.tickers, horizon, now))

    def _measure(self, progress: _Progress, now: datetime) -> None:
        self.meter.record(PUBLICATIONS)
        self.meter.record(FORECASTS_PUBLISHED_AT, now.timestamp())
        self.meter.record(FORECASTS_PUBLISHED, len(progress.forecasts), outcome="ok")
        self.meter.record(FORECASTS_PUBLISHED, len(progress.failed), outcome="failed")


def stored_forecast(forecast: Forecast, status: DriftStatus | None) -> StoredForecast:
    """The forecast as a publication has it."""
    given, card = forecast.given, forecast.card
    history = given.history
    return StoredForecast(
        ticker=history.series.ticker,
        currency=history.series.currency,
        exchange=history.series.exchange,
        source=history.source,
        demo=history.demo,
        model_id=card.model_id,
        alias=forecast.alias,
        model=card.model,
        target_column=card.target_column,
        as_of=history.as_of,
        last_close=given.last_close,
        persistence=given.last_value,
        closes=tuple(history.series.close[-N_CLOSES:].tolist()),
        drift=status,
        warnings=forecast.warnings,
        made_at=forecast.made_at,
        explanation=forecast.explanation,
        sessions=given.sessions,
        estimated=given.estimated,
        median=tuple(forecast.median.tolist()),
        lower=tuple(map(tuple, forecast.lower.tolist())),
        upper=tuple(map(tuple, forecast.upper.tolist())),
    )


def _failed(ticker: str, error: AppError, now: datetime) -> FailedTicker:
    return FailedTicker(
        ticker=ticker,
        code=error.code,
        detail=error.message,
        status=error.status_code,
        did_you_mean=error.did_you_mean,
        failed_at=now,
    )


def _chunks(tickers: Sequence[str]) -> Iterator[Sequence[str]]:
    return (tickers[first : first + CHUNK] for first in range(0, len(tickers), CHUNK))


def nightly_tickers(
    setting: str | None, folder: Path | None, known: frozenset[str], universes: Callable[[], Universes]
) -> tuple[str, ...]:
    """The tickers of the setting; without one all that the price source has, if it has a list.

    Args:
        setting: as ``parse_tickers`` reads it.
        folder: of TICKER.csv files, where prices come from such a folder.
        known: the tickers of a source that has only these.
        universes: those of this machine.

    Raises:
        InvalidRequest: ``all`` of a source without a list, or more than ``MAX_TICKERS``.
        UniverseNotFound, TrainingUnavailable: the universe that is named.
    """
    wanted = (ALL,) if setting is None else parse_tickers(setting)
    if wanted[0].startswith(UNIVERSE):
        found = universes().get(wanted[0].removeprefix(UNIVERSE)).tickers
    elif wanted != (ALL,):
        found = wanted
    elif folder is not None:
        found = _in_folder(folder)
    elif known or setting is None:
        found = tuple(sorted(known))
    else:
        raise InvalidRequest("NIGHTLY_TICKERS: all needs PRICE_SOURCE=csv or sample; Yahoo needs a list or a universe")
    if len(found) > MAX_TICKERS:
        raise InvalidRequest(f"NIGHTLY_TICKERS: expected at most {MAX_TICKERS} tickers, found {len(found)}")
    return found


def _in_folder(folder: Path) -> tuple[str, ...]:
    try:
        return Universe.in_folder(folder).tickers
    except UniverseNotFound:  # no prices yet
        return ()
