"""Forecasts from a stored model: every price with its interval, the baseline and the evidence."""

from datetime import date
from typing import Annotated

from pydantic import Field

from schemas.accuracy import StepReport
from schemas.common import DEFAULT_LEVELS, MAX_HORIZON, Document, Levels, ModelId, Price, Request, Ticker

ESTIMATED = "Whether the day lies past the end of the exchange's calendar and may turn out to be a holiday."


class PredictRequest(Request):
    """All optional: by default the model's own ticker, as of its newest session."""

    ticker: Annotated[Ticker | None, Field(description="Another ticker than the model's own.")] = None
    levels: Levels = DEFAULT_LEVELS
    as_of: Annotated[date | None, Field(description="Forecast as of a past session instead of the newest.")] = None


class ForecastRequest(PredictRequest):
    """A forecast of several sessions."""

    horizon: Annotated[int, Field(ge=1, le=MAX_HORIZON, description="Sessions to forecast.")] = 10


class Interval(Document):
    """The close lies in [lower, upper] with probability ``level``."""

    level: float
    lower: Price
    upper: Price


class Step(Document):
    """One future session: the point forecast is the median."""

    step: int
    session: date
    estimated: bool = Field(description=ESTIMATED)
    price: Price
    intervals: tuple[Interval, ...]
    persistence: Price = Field(description="The forecast of tomorrow = today.")


class Evidence(StepReport):
    """How accurate the model was at the farthest step of the answer, on sessions that it had not seen."""

    tickers: tuple[Ticker, ...] = Field(
        description="Whose sessions: this ticker's where the card has them, else of all tickers it was tested on."
    )


class ForecastContext(Document):
    """What every answer about the future says of its origin."""

    model_id: ModelId
    model: str
    ticker: Ticker
    currency: str | None
    source: str
    as_of: date
    stale: bool
    demo: bool = Field(description="Whether these are the sample prices, which end in December 2018.")
    dropped: dict[str, int] = Field(description="Rows of the history that were left out, by reason.")
    repaired: dict[str, int] = Field(description="Cells of the history that were made unknown, by column.")
    target_column: str = Field(description="The price that is forecast.")
    last_close: Price
    last_session: date
    test: Evidence
    warnings: tuple[str, ...]


class PredictResponse(ForecastContext):
    """The next session's close."""

    prediction: tuple[Price, ...] = Field(description="One price: the median of the next session's close.")
    target_session: date
    estimated: bool = Field(description=ESTIMATED)
    intervals: tuple[Interval, ...]
    persistence: Price = Field(description="The forecast of tomorrow = today.")


class ForecastResponse(ForecastContext):
    """The closes of the next sessions."""

    horizon: int
    forecast: tuple[Step, ...]
