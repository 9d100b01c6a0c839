"""From windows of prices to a model's forecast of what follows, in one pass."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np

from errors import PricesInvalid
from models.base import CLOSE, N_COLUMNS, Bars, QuantileForecast
from models.conformal import IntervalForecast, ServedForecaster
from schemas.card import ModelCard
from schemas.predict import Interval
from services.prices.calendars import is_estimated
from services.prices.recent import recent_prices
from services.prices.series import PriceHistory


@dataclass(frozen=True, eq=False)
class Origin:
    """What is known of a ticker when it is forecast.

    Attributes:
        history: as many sessions as the forecaster wants, at least the model's lookback.
        window: their bars as the model sees them, its target column in the place of the close, shape (n, 5).
        sessions: those to forecast.
        warnings: what a reader should know of the prices.
    """

    history: PriceHistory
    window: Bars
    sessions: tuple[date, ...]
    warnings: tuple[str, ...] = ()

    @property
    def estimated(self) -> tuple[bool, ...]:
        """Of each session to forecast, whether it lies past the end of the exchange's calendar."""
        exchange = self.history.series.exchange
        return tuple(is_estimated(exchange, session) for session in self.sessions)

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

    @cached_property
    def distribution(self) -> QuantileForecast:
        """The whole calibrated distribution of every window, formed once."""
        form = self.forecast.distribution
        assert form is not None, "a served forecast has its distribution"  # noqa: S101 - our own mistake
        return form()

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


def _padded(window: Bars, length: int) -> Bars:
    """The window with unknown sessions before it, or without its oldest ones, so that it has this length."""
    missing = max(length - len(window), 0)
    return np.concatenate([np.full((missing, N_COLUMNS), np.nan), window[-length:]])


def origin_of(card: ModelCard, forecaster: ServedForecaster, history: PriceHistory, horizon: int) -> Origin:
    """The newest sessions of a history as a model looks at them, and those that come next.

    As many as the forecaster wants, where there are so many.

    Raises:
        InsufficientHistory: fewer sessions than the model's lookback.
        PricesInvalid: more than half of the rows among them had no usable price.
        ZeroVariance: see ``validate_movement``.
    """
    recent = recent_prices(history, card.target_column, forecaster.wanted_sessions, card.lookback, horizon)
    return Origin(recent.history, recent.bars, recent.sessions, recent.warnings)


def forecast_windows(forecaster: ServedForecaster, windows: Sequence[Bars], levels: tuple[float, ...]) -> Inference:
    """What a model makes of each window, in one pass.

    Args:
        forecaster: the model.
        windows: each of shape (n, 5), its last row the origin, of any length from the lookback on. Without any,
            there is nothing to run.
        levels: coverage levels of the intervals.

    Raises:
        CalibrationTooSmall: a level the calibration part cannot support.
    """
    if not windows:
        nothing = np.empty((0, forecaster.horizon, len(levels)))
        return Inference(IntervalForecast(nothing[..., 0], nothing, nothing), levels, 0.0)
    # side by side as if they were one history: from its origin, a forecaster looks no further back than it wants
    if len(windows) > 1:
        windows = [_padded(window, forecaster.wanted_sessions) for window in windows]
    origins = np.cumsum([len(window) for window in windows]) - 1
    started = time.perf_counter()
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by ``outlook``
        forecast = forecaster.predict_intervals(np.concatenate(windows), origins, levels)
    return Inference(forecast, levels, 1000 * (time.perf_counter() - started))
