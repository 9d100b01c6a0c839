"""Backtest a stored model and every baseline on a ticker's history, from the same origins."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from hashlib import sha256

import numpy as np

from errors import InsufficientHistory, InvalidRequest, NotFittable, TrainingUnavailable, ZeroVariance
from models.base import CLOSE, Bars, Forecaster
from models.conformal import ServedForecaster
from models.fitting import FitBlocks, FitProgress, FitSettings
from models.serving import calibrated
from models.specs import BASELINES, MODEL_SPECS, ModelSpec
from schemas.backtest import BacktestForecast, BacktestRequest, BacktestResponse, ForecasterReport
from schemas.card import ModelCard
from services.evaluation.backtesting import (
    BacktestConfig,
    BacktestForecasts,
    ForecasterAt,
    OnShare,
    report,
    walk_forward,
)
from services.evaluation.significance import can_test
from services.evaluation.splits import split_train
from services.forecasting.forecast import ticker_warnings
from services.forecasting.forecasting import own_ticker
from services.prices.calendars import next_sessions
from services.prices.cleaning import validate_completeness
from services.prices.quality import price_warnings
from services.prices.series import PriceHistory, PriceSource, to_date
from services.program import program_digest
from services.storage.registry import ModelRegistry, ticker_of_alias

MAX_REFITS = 20
REFIT_SECONDS = 600.0  # of all fits together: what a function that may run 15 minutes can spare
DEFAULT_ORIGINS = 250  # the newest, where prices end before the model's test part begins
MIN_OUTCOMES = 30
MAX_FIGURES = 150_000  # of forecasts answered: about 3 MB of JSON, half of what Lambda can answer

# Seconds of one core, measured by ``python -m benchmarks.backtest_cost`` on the sample prices.
SESSION_S = 7e-5  # per session of the history: the fits of the baselines
SPANNED_S, SPANNED_STEP_S = 5e-5, 1.8e-5  # per session from the first origin to the last: the replay of the intervals
ORIGIN_S = 1.4e-4
STEP_S = 6e-5  # per origin and step
FIGURE_S = 4e-7  # per origin, step and quantile level
REFIT_S = 1.0
NETWORK_REFIT_S = 20.0

MODEL_SHARE, REFITTED_SHARE = 0.6, 0.9  # of the time; the rest is that of the baselines
PROGRAM = ("models/**/*.py", "services/evaluation/*.py", "services/backtest.py", "schemas/backtest.py")
LIBRARIES = ("numpy", "scipy", "arch", "scikit-learn", "onnxruntime", "torch", "exchange_calendars")


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


@dataclass(frozen=True, eq=False)
class PreparedBacktest:
    """A backtest that can run: everything that its request can be refused for has been checked."""

    card: ModelCard
    model: ServedForecaster
    request: BacktestRequest
    data: BacktestData

    @property
    def seconds(self) -> float:
        """Estimated seconds of one core."""
        config, n_sessions = self.data.config, len(self.data.bars)
        if config.refit_every is not None:
            has_network = MODEL_SPECS[self.card.model].has_network
            return _n_refits(config) * (NETWORK_REFIT_S if has_network else REFIT_S)
        figures = config.horizon * (STEP_S + FIGURE_S * len(config.quantile_levels))
        spanned = int(config.origins[-1] - config.origins[0]) * (SPANNED_S + SPANNED_STEP_S * config.horizon)
        return SESSION_S * n_sessions + spanned + config.origins.size * (ORIGIN_S + figures)

    @property
    def digest(self) -> str:
        """Of everything that decides the figures: the model, the request, the prices and the program."""
        files = sorted((name, one.sha256) for name, one in self.card.files.items())
        history = self.data.history
        facts = (
            self.card.model_id,
            files,
            self.request.model_dump_json(),
            history.series.ticker,
            history.series.currency,
            history.source,
            history.stale,
            sorted(history.dropped.items()),
            sorted(history.repaired.items()),
        )
        digest = sha256(program_digest(PROGRAM, LIBRARIES) + repr(facts).encode())
        digest.update(history.series.sessions.astype("<M8[D]").tobytes())
        digest.update(self.data.bars.astype("<f8").tobytes())
        return digest.hexdigest()

    def answer(self) -> str:
        """The figures as JSON."""
        return run_backtest(self).model_dump_json()


def backtest(
    model_id: str, request: BacktestRequest, registry: ModelRegistry, prices: PriceSource, now: datetime
) -> BacktestResponse:
    """Forecast from every origin with only the past known, and score the model and its baselines.

    Raises what ``prepare_backtest`` and ``run_backtest`` do.
    """
    return run_backtest(prepare_backtest(model_id, request, registry, prices, now))


def prepare_backtest(
    model_id: str, request: BacktestRequest, registry: ModelRegistry, prices: PriceSource, now: datetime
) -> PreparedBacktest:
    """Load the model and the prices, and check that the request can be answered.

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
    return PreparedBacktest(card, model, request.model_copy(update={"ticker": data.history.series.ticker}), data)


def run_backtest(prepared: PreparedBacktest, on_share: OnShare = lambda _: None) -> BacktestResponse:
    """The figures of a backtest.

    Args:
        prepared: what to test.
        on_share: called with the share that is done, at least every two seconds or so.
    """
    card, request, data = prepared.card, prepared.request, prepared.data
    model = prepared.model.up_to(request.horizon)
    of_model = REFITTED_SHARE if request.refit_every else MODEL_SHARE

    def on_model(share: float) -> None:
        on_share(of_model * share)

    refit = partial(_refitted, data, on_share=on_model)
    model_at: ForecasterAt = refit if request.refit_every else lambda _: model
    found = walk_forward(model_at, data.bars, data.config, on_model)
    baselines, missing = _baseline_forecasts(data, lambda share: on_share(of_model + (1 - of_model) * share))
    empirical = baselines.get("rolling_empirical")
    known_closes = data.bars[: data.first_origin + 1, CLOSE]

    def scored(name: str, one: BacktestForecasts) -> ForecasterReport:
        on_share(1.0)
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


def _refitted(data: BacktestData, origin: int, on_share: OnShare) -> ServedForecaster:
    """A model of the same kind and request, fitted and calibrated on the sessions up to the origin."""
    before = np.searchsorted(data.config.origins, origin) / data.config.origins.size

    def on_progress(done: FitProgress) -> None:
        of_fit = (done.fit - 1 + min(done.passes / max(done.max_epochs, 1), 1.0)) / done.fits
        on_share(float(before + of_fit / _n_refits(data.config)))

    on_share(float(before))
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
        on_progress=on_progress,
    )
    fitted = spec.fit([FitBlocks(known, split.fit, split.early_stopping)], settings, lambda _: None)
    forecaster = calibrated(spec, fitted, [(known, split.calibration)], card.calibration)
    forecaster.calibration.validate(data.config.horizon, data.config.levels)
    return forecaster.up_to(data.config.horizon)


def _baseline_forecasts(data: BacktestData, on_share: OnShare) -> tuple[dict[str, BacktestForecasts], tuple[str, ...]]:
    """Forecasts by name, and a warning for each baseline that this history or installation does not allow."""
    forecasts, missing = {}, []

    def on_part(done: int, share: float) -> None:
        on_share((done + share) / len(BASELINES))

    for done, (name, spec) in enumerate(BASELINES.items()):
        on_part(done, 0.0)
        try:
            forecasts[name] = walk_forward(_baseline_at(data, spec), data.bars, data.config, partial(on_part, done))
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
