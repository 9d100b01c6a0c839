"""The one path to a forecast: every route, the command line and nightly runs take it."""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime
from weakref import WeakSet

import numpy as np
from cachetools import LRUCache

from at_once import may_take_long
from errors import AppError, CalibrationTooSmall, HorizonTooLong, InvalidRequest
from models.adaptive import AdaptiveForecaster
from models.base import N_INPUTS, Bars, QuantileForecast, with_columns
from models.checked import validate_prices
from models.conformal import ServedForecaster
from schemas.card import ModelCard
from services.forecasting.explain import Width, static_width
from services.forecasting.forecast import Batch, Forecast
from services.forecasting.forecast_input import ForecastInput, form_input, input_from_closes, input_from_history
from services.forecasting.replays import ReplayStore, replay
from services.prices.series import PriceHistory, PriceSource
from services.storage.registry import DEFAULT, ModelRegistry, ServedModel, ticker_alias, ticker_of_alias

FETCHERS = 8  # at once: enough to hide the waiting, too few to look like an attack on the source
QUICK_S = 0.002  # a model that takes longer for one window does not run in the event loop
REMEMBERED = 512  # distributions, of 25 kB each

Formed = tuple[QuantileForecast, Width | None]
"""A distribution of every step, and what explains its width."""


class Forecasting:
    """Forecasts from stored models and the newest prices.

    Args:
        registry: the models.
        prices: the price source of forecasts.
        replays: interval adaptation that was worked out before.
    """

    def __init__(self, registry: ModelRegistry, prices: PriceSource, replays: ReplayStore) -> None:
        self.registry = registry
        self.prices = prices
        self._replays = replays
        self._distributions: LRUCache[tuple[str, datetime, bool, bytes], Formed] = LRUCache(REMEMBERED)
        self._quick = WeakSet[ServedForecaster]()  # that have taken less than ``QUICK_S``
        self._lock = threading.Lock()

    def forecast_ticker(
        self,
        model: str | None,
        ticker: str | None,
        horizon: int,
        levels: tuple[float, ...],
        now: datetime,
        as_of: date | None = None,
    ) -> Forecast:
        """The next ``horizon`` sessions of a ticker, by default of the model's only one, as of a past day or ``now``.

        Without ``model``, the ticker's own model answers where it has one, else ``default``; see ``_usable``.

        Raises:
            ModelNotFound, ArtifactCorrupt, ArtifactTooNew, StoreUnavailable: from the registry.
            InvalidRequest: no ticker is given, and the model was fitted on several.
            HorizonTooLong: the model forecasts fewer steps.
            CalibrationTooSmall: the calibration part cannot support a level.
            TickerNotFound, UnknownExchange, UpstreamUnavailable: from the price source.
            InsufficientHistory, PricesInvalid, ZeroVariance: the prices carry no forecast.
        """
        name = model or (DEFAULT if ticker is None else ticker_alias(ticker))
        served = self._usable(name, self.registry.serve(name), horizon, levels)
        card, wanted = served.card, served.forecaster.wanted_sessions
        ticker = ticker or ticker_of_alias(name) or own_ticker(card)
        # a past day may lie anywhere in the history
        history = self.prices.history(ticker, now, wanted if as_of is None else None)
        if as_of is not None:
            history = history.between(None, as_of)
        given = input_from_history(history, card.target_column, wanted, card.lookback, horizon)
        ((distribution, width),), elapsed_ms = self._distributions_of(served, [given], newest=as_of is None)
        return Forecast.of(served, given, distribution, levels, now, elapsed_ms, width)

    def forecast_tickers(
        self, model: str | None, tickers: Sequence[str], horizon: int, levels: tuple[float, ...], now: datetime
    ) -> Batch:
        """Each ticker's forecast or error; prices are fetched concurrently, and a model runs once for all its tickers.

        Without ``model``, each ticker's own model answers where it has one, else ``default``.

        Raises:
            What ``forecast_ticker`` raises about the model, the horizon and the levels, where no ticker has a model.
        """
        models = self._models_of(model, tickers, horizon, levels)
        usable = [one for one in models.values() if isinstance(one, ServedModel)]
        if not usable:
            raise next(one for one in models.values() if isinstance(one, AppError))

        def given_of(ticker: str) -> ForecastInput | AppError:
            served = models[ticker]
            if isinstance(served, AppError):
                return served
            card, wanted = served.card, served.forecaster.wanted_sessions
            try:
                history = _detached(self.prices.history(ticker, now, wanted).tail(wanted))
                return form_input(history, card.target_column, wanted, card.lookback, horizon)
            except AppError as error:
                return error

        with ThreadPoolExecutor(FETCHERS) as fetchers:
            found = dict(zip(tickers, fetchers.map(given_of, tickers), strict=True))
        inputs = {ticker: given for ticker, given in found.items() if isinstance(given, ForecastInput)}
        formed, elapsed_ms = self._distributions_of_each(models, inputs)

        def forecast_of(ticker: str, given: ForecastInput | AppError) -> Forecast | AppError:
            served = models[ticker]
            if isinstance(served, AppError):
                return served
            if isinstance(given, AppError):
                return given
            distribution, width = formed[ticker]
            try:
                return Forecast.of(served, given, distribution, levels, now, elapsed_ms, width)
            except AppError as error:
                return error

        forecasts = {ticker: forecast_of(ticker, given) for ticker, given in found.items()}
        shared = next((one for one in usable if ticker_of_alias(one.alias or "") is None), usable[0])
        return Batch(shared.card, shared.alias, horizon, levels, forecasts, now, elapsed_ms)

    def forecast_closes(
        self, model: ServedModel, closes: Sequence[float], levels: tuple[float, ...], now: datetime
    ) -> Forecast:
        """The close after the closes given, as many as the model's lookback.

        Raises:
            ZeroVariance: the closes do not move.
            CalibrationTooSmall: the calibration part cannot support a level.
        """
        model.forecaster.calibration.validate(1, levels)
        given = input_from_closes(closes)
        ((distribution, _),), elapsed_ms = self._distributions_of(model, [given], newest=False)
        return Forecast.of(model, given, distribution, levels, now, elapsed_ms)

    def _models_of(
        self, model: str | None, tickers: Sequence[str], horizon: int, levels: tuple[float, ...]
    ) -> dict[str, ServedModel | AppError]:
        """The model that answers for each ticker, or why there is none."""
        names = {ticker: model or ticker_alias(ticker) for ticker in tickers}
        found = self.registry.serve_each(names.values())

        def usable_or_error(name: str) -> ServedModel | AppError:
            served = found[name]
            if isinstance(served, AppError):
                return served
            try:
                return self._usable(name, served, horizon, levels)
            except AppError as error:
                return error

        return {ticker: usable_or_error(name) for ticker, name in names.items()}

    def _usable(self, name: str, served: ServedModel, horizon: int, levels: tuple[float, ...]) -> ServedModel:
        """The model itself, or ``default`` in the place of a ticker's model that supports fewer steps or levels.

        Raises:
            HorizonTooLong, CalibrationTooSmall: the model that remains does not support them either.
        """
        try:
            served.forecaster.calibration.validate(horizon, levels)
        except (HorizonTooLong, CalibrationTooSmall) as error:
            if served.alias == DEFAULT or ticker_of_alias(name) is None:
                raise
            served = self.registry.stand_in(name, error)
            served.forecaster.calibration.validate(horizon, levels)
        return served

    def _distributions_of_each(
        self, models: Mapping[str, ServedModel | AppError], inputs: Mapping[str, ForecastInput]
    ) -> tuple[dict[str, Formed], float]:
        """The distribution of each ticker by its own model, and the milliseconds that all models took."""
        groups: dict[tuple[str, datetime], tuple[ServedModel, list[str]]] = {}
        for ticker in inputs:
            served = models[ticker]
            if isinstance(served, ServedModel):  # the same model may stand in with other warnings
                groups.setdefault((served.card.model_id, served.card.created_at), (served, []))[1].append(ticker)
        formed: dict[str, Formed] = {}
        elapsed_ms = 0.0
        for served, tickers in groups.values():
            distributions, took_ms = self._distributions_of(served, [inputs[one] for one in tickers], newest=True)
            formed |= dict(zip(tickers, distributions, strict=True))
            elapsed_ms += took_ms
        return formed, elapsed_ms

    def _distributions_of(
        self, model: ServedModel, inputs: Sequence[ForecastInput], *, newest: bool
    ) -> tuple[list[Formed], float]:
        """The calibrated distribution of every step and what explains its width, and the milliseconds that it took.

        Remembered ones cost no run; the store keeps replays of the ``newest`` sessions only.
        """
        started = time.perf_counter()
        card = model.card
        keys = [(card.model_id, card.created_at, one.source is None, one.digest) for one in inputs]
        with self._lock:
            known = {key: self._distributions[key] for key in keys if key in self._distributions}
        missing = {key: one for key, one in zip(keys, inputs, strict=True) if key not in known}
        if missing:
            formed = dict(zip(missing, self._run_in_time(model, list(missing.values()), newest=newest), strict=True))
            known |= formed
            with self._lock:
                self._distributions.update(formed)
        return [known[key] for key in keys], 1000 * (time.perf_counter() - started)

    def _run_in_time(self, model: ServedModel, inputs: Sequence[ForecastInput], *, newest: bool) -> list[Formed]:
        """What ``_run`` returns, in the event loop only where that is known to be quick."""
        if model.forecaster in self._quick and all(one.source is None for one in inputs):  # others are replayed
            return self._run(model, inputs, newest=newest)
        may_take_long()
        started = time.thread_time()
        formed = self._run(model, inputs, newest=newest)
        if time.thread_time() - started < QUICK_S:
            self._quick.add(model.forecaster)
        return formed

    def _run(self, model: ServedModel, inputs: Sequence[ForecastInput], *, newest: bool) -> list[Formed]:
        # one after another as if they were one history: a forecaster looks no further back than its window
        length = max(len(one.bars) for one in inputs)
        bars = np.concatenate([_padded(one.bars, length) for one in inputs])
        origins = length * np.arange(1, len(inputs) + 1) - 1
        with np.errstate(over="ignore", invalid="ignore"):  # ``Forecast.of`` refuses what is not finite
            if all(one.source is None for one in inputs):  # no origin precedes closes that the caller sent
                widths: list[Width | None] = [None] * len(inputs)
                whole = model.forecaster.static.next_session.predict_quantiles(bars, origins)
            elif isinstance(model.forecaster, AdaptiveForecaster):
                if newest:
                    factors, widths = self._replays.replayed(model.card, model.forecaster, inputs)
                else:
                    factors, widths = replay(model.card, model.forecaster, [one.bars for one in inputs])
                whole = model.forecaster.predict_quantiles(bars, origins, factors)
            else:
                widths = _static_widths(model, inputs)
                whole = model.forecaster.predict_quantiles(bars, origins)
        validate_prices(whole, bars, origins, model.forecaster.lookback)
        distributions = (QuantileForecast(whole.quantile_levels, prices[None]) for prices in whole.prices)
        return list(zip(distributions, widths, strict=True))


def _static_widths(model: ServedModel, inputs: Sequence[ForecastInput]) -> list[Width | None]:
    def width(given: ForecastInput) -> Width | None:
        return static_width(model.forecaster, given.bars, reads_market=model.card.reads_market)

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        return list(workers.map(width, inputs))


def own_ticker(card: ModelCard) -> str:
    """The one ticker of a model; InvalidRequest where it was fitted on several."""
    if len(card.tickers) > 1:
        raise InvalidRequest(f"model {card.model_id!r} was fitted on {card.fitted_on}: name one as ticker")
    return card.tickers[0]


def _padded(bars: Bars, length: int) -> Bars:
    return np.concatenate([np.full((length - len(bars), N_INPUTS), np.nan), with_columns(bars, N_INPUTS)])


def _detached(history: PriceHistory) -> PriceHistory:
    """A copy: a view would keep hundreds of whole histories in memory."""
    series = history.series
    return replace(history, series=replace(series, sessions=series.sessions.copy(), bars=series.bars.copy()))
