"""Forecasts from a stored model: every price with its intervals, the no-change forecast and the model's accuracy."""

from collections.abc import Iterable
from datetime import date
from typing import Annotated

from pydantic import Field

from schemas.accuracy import StepReport
from schemas.alias import AliasName
from schemas.common import (
    DEFAULT_LEVELS,
    MAX_HORIZON,
    Document,
    Levels,
    ModelId,
    Percent,
    Price,
    Request,
    Ticker,
    UniverseName,
)

THROUGH_ALIAS = "The alias that led to the model; null if the request named the model by its id."
ESTIMATED = "Whether the day lies past the end of the exchange's calendar and may turn out to be a holiday."


class PredictRequest(Request):
    """All fields are optional."""

    ticker: Annotated[Ticker | None, Field(description="By default the ticker that the model was trained on.")] = None
    levels: Levels = DEFAULT_LEVELS
    as_of: Annotated[date | None, Field(description="Forecast as of a past session instead of the newest.")] = None


class ForecastRequest(PredictRequest):
    """A forecast of several sessions."""

    horizon: Annotated[int, Field(ge=1, le=MAX_HORIZON, description="Sessions to forecast.")] = 10


class Interval(Document):
    """The close lies in [lower, upper] with probability ``level``."""

    level: float = Field(description="Coverage level: the share of closes that the interval should contain.")
    lower: Price = Field(description="In quote currency.")
    upper: Price = Field(description="In quote currency.")


class Step(Document):
    """One future session: the point forecast is the median."""

    step: int = Field(description="Sessions after the origin, from 1.")
    session: date = Field(description="The session forecast.")
    estimated: bool = Field(description=ESTIMATED)
    price: Price = Field(description="The median, in quote currency.")
    intervals: tuple[Interval, ...] = Field(description="One per coverage level.")
    persistence: Price = Field(description="The no-change forecast.")


def steps_of(
    sessions: Iterable[date],
    estimated: Iterable[bool],
    prices: Iterable[float],
    intervals: Iterable[tuple[Interval, ...]],
    persistence: float,
) -> tuple[Step, ...]:
    """The steps of a forecast, from its columns."""
    rows = zip(sessions, estimated, prices, intervals, strict=True)
    return tuple(
        Step(
            step=number, session=session, estimated=is_estimated, price=price, intervals=ranges, persistence=persistence
        )
        for number, (session, is_estimated, price, ranges) in enumerate(rows, start=1)
    )


class Evidence(StepReport):
    """How accurate the model was at the farthest step of the answer, on sessions that it had not seen."""

    tickers: tuple[Ticker, ...] = Field(
        description="The tickers of those sessions: the forecast's own if the card has it, else all tickers tested; "
        "empty for those of a universe."
    )
    universe: UniverseName | None = Field(default=None, description="The universe whose tickers all were tested.")


class MarketInputs(Document):
    """The market that the model read with the ticker's own prices; all null where it read none."""

    market: str | None = Field(description="The index of the ticker's exchange.")
    as_of: date | None = Field(description="The newest session of the index that the model read.")
    implied_volatility: str | None = Field(description="The index of the market's implied volatility.")


class MoveParts(Document):
    """Where the difference from the usual move comes from, in percent of the usual move: the parts sum to it."""

    own: Percent = Field(description="The ticker's own recent prices.")
    market: Percent | None = Field(description="Its market; null where the model read none.")
    calibration: Percent = Field(description="Recent hits and misses of the intervals, which adapt to them.")


class Explanation(Document):
    """How large a move the forecast expects of the next session, and why."""

    expected_move_pct: Percent = Field(
        description="One standard deviation of the next session's log return, in percent: half its 68.27 % interval."
    )
    usual_move_pct: Percent | None = Field(
        description="The median of the same over the ticker's last 250 sessions; null where there are fewer."
    )
    parts: MoveParts | None = Field(description="Null where usual_move_pct is null.")
    sentence: str = Field(description="The same for people.")


class ForecastContext(Document):
    """The model, the prices and the origin of a forecast."""

    model_id: ModelId
    alias: AliasName | None = Field(description=THROUGH_ALIAS)
    model: str = Field(description="Kind of model, such as return_lstm.")
    ticker: Ticker
    currency: str | None = Field(description="ISO code of the quote currency; null if the source does not say.")
    source: str = Field(description="Where the prices come from: yahoo, sample or csv.")
    as_of: date = Field(description="The last session known to the forecast.")
    stale: bool = Field(description="Whether a newer completed session should exist but is missing.")
    demo: bool = Field(description="Whether these are the sample prices, which end in December 2018.")
    dropped: dict[str, int] = Field(description="Rows of the history that were left out, by reason.")
    repaired: dict[str, int] = Field(
        description="Prices or volumes of the history that were set to unknown, by column."
    )
    target_column: str = Field(description="The price that is forecast.")
    last_close: Price = Field(description="The last known close, whatever the target column.")
    last_session: date = Field(description="The session of last_close.")
    test: Evidence
    warnings: tuple[str, ...] = Field(description="About the model and about missing, repaired or suspect prices.")
    inputs: MarketInputs
    explanation: Explanation


class PredictResponse(ForecastContext):
    """The next session's close."""

    prediction: tuple[Price, ...] = Field(description="One price: the median of the next session's close.")
    target_session: date = Field(description="The session forecast.")
    estimated: bool = Field(description=ESTIMATED)
    intervals: tuple[Interval, ...] = Field(description="One per coverage level.")
    persistence: Price = Field(description="The no-change forecast.")


class ForecastResponse(ForecastContext):
    """The closes of the next sessions."""

    horizon: int = Field(description="Sessions forecast.")
    forecast: tuple[Step, ...]
