"""From a stored model and the newest prices to a forecast with its interval, baseline and evidence."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np

from errors import ConstantSeries, HorizonTooLong, InsufficientHistory, InvalidRequest, PricesInvalid
from models.base import CLOSE, Bars
from models.conformal import IntervalForecast, ServedForecaster
from schemas.card import ModelCard
from schemas.predict import (
    Evidence,
    ForecastContext,
    ForecastRequest,
    ForecastResponse,
    Interval,
    PredictRequest,
    PredictResponse,
    Step,
)
from services.prices.calendars import next_sessions
from services.prices.series import PriceHistory, PriceSource
from services.storage.registry import ModelRegistry


@dataclass(frozen=True, eq=False)
class Origin:
    """What is known of a ticker when it is forecast.

    Attributes:
        history: as many sessions as the forecaster wants, at least the model's lookback.
        window: their bars as the model sees them, its target column in the place of the close, shape (n, 5).
        sessions: those to forecast.
    """

    history: PriceHistory
    window: Bars
    sessions: tuple[date, ...]

    @property
    def last_value(self) -> float:
        """The newest value of the target column, which persistence repeats."""
        return float(self.window[-1, CLOSE])

    @property
    def last_close(self) -> float:
        """The last known close, whatever the target column."""
        return float(self.history.series.close[-1])


@dataclass(frozen=True)
class Outlook:
    """What a model makes of one window: at each step a price, and an interval per level."""

    prices: tuple[float, ...]
    intervals: tuple[tuple[Interval, ...], ...]


@dataclass(frozen=True, eq=False)
class Inference:
    """Forecasts of one or many windows from one pass of a model, and the milliseconds it took."""

    forecast: IntervalForecast
    levels: tuple[float, ...]
    elapsed_ms: float

    def outlook(self, row: int, horizon: int) -> Outlook:
        """The first ``horizon`` steps from the window of this number.

        Raises:
            PricesInvalid: prices that leap so far that the bounds leave the range of numbers.
        """
        median = self.forecast.median[row, :horizon]
        lower, upper = self.forecast.lower[row, :horizon], self.forecast.upper[row, :horizon]
        if not (np.isfinite(median).all() and np.isfinite(lower).all() and np.isfinite(upper).all()):
            raise PricesInvalid("the prices leap too far for any finite forecast")
        bounds = zip(lower.tolist(), upper.tolist(), strict=True)
        return Outlook(
            prices=tuple(median.tolist()),
            intervals=tuple(
                tuple(
                    Interval(level=level, lower=low, upper=high)
                    for level, low, high in zip(self.levels, lows, highs, strict=True)
                )
                for lows, highs in bounds
            ),
        )


def predict(
    model_id: str, request: PredictRequest, registry: ModelRegistry, prices: PriceSource, now: datetime
) -> PredictResponse:
    """The close of the next session, see ``forecast`` for the errors."""
    answer = _answer(model_id, request, 1, registry, prices, now)
    (step,) = answer.steps
    return PredictResponse(
        **dict(answer.context),
        prediction=(step.price,),
        target_session=step.session,
        intervals=step.intervals,
        persistence=step.persistence,
    )


def forecast(
    model_id: str, request: ForecastRequest, registry: ModelRegistry, prices: PriceSource, now: datetime
) -> ForecastResponse:
    """The closes of the next ``request.horizon`` sessions.

    Raises:
        ModelNotFound, ArtifactCorrupt, ArtifactTooNew: from the registry.
        TickerNotFound, UpstreamUnavailable: from the price source.
        InsufficientHistory: fewer sessions than the model's lookback.
        ConstantSeries: its prices did not move over the whole lookback.
        HorizonTooLong: the model forecasts fewer steps.
        CalibrationTooSmall: a level the calibration part cannot support.
    """
    answer = _answer(model_id, request, request.horizon, registry, prices, now)
    return ForecastResponse(**dict(answer.context), horizon=request.horizon, forecast=answer.steps)


def require_horizon(card: ModelCard, horizon: int) -> None:
    """Refuse more steps than the model was made for, with HorizonTooLong."""
    if horizon > card.horizon:
        raise HorizonTooLong(f"asked for {horizon} sessions, model {card.model_id!r} forecasts {card.horizon}")


def origin_of(card: ModelCard, forecaster: ServedForecaster, history: PriceHistory, horizon: int) -> Origin:
    """The newest sessions of a history as a model looks at them, and those that come next.

    As many as the forecaster wants, where there are so many.

    Raises:
        InsufficientHistory: fewer sessions than the model's lookback.
        ConstantSeries: see ``require_movement``.
        UnknownExchange, CalendarTooShort: from the calendar.
    """
    recent, ticker = history.tail(forecaster.wanted_sessions), history.series.ticker
    if len(recent.series) < card.lookback:
        raise InsufficientHistory(ticker, needed=card.lookback, found=len(recent.series))
    window = recent.series.bars_of(card.target_column)
    require_movement(window[-card.lookback :])
    return Origin(recent, window, next_sessions(ticker, recent.as_of, horizon))


def require_movement(window: Bars) -> None:
    """Refuse a window whose closes are all the same.

    Models measure in units of a window's own volatility. Where there is none,
    their intervals shrink to a floor that no price has told them, and promise a
    certainty that a halted or pegged price does not have.

    Raises:
        ConstantSeries: naming the price that never moves.
    """
    closes = window[:, CLOSE]
    if len(closes) > 1 and closes.min() == closes.max():
        raise ConstantSeries(f"the last {len(closes)} prices are all {closes[0]:.8g}: there is no volatility to go by")


def forecast_windows(forecaster: ServedForecaster, windows: Sequence[Bars], levels: tuple[float, ...]) -> Inference:
    """What a model makes of each window, in one pass.

    Args:
        forecaster: the model.
        windows: each of shape (n, 5), its last row the origin. One alone may be of any length from the lookback on;
            several must each be as long as the forecaster wants. Without any, there is nothing to run.
        levels: coverage levels of the intervals.

    Raises:
        CalibrationTooSmall: a level the calibration part cannot support.
    """
    if not windows:
        nothing = np.empty((0, forecaster.horizon, len(levels)))
        return Inference(IntervalForecast(nothing[..., 0], nothing, nothing), levels, 0.0)
    # side by side as if they were one history: from its origin, a forecaster looks no further back than it wants
    lengths = [len(window) for window in windows]
    assert len(windows) == 1 or set(lengths) == {forecaster.wanted_sessions}, "a window reaches into its neighbour"  # noqa: S101 - our own mistake
    origins = np.cumsum(lengths) - 1
    started = time.perf_counter()
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by ``outlook``
        forecast = forecaster.predict_intervals(np.concatenate(windows), origins, levels)
    return Inference(forecast, levels, 1000 * (time.perf_counter() - started))


def evidence(card: ModelCard, levels: Sequence[float], horizon: int, *, static: bool = False) -> Evidence:
    """The model's record on its test part, at the levels and steps asked for, with intervals of the same kind."""
    found = card.static_coverage if static else card.coverage
    return Evidence(
        accuracy=card.test,
        coverage=tuple(reached for reached in found if reached.step <= horizon and reached.level in levels),
    )


