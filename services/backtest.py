"""Backtest a stored model on a ticker's history, beside every baseline from the same origins."""

from dataclasses import dataclass
from datetime import date, datetime

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
from services.forecasting.forecasting import own_ticker, validate_horizon
from services.prices.calendars import next_sessions
from services.prices.cleaning import validate_completeness
from services.prices.quality import price_warnings
from services.prices.series import PriceHistory, PriceSource, to_date
from services.storage.registry import ModelRegistry

MAX_REFITS = 20
REFIT_SECONDS = 600.0  # of all fits together: what a function that may run 15 minutes can spare
MIN_OUTCOMES = 30
MAX_FIGURES = 150_000  # of forecasts told: about 3 MB of JSON, half of what Lambda can answer


@dataclass(frozen=True, eq=False)
class BacktestData:
    """What a backtest plays on: the history, its bars, and the plan."""

    card: ModelCard
    history: PriceHistory
    bars: Bars
    plan: BacktestConfig

    @property
    def first_origin(self) -> int:
        """Row of the first origin: what a baseline may know when it is fitted."""
        return int(self.plan.origins[0])

    def session(self, row: int) -> date:
        """The session of a row."""
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
        InvalidRequest: more fits or figures than one answer bears.
    """
    card = registry.card(model_id)
    stage = _stage(card, request, prices, now)
    track = walk_forward(_model_at(stage, registry, request), stage.bars, stage.plan)
    baselines, missing = _baseline_forecasts(stage)
    empirical = baselines.get("rolling_empirical")
    known_closes = stage.bars[: stage.first_origin + 1, CLOSE]

    def scored(name: str, one: BacktestForecasts) -> ForecasterReport:
        return report(name, one, empirical, known_closes, stage.plan)

    return BacktestResponse(
        model_id=card.model_id,
        model=card.model,
        ticker=stage.history.series.ticker,
        currency=stage.history.series.currency,
        source=stage.history.source,
        as_of=stage.history.as_of,
        stale=stage.history.stale,
        demo=stage.history.demo,
        dropped=stage.history.dropped,
        repaired=stage.history.repaired,
        first_origin=stage.session(stage.first_origin),
        last_origin=stage.session(int(stage.plan.origins[-1])),
        n_origins=stage.plan.origins.size,
        stride=request.stride,
        horizon=request.horizon,
        levels=request.levels,
        quantile_levels=request.quantile_levels,
        n_refits=_n_refits(stage.plan),
        model_report=scored(card.model, track),
        baselines=tuple(scored(name, one) for name, one in baselines.items()),
        forecasts=_told(stage, track) if request.include_forecasts else None,
        warnings=(*_warnings(stage), *missing),
    )


def _stage(card: ModelCard, request: BacktestRequest, prices: PriceSource, now: datetime) -> BacktestData:
    validate_horizon(card, request.horizon)
    ticker = request.ticker or own_ticker(card)
    history = prices.history(ticker, now).between(None, request.end).with_target(card.target_column)
    sessions = history.series.sessions
    start = request.start or card.test_start
    first = max(card.lookback - 1, int(np.searchsorted(sessions, np.datetime64(start))))
    origins = np.arange(first, len(sessions) - 1, request.stride)
    if not origins.size:
        raise InsufficientHistory(ticker, needed=first + 2, found=len(sessions))
    validate_completeness(history.between(to_date(sessions[first - card.lookback + 1]), None))
    plan = BacktestConfig(
        origins, request.horizon, request.levels, request.quantile_levels, request.stride, request.refit_every
    )
    _validate_size(plan, request)
    return BacktestData(card, history, history.series.bars, plan)


def _validate_size(plan: BacktestConfig, request: BacktestRequest) -> None:
    if request.refit_every is not None and _n_refits(plan) > MAX_REFITS:
        raise InvalidRequest(
            f"the backtest needs {_n_refits(plan)} refits; the limit is {MAX_REFITS}: "
            f"raise refit_every to {-(-plan.origins.size // MAX_REFITS)} or shorten the range"
        )
    figures = plan.origins.size * plan.horizon * len(plan.quantile_levels)
    if request.include_forecasts and figures > MAX_FIGURES:
        raise InvalidRequest(
            f"the answer would have {figures} figures; the limit is {MAX_FIGURES}: "
            "raise stride, or ask for fewer steps, levels or sessions"
        )


def _model_at(stage: BacktestData, registry: ModelRegistry, request: BacktestRequest) -> ForecasterAt:
    if request.refit_every is None:
        frozen = registry.load(stage.card)
        return lambda _: frozen
    return lambda origin: _refitted(stage, origin)


def _refitted(stage: BacktestData, origin: int) -> ServedForecaster:
    """A model of the same kind and request, fitted and calibrated on what was known at the origin."""
    card, known = stage.card, stage.bars[: origin + 1]
    spec = MODEL_SPECS[card.model]
    split = split_train(stage.history.series.ticker, len(known), card.lookback)
    settings = FitSettings(
        lookback=card.lookback,
        horizon=card.horizon,
        max_epochs=int(str(card.request["epochs"])),
        patience=int(str(card.request["patience"])),
        max_seconds=min(float(str(card.request["max_seconds"])), REFIT_SECONDS / _n_refits(stage.plan)),
        seed=card.training.seed,
    )
    fitted = spec.fit([FitBlocks(known, split.fit, split.early_stopping)], settings, lambda _: None)
    return calibrated(spec, fitted, [(known, split.calibration)], card.calibration)


def _baseline_forecasts(stage: BacktestData) -> tuple[dict[str, BacktestForecasts], tuple[str, ...]]:
    """Tracks by name, and a sentence for each baseline that this history or installation cannot carry."""
    tracks, missing = {}, []
    for name, spec in BASELINES.items():
        try:
            tracks[name] = walk_forward(_baseline_at(stage, spec), stage.bars, stage.plan)
        except (InsufficientHistory, ZeroVariance, NotFittable, TrainingUnavailable) as error:
            missing.append(f"{name} is left out: {error.message}")
    return tracks, tuple(missing)


def _baseline_at(stage: BacktestData, spec: ModelSpec) -> ForecasterAt:
    def at(origin: int) -> Forecaster:
        lookback = spec.lookback or stage.card.lookback
        # what learns from the past needs some outcomes of its last step
        needed = lookback + (stage.card.horizon + MIN_OUTCOMES if lookback > 1 else 1)
        if origin + 1 < needed:
            raise InsufficientHistory(stage.history.series.ticker, needed=needed, found=origin + 1)
        known = FitBlocks(stage.bars[: origin + 1], range(lookback - 1, origin), range(origin, origin))
        settings = FitSettings(lookback, stage.card.horizon, max_epochs=1, patience=1, max_seconds=60, seed=0)
        fitted = spec.fit([known], settings, lambda _: None)
        return spec.load(fitted.files, fitted.quantile_levels)

    return at


def _n_refits(plan: BacktestConfig) -> int:
    return 0 if plan.refit_every is None else -(-plan.origins.size // plan.refit_every)


def _told(stage: BacktestData, track: BacktestForecasts) -> tuple[BacktestForecast, ...]:
    series = stage.history.series
    sessions, ahead = series.sessions, next_sessions(series.exchange, series.last_session, stage.plan.horizon)
    dates = (*(to_date(session) for session in sessions), *ahead)
    return tuple(
        BacktestForecast(
            origin=dates[origin],
            sessions=dates[origin + 1 : origin + 1 + stage.plan.horizon],
            quantiles=tuple(map(tuple, track.quantiles[row].tolist())),
            actuals=tuple(None if np.isnan(price) else price for price in track.actual[row].tolist()),
        )
        for row, origin in enumerate(stage.plan.origins.tolist())
    )


def _warnings(stage: BacktestData) -> tuple[str, ...]:
    card = stage.card
    warnings = list(ticker_warnings(card, stage.history.series.ticker))
    if stage.plan.refit_every is None and stage.session(stage.first_origin) < card.test_start:
        warnings.append(f"the model was fitted and calibrated on sessions before {card.test_start}: it has seen some")
    first_known = stage.session(max(stage.first_origin - card.lookback + 1, 0))
    used = stage.history.between(first_known, None)
    warnings.extend(price_warnings(used, len(used.series)))
    if not can_test():
        warnings.append("p-values are left out: this installation has no scipy")
    return tuple(warnings)
