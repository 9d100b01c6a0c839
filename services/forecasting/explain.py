"""Why a forecast is as wide as it is: the expected move of the next session, set against what is usual for the ticker.

The logarithm of expected / usual is a sum of three parts: what the market adds to the network's scale, what
calibration adds to that scale, and the rest, which the ticker's own bars bring. Each part is counted from its median
over the year. Answers show the parts in percent of the usual move, in proportion to their logarithms (the logarithmic
mean Divisia index: Ang, 2004, Energy Policy), so that they sum to the whole whatever their signs.
"""

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.adaptive import NextSessions
from models.base import IMPLIED_VOLATILITY, MARKET_CLOSE, N_COLUMNS, N_INPUTS, Bars, Origins, QuantileForecast
from models.conformal import MIN_SPREAD, YEAR, ServedForecaster
from models.windows import lookback_windows
from schemas.common import Document
from schemas.predict import Explanation, MarketInputs, MoveParts
from services.forecasting.forecast_input import ForecastInput

ONE_SD = np.array([0.15865, 0.84135])  # bounds of the central 68.27 %
SAME = 0.05  # relative: a smaller difference needs no cause
MOSTLY = 2 / 3  # share of the difference that makes one cause the main one
MAX_PART = 50.0  # a logarithm: expected moves differ by less
EVERY = 5  # sessions of the year between two that are forecast without the market: each costs a run of the network
_PRICES = np.finfo(np.float64)


class Width(Document):
    """What sets the width of one session's forecast apart from the year before it.

    Attributes:
        usual_move: median of the expected moves, a log return.
        market: log of the scale with the market over the scale without it, less its median over one in EVERY sessions;
            None where no market was read.
        calibration: log of the served spread over the network's own, less its median.
    """

    usual_move: float = Field(ge=MIN_SPREAD / 2)
    market: float | None = Field(ge=-MAX_PART, le=MAX_PART)
    calibration: float = Field(ge=-MAX_PART, le=MAX_PART)


def static_width(forecaster: ServedForecaster, bars: Bars, *, reads_market: bool) -> Width | None:
    """``width_of`` a model without a replay, which then runs for the whole year."""
    static, origins = forecaster.static, np.arange(len(bars) - 1 - YEAR, len(bars))
    if origins[0] < static.lookback - 1:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        raw = static.inner.predict_quantiles(bars, origins)
        year = NextSessions(raw, static.calibration.quantiles(raw))
    return width_of(forecaster, bars, year, reads_market=reads_market)


def width_of(forecaster: ServedForecaster, bars: Bars, year: NextSessions, *, reads_market: bool) -> Width | None:
    """What sets the newest origin of these bars apart; None where there is less than a year before it.

    Args:
        forecaster: the model, which runs once more for one in EVERY origins, without the market.
        bars: shape (n_sessions, 5 or 10).
        year: forecasts from the newest origin and the YEAR before it, the newest last.
        reads_market: whether the model reads the market of the exchange.
    """
    if len(year.raw.prices) <= YEAR:
        return None
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        served, raw = np.log(expected_moves(year.served)), np.log(expected_moves(year.raw))
        market = None
        if reads_market:
            origins = np.arange(len(bars) - 1 - YEAR, len(bars), EVERY)  # the newest is the last
            read = np.logical_or(*market_read(bars, origins, forecaster.lookback))
            if read[-1] and read.mean() > 1 / 2:  # with less of the market, its usual effect is unknown
                without = forecaster.static.inner.predict_quantiles(bars[:, :N_COLUMNS], origins[read])
                market = _above_median(raw[::EVERY][read] - np.log(expected_moves(without)))
        usual, calibration = float(np.exp(np.median(served[:-1]))), _above_median(served - raw)
    if not all(map(math.isfinite, (usual, market or 0.0, calibration))):
        return None
    return Width(usual_move=usual, market=market, calibration=calibration)


def _above_median(logs: NDArray[np.float64]) -> float:
    """The last value less the median of those before it."""
    return float(logs[-1] - np.median(logs[:-1]))


def expected_moves(forecast: QuantileForecast) -> NDArray[np.float64]:
    """One standard deviation of the next session's log return, (n_origins,): half its central 68.27 % interval."""
    bounds = np.clip(forecast.at(ONE_SD)[:, 0], _PRICES.tiny, _PRICES.max)  # a price of zero has no logarithm
    low, high = np.log(bounds).T
    moves: NDArray[np.float64] = np.maximum((high - low) / 2, MIN_SPREAD)
    return moves


