"""The prices of one ticker as a model reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from at_once import may_take_long
from errors import InsufficientHistory, ZeroVariance
from models.base import CLOSE, Bars, closes_only
from models.windows import lookback_windows
from services.prices.calendars import is_estimated, next_sessions
from services.prices.cleaning import validate_completeness
from services.prices.quality import estimated_warning, price_warnings
from services.prices.series import PriceHistory


@dataclass(frozen=True, eq=False)
class ForecastInput:
    """What a forecast uses of a history, or of closes that the caller sent.

    Attributes:
        bars: the newest sessions with the target column in the place of the close, and the market where it is known,
            shape (n, 5) or (n, 10).
        last_value: the newest value of the target column, which persistence repeats.
        last_close: the last known close, whatever the target column.
        source: the history, cut to the sessions of ``bars``; None for closes that the caller sent.
        sessions: those to forecast; empty for closes that the caller sent.
        estimated: of each session to forecast, whether it lies past the end of the exchange's calendar.
        warnings: about the prices.
    """

    bars: Bars
    last_value: float
    last_close: float
    source: PriceHistory | None = None
    sessions: tuple[date, ...] = ()
    estimated: tuple[bool, ...] = ()
    warnings: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> bytes:
        """The same for the same bars."""
        return blake2b(self.bars.tobytes()).digest()

    @cached_property
    def history(self) -> PriceHistory:
        assert self.source is not None  # noqa: S101 - closes that the caller sent never get here
        return self.source


def form_input(history: PriceHistory, target_column: str, count: int, lookback: int, horizon: int) -> ForecastInput:
    """The last ``count`` sessions of a history, or all where it has fewer, and the ``horizon`` sessions that follow.

    Raises:
        InsufficientHistory: fewer sessions than ``lookback``.
        PricesInvalid: more than half of the rows among them had no usable price.
        ZeroVariance: the last ``lookback`` prices are all the same.
    """
    targeted = history.with_target(target_column).tail(count)
    found, exchange = len(targeted.series), history.series.exchange
    if found < lookback:
        raise InsufficientHistory(history.series.ticker, needed=lookback, found=found)
    validate_completeness(targeted)
    bars = targeted.inputs
    _validate_movement(lookback_windows(bars, np.array([found - 1]), lookback)[0, :, CLOSE])
    # the target may be unknown in the newest rows, which then are not part of what is known
    last = None if targeted.as_of == history.as_of else targeted.as_of
    recent = history.between(targeted.series.first_session, last)
    sessions = next_sessions(exchange, targeted.as_of, horizon)
    estimated = tuple(is_estimated(exchange, session) for session in sessions)
    warnings = price_warnings(recent, lookback)
    if any(estimated):
        warnings = (*warnings, estimated_warning(exchange))
    last_value, last_close = float(bars[-1, CLOSE]), float(recent.series.close[-1])
    return ForecastInput(bars, last_value, last_close, recent, sessions, estimated, warnings)


@lru_cache(maxsize=64)
def input_from_history(
    history: PriceHistory, target_column: str, count: int, lookback: int, horizon: int
) -> ForecastInput:
    """``form_input``, remembered: price sources answer with the same history until another session is final."""
    may_take_long()
    return form_input(history, target_column, count, lookback, horizon)


def input_from_closes(closes: Sequence[float]) -> ForecastInput:
    """Prices that a caller sent, of which only the closes are known; ZeroVariance where they are all the same."""
    bars = closes_only(np.array(closes, dtype=np.float64))
    _validate_movement(bars[:, CLOSE])
    return ForecastInput(bars, last_value=closes[-1], last_close=closes[-1])


def _validate_movement(closes: NDArray[np.float64]) -> None:
    """Refuse a window whose closes are all the same.

    Models measure in units of a window's own volatility. Without any, their intervals shrink to an arbitrary floor
    that is far too narrow for a halted or pegged price.
    """
    if len(closes) > 1 and closes.min() == closes.max():
        raise ZeroVariance(f"the last {len(closes)} prices are all {closes[0]:.8g}: there is no volatility to scale by")