def warnings_of(card: ModelCard, history: PriceHistory) -> tuple[str, ...]:
    """What a reader of the forecast should know of its prices."""
    warnings = list(ticker_warnings(card, history.series.ticker))
    if history.stale:
        warnings.append(f"the newest session known is {history.as_of}: later ones could not be had")
    if history.as_of < card.last_session:
        warnings.append(f"the model was made with prices up to {card.last_session}: this forecast looks back")
    return tuple(warnings)


def ticker_warnings(card: ModelCard, ticker: str) -> tuple[str, ...]:
    """Says so where the model was fitted to others."""
    if ticker in card.tickers:
        return ()
    return (f"the model was fitted and tested on {', '.join(card.tickers)}, not on {ticker}",)


def own_ticker(card: ModelCard) -> str:
    """The one ticker of a model.

    Raises:
        InvalidRequest: it was fitted on several, so that a request must say which.
    """
    if len(card.tickers) > 1:
        raise InvalidRequest(f"model {card.model_id!r} was fitted on {', '.join(card.tickers)}: say which ticker")
    return card.tickers[0]


@dataclass(frozen=True)
class _Answer:
    """What both answers are made of."""

    context: ForecastContext
    steps: tuple[Step, ...]


def _answer(
    model_id: str, request: PredictRequest, horizon: int, registry: ModelRegistry, prices: PriceSource, now: datetime
) -> _Answer:
    card = registry.card(model_id)
    require_horizon(card, horizon)
    forecaster = registry.load(card)
    ticker = request.ticker or own_ticker(card)
    origin = origin_of(card, forecaster, prices.history(ticker, now).between(None, request.as_of), horizon)
    outlook = forecast_windows(forecaster, [origin.window], request.levels).outlook(0, horizon)
    return _Answer(_context(card, origin, request.levels), _steps(origin, outlook))


def _steps(origin: Origin, outlook: Outlook) -> tuple[Step, ...]:
    return tuple(
        Step(step=h, session=session, price=price, intervals=intervals, persistence=origin.last_value)
        for h, (session, price, intervals) in enumerate(
            zip(origin.sessions, outlook.prices, outlook.intervals, strict=True), start=1
        )
    )


def _context(card: ModelCard, origin: Origin, levels: tuple[float, ...]) -> ForecastContext:
    history = origin.history
    return ForecastContext(
        model_id=card.model_id,
        model=card.model,
        ticker=history.series.ticker,
        currency=history.series.currency,
        source=history.source,
        as_of=history.as_of,
        stale=history.stale,
        dropped=dict(history.dropped),
        target_column=card.target_column,
        last_close=origin.last_close,
        last_session=history.as_of,
        test=evidence(card, levels, len(origin.sessions)),
        warnings=warnings_of(card, history),
    )