def market_read(bars: Bars, origins: Origins, lookback: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether a network reads the index, and its implied volatility, in the window of each origin, both (n_origins,).

    It reads the index where every close of the window is known, and the implied volatility session by session.
    """
    if bars.shape[1] < N_INPUTS:
        return np.zeros(origins.size, dtype=bool), np.zeros(origins.size, dtype=bool)
    windows = lookback_windows(bars, origins, lookback)
    index = np.isfinite(windows[..., MARKET_CLOSE]).all(axis=1)
    implied = (windows[:, 1:, IMPLIED_VOLATILITY] > 0).any(axis=1)  # of the first session, only the closes are read
    return np.asarray(index), np.asarray(implied)


def market_inputs(given: ForecastInput, lookback: int, *, reads_market: bool) -> MarketInputs:
    """The market that the model read with these prices."""
    market = None if given.source is None or not reads_market else given.source.market
    if market is None:
        return MarketInputs(market=None, as_of=None, implied_volatility=None)
    (index,), (implied,) = market_read(given.bars, np.array([len(given.bars) - 1]), lookback)
    return MarketInputs(
        market=market.index.ticker if index else None,
        as_of=market.as_of(given.history.as_of) if index else None,
        implied_volatility=market.implied.ticker if implied and market.implied is not None else None,
    )


def explanation(
    expected: float, width: Width | None, ticker: str | None, inputs: MarketInputs, *, reads_market: bool
) -> Explanation:
    """How the expected move compares with the usual one, and why.

    Args:
        expected: the expected move, a log return.
        width: None where no year of forecasts precedes this one.
        ticker: None for closes that the caller sent.
        inputs: the market that the model read.
        reads_market: whether the model reads one at all.
    """
    head = f"The expected daily move is {_percent(expected)}"
    if width is None:
        known = "Closes in a request are too few" if ticker is None else f"There is less than a year of {ticker}"
        sentence = f"{head}. {known} to say what is usual."
        return Explanation(expected_move_pct=100 * expected, usual_move_pct=None, parts=None, sentence=sentence)
    parts = _parts(expected, width)
    ratio = expected / width.usual_move
    usual = f"usual for {ticker} ({_percent(width.usual_move)})"
    if abs(ratio - 1) < SAME:
        sentence = f"{head}, about as {usual}."
    else:
        if ratio < 2:
            compared = f"{abs(ratio - 1):.0%} {'more' if ratio > 1 else 'less'} than {usual}"
        else:
            compared = f"{ratio:.1f} times what is {usual}"
        sentence = f"{head}, {compared}: {_because(parts, inputs, wider=ratio > 1)}."
    if parts.market is None and reads_market:
        sentence += " Its market was not known."
    return Explanation(
        expected_move_pct=100 * expected, usual_move_pct=100 * width.usual_move, parts=parts, sentence=sentence
    )


def _parts(expected: float, width: Width) -> MoveParts:
    whole = math.log(expected / width.usual_move)
    own = whole - width.calibration - (width.market or 0.0)
    percent = 100 * (math.expm1(whole) / whole if whole else 1.0)  # of the usual move, for one unit of logarithm
    return MoveParts(
        own=percent * own,
        market=None if width.market is None else percent * width.market,
        calibration=percent * width.calibration,
    )


def _because(parts: MoveParts, inputs: MarketInputs, *, wider: bool) -> str:
    """The one or two largest parts in the direction of the difference."""
    market = inputs.market or inputs.implied_volatility
    names = {
        "its own recent range": parts.own,
        f"its market ({market})": parts.market or 0.0,
        f"recent {'misses' if wider else 'hits'} of its intervals": parts.calibration,
    }
    shares = {name: part if wider else -part for name, part in names.items()}
    main, second, _ = sorted(shares, key=lambda name: -shares[name])
    total = sum(share for share in shares.values() if share > 0)
    if shares[main] >= MOSTLY * total:
        return f"mostly because of {main}"
    return f"because of {main} and {second}"


def _percent(move: float) -> str:
    return f"{move:.2%}" if move >= 0.0001 else f"{100 * move:.1g}%"
