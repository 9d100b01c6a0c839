"""The newest sessions of a history, validated for a forecast."""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np

from errors import InsufficientHistory, ZeroVariance
from models.base import CLOSE, Bars
from models.windows import lookback_windows
from services.prices.calendars import is_estimated, next_sessions
from services.prices.cleaning import validate_completeness
from services.prices.quality import estimated_warning, price_warnings
from services.prices.series import PriceHistory


@dataclass(frozen=True, eq=False)
class RecentPrices:
    """What a forecast uses of a history.

    Attributes:
        history: its newest sessions, at least the model's lookback; the last one is the origin.
        bars: their bars with the target column in the place of the close, shape (n, 5).
        last_value: the newest value of the target column, which persistence repeats.
        last_close: the last known close, whatever the target column.
        sessions: those to forecast.
        estimated: of each session to forecast, whether it lies past the end of the exchange's calendar.
        warnings: what a reader should know about the prices.
    """

    history: PriceHistory
    bars: Bars
    last_value: float
    last_close: float
    sessions: tuple[date, ...]
    estimated: tuple[bool, ...]
    warnings: tuple[str, ...]


@lru_cache(maxsize=64)
def recent_prices(history: PriceHistory, target_column: str, count: int, lookback: int, horizon: int) -> RecentPrices:
    """The last ``count`` sessions of a history, or all where it has fewer, and the ``horizon`` sessions that follow.

    Raises:
        InsufficientHistory: fewer sessions than ``lookback``.
        PricesInvalid: more than half of the rows among them had no usable price.
        ZeroVariance: see ``validate_movement``.
    """
    targeted = history.with_target(target_column).tail(count)
    found, exchange = len(targeted.series), history.series.exchange
    if found < lookback:
        raise InsufficientHistory(history.series.ticker, needed=lookback, found=found)
    validate_completeness(targeted)
    bars = targeted.series.bars
    validate_movement(lookback_windows(bars, np.array([found - 1]), lookback)[0])
    # the target may be unknown in the newest rows, which then are not part of what is known
    last = None if targeted.as_of == history.as_of else targeted.as_of
    recent = history.between(targeted.series.first_session, last)
    sessions = next_sessions(exchange, targeted.as_of, horizon)
    estimated = tuple(is_estimated(exchange, session) for session in sessions)
    warnings = price_warnings(recent, lookback)
    if any(estimated):
        warnings = (*warnings, estimated_warning(exchange))
    last_value, last_close = float(bars[-1, CLOSE]), float(recent.series.close[-1])
    return RecentPrices(recent, bars, last_value, last_close, sessions, estimated, warnings)


def validate_movement(window: Bars) -> None:
    """Refuse a window whose closes are all the same.

    Models measure in units of a window's own volatility. Without any, their intervals shrink to an arbitrary floor
    that is far too narrow for a halted or pegged price.

    Raises:
        ZeroVariance: naming the price that never moves.
    """
    closes = window[:, CLOSE]
    if len(closes) > 1 and closes.min() == closes.max():
        raise ZeroVariance(f"the last {len(closes)} prices are all {closes[0]:.8g}: there is no volatility to scale by")
