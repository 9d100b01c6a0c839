"""Backtest a stored model and every baseline on a ticker's history, from the same origins."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import partial

import numpy as np

from errors import InsufficientHistory, InvalidRequest, NotFittable, TrainingUnavailable, ZeroVariance
from models.base import CLOSE, Bars, Forecaster
from models.conformal import ServedForecaster
from models.fitting import FitBlocks, FitSettings
from models.serving import calibrated
from models.specs import BASELINES, MODEL_SPECS, ModelSpec
from schemas.backtest import BacktestForecast, BacktestRequest, BacktestResponse, ForecasterReport
from schemas.card import ModelCard
from services.evaluation.backtesting import BacktestConfig, BacktestForecasts, ForecasterAt, report, walk_forward
from services.evaluation.significance import can_test
from services.evaluation.splits import split_train
from services.forecasting.forecast import ticker_warnings
from services.forecasting.forecasting import own_ticker
from services.prices.calendars import next_sessions
from services.prices.cleaning import validate_completeness
from services.prices.quality import price_warnings
from services.prices.series import PriceHistory, PriceSource, to_date
from services.storage.registry import ModelRegistry, ticker_of_alias

MAX_REFITS = 20
REFIT_SECONDS = 600.0  # of all fits together: what a function that may run 15 minutes can spare
DEFAULT_ORIGINS = 250  # the newest, where prices end before the model's test part begins
MIN_OUTCOMES = 30
MAX_FIGURES = 150_000  # of forecasts answered: about 3 MB of JSON, half of what Lambda can answer


@dataclass(frozen=True, eq=False)
class BacktestData:
    """What a backtest runs on."""

    card: ModelCard
    history: PriceHistory
    bars: Bars
    config: BacktestConfig

    @property
    def first_origin(self) -> int:
        """Row of the first origin, which is also the last row that baselines are fitted on."""
        return int(self.config.origins[0])

    def session(self, row: int) -> date:
        return to_date(self.history.series.sessions[row])


def backtest(
    model_id: str, request: BacktestRequest, registry: ModelRegistry, prices: PriceSource, now: datetime
) -> BacktestResponse:
    """Forecast from every origin with only the past known, and score the model and its baselines.

    Raises:
        ModelNotFound, ArtifactCorrupt, ArtifactTooNew: from the registry.
        TickerNotFound, UpstreamUnavailable: from the price source.
        InsufficientHistory: no origin has both a full window and an outcome.
        PricesInvalid: more than half of the rows in the range had no usable price.
        HorizonTooLong, CalibrationTooSmall: the model cannot answer the steps or levels.
        InvalidRequest: more refits or figures than the limit.
    """
    card = registry.card(model_id)
    model = registry.load(card)
    model.calibration.validate(request.horizon, request.levels)
    data = _data(card, request, ticker_of_alias(model_id), prices, now)
    model_at: ForecasterAt = partial(_refitted, data) if request.refit_every else lambda _: model.up_to(request.horizon)
    found = walk_forward(model_at, data.bars, data.config)
    baselines, missing = _baseline_forecasts(data)
    empirical = baselines.get("rolling_empirical")
    known_closes = data.bars[: data.first_origin + 1, CLOSE]

    def scored(name: str, one: BacktestForecasts) -> ForecasterReport:
        return report(name, one, empirical, known_closes, data.config)

    return BacktestResponse(
        model_id=card.model_id,
        model=card.model,
        ticker=data.history.series.ticker,
        currency=data.history.series.currency,
        source=data.history.source,
        as_of=data.history.as_of,
        stale=data.history.stale,
        demo=data.history.demo,
        dropped=data.history.dropped,
        repaired=data.history.repaired,
        first_origin=data.session(data.first_origin),
        last_origin=data.session(int(data.config.origins[-1])),
        n_origins=data.config.origins.size,
        stride=request.stride,
        horizon=request.horizon,
        levels=request.levels,
        quantile_levels=request.quantile_levels,
        n_refits=_n_refits(data.config),
        model_report=scored(card.model, found),
        baselines=tuple(scored(name, one) for name, one in baselines.items()),
        forecasts=_answered(data, found) if request.include_forecasts else None,
        warnings=(*_warnings(data), *missing),
    )


def _data(
    card: ModelCard, request: BacktestRequest, named: str | None, prices: PriceSource, now: datetime
) -> BacktestData:
    ticker = request.ticker or named or own_ticker(card)
    history = prices.history(ticker, now).between(None, request.end).with_target(card.target_column)
    sessions = history.series.sessions
    start = np.datetime64(request.start or card.test_start)
    if (
        request.start is None and len(sessions) and start >= sessions[-1]
    ):  # the prices end before the model's test part begins
        start = sessions[-min(DEFAULT_ORIGINS + 1, len(sessions))]
    first = max(card.lookback - 1, int(np.searchsorted(sessions, start)))
    origins = np.arange(first, len(sessions) - 1, request.stride)
    if not origins.size:
        raise InsufficientHistory(ticker, needed=first + 2, found=len(sessions))
    validate_completeness(history.between(to_date(sessions[first - card.lookback + 1]), None))
    config = BacktestConfig(
        origins, request.horizon, request.levels, request.quantile_levels, request.stride, request.refit_every
    )
    _validate_size(config, request)
    return BacktestData(card, history, history.inputs, config)


def _validate_size(config: BacktestConfig, request: BacktestRequest) -> None:
    if request.refit_every is not None and _n_refits(config) > MAX_REFITS:
        raise InvalidRequest(
            f"the backtest needs {_n_refits(config)} refits; the limit is {MAX_REFITS}: "
            f"raise refit_every to {-(-config.origins.size // MAX_REFITS)} or shorten the range"
        )
    figures = config.origins.size * config.horizon * len(config.quantile_levels)
    if request.include_forecasts and figures > MAX_FIGURES:
        raise InvalidRequest(
            f"the answer would have {figures} figures; the limit is {MAX_FIGURES}: "
            "raise stride, or ask for fewer steps, levels or sessions"
        )


def _refitted(data: BacktestData, origin: int) -> ServedForecaster:
    """A model of the same kind and request, fitted and calibrated on the sessions up to the origin."""
    card, known = data.card, data.bars[: origin + 1]
    spec = MODEL_SPECS[card.model]
    split = split_train(data.history.series.ticker, len(known), card.lookback)
    settings = FitSettings(
        lookback=card.lookback,
        horizon=card.horizon,
        max_epochs=card.request.epochs,
        patience=card.request.patience,
        max_seconds=min(card.request.max_seconds, REFIT_SECONDS / _n_refits(data.config)),
        seed=card.training.seed,
    )
    fitted = spec.fit([FitBlocks(known, split.fit, split.early_stopping)], settings, lambda _: None)
    forecaster = calibrated(spec, fitted, [(known, split.calibration)], card.calibration)
    forecaster.calibration.validate(data.config.horizon, data.config.levels)
    return forecaster.up_to(data.config.horizon)


def _baseline_forecasts(data: BacktestData) -> tuple[dict[str, BacktestForecasts], tuple[str, ...]]:
    """Forecasts by name, and a warning for each baseline that this history or installation does not allow."""
    forecasts, missing = {}, []
    for name, spec in BASELINES.items():
        try:
            forecasts[name] = walk_forward(_baseline_at(data, spec), data.bars, data.config)
        except (InsufficientHistory, ZeroVariance, NotFittable, TrainingUnavailable) as error:
            missing.append(f"{name} is left out: {error.message}")
    return forecasts, tuple(missing)


def _baseline_at(data: BacktestData, spec: ModelSpec) -> ForecasterAt:
    def at(origin: int) -> Forecaster:
        lookback = spec.lookback or data.card.lookback
        # what learns from the past needs some outcomes of its last step
        needed = lookback + (data.card.horizon + MIN_OUTCOMES if lookback > 1 else 1)
        if origin + 1 < needed:
            raise InsufficientHistory(data.history.series.ticker, needed=needed, found=origin + 1)
        known = FitBlocks(data.bars[: origin + 1], range(lookback - 1, origin), range(origin, origin))
        settings = FitSettings(lookback, data.card.horizon, max_epochs=1, patience=1, max_seconds=60, seed=0)
        fitted = spec.fit([known], settings, lambda _: None)
        return spec.load(fitted.files, fitted.quantile_levels)

    return at


def _n_refits(config: BacktestConfig) -> int:
    return 0 if config.refit_every is None else -(-config.origins.size // config.refit_every)


def _answered(data: BacktestData, found: BacktestForecasts) -> tuple[BacktestForecast, ...]:
    series = data.history.series
    sessions, ahead = series.sessions, next_sessions(series.exchange, series.last_session, data.config.horizon)
    dates = (*(to_date(session) for session in sessions), *ahead)
    return tuple(
        BacktestForecast(
            origin=dates[origin],
            sessions=dates[origin + 1 : origin + 1 + data.config.horizon],
            quantiles=tuple(map(tuple, found.quantiles[row].tolist())),
            actuals=tuple(None if np.isnan(price) else price for price in found.actual[row].tolist()),
        )
        for row, origin in enumerate(data.config.origins.tolist())
    )


def _warnings(data: BacktestData) -> tuple[str, ...]:
    card = data.card
    warnings = list(ticker_warnings(card, data.history.series.ticker))
    if data.config.refit_every is None and data.session(data.first_origin) < card.test_start:
        warnings.append(
            f"the model was fitted and calibrated on sessions before {card.test_start}: it has seen some origins"
        )
    first_known = data.session(max(data.first_origin - card.lookback + 1, 0))
    used = data.history.between(first_known, None)
    warnings.extend(price_warnings(used, len(used.series)))
    if not can_test():
        warnings.append("p-values are left out: this installation has no scipy")
    return tuple(warnings)
