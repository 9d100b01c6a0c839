"""Forecasts by symbol, as legacy contract v2's clients ask for them and read them; the model is a detail."""

import datetime as dt
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from schemas.common import (
    DEFAULT_LEVELS,
    MAX_HORIZON,
    MODEL_ID_PATTERN,
    Document,
    Levels,
    ModelId,
    Price,
    Request,
    Ticker,
    Timestamp,
)
from schemas.predict import ESTIMATED, Evidence, Interval

DEFAULT_SYMBOL = "PETR4.SA"

GivenPrice = Annotated[float, Field(ge=1e-12, le=1e12)]
Percent = Annotated[float, PlainSerializer(partial(round, ndigits=4), when_used="json")]
Milliseconds = Annotated[float, PlainSerializer(partial(round, ndigits=3), when_used="json")]
Days = Annotated[int, Field(ge=1, le=MAX_HORIZON, description="Sessions to forecast.")]


class ModelChoice(Request):
    """Which model answers, and with which intervals."""

    model_id: Annotated[
        str, Field(pattern=MODEL_ID_PATTERN, max_length=64, description="Id of a stored model, or an alias.")
    ] = "default"
    levels: Levels = DEFAULT_LEVELS


class PricesRequest(ModelChoice):
    """Prices sent along: as many as the model looks back, 60 for the bundled one."""

    symbol: Annotated[
        Ticker | None,
        Field(
            description="Whose prices they are; the answer repeats it, and warns where the model was fitted to others."
        ),
    ] = None
    prices: Annotated[tuple[GivenPrice, ...], Field(min_length=1, description="Closes, oldest first.")]


class LiveRequest(ModelChoice):
    """The newest prices of a symbol."""

    symbol: Ticker = DEFAULT_SYMBOL


class SymbolForecastRequest(LiveRequest):
    """Several sessions of a symbol."""

    days: Days = 5


class Answer(Document):
    """What every answer says of its model."""

    model_id: ModelId
    model: str
    target_column: str = Field(description="The price that is forecast.")
    test: Evidence
    inference_time_ms: Milliseconds
    timestamp: Timestamp = Field(description="When it was answered, UTC.")


class Provenance(Document):
    """What an answer says of its prices."""

    currency: str | None
    source: str = Field(description="``request`` for prices sent along.")
    stale: bool | None = Field(description="Whether newer sessions exist; null for prices sent along.")
    demo: bool = Field(description="Whether these are the sample prices, which end in December 2018.")
    dropped: dict[str, int] = Field(description="Rows of the history that were left out, by reason.")
    repaired: dict[str, int] = Field(description="Cells of the history that were made unknown, by column.")
    warnings: tuple[str, ...]


NotKnown = Literal["N/A"]
"""How the second original project writes what is not known: its clients validate strings, and null is none."""

NOT_KNOWN: NotKnown = "N/A"


class NextClose(Document):
    """The next close and its interval; symbol and dates are "N/A" where only prices are known."""

    symbol: str = Field(description='"N/A" where prices were sent along without one.')
    predicted_price: Price
    intervals: tuple[Interval, ...]
    persistence: Price = Field(description="The forecast of tomorrow = today.")
    predicted_ratio: Price = Field(description="predicted_price / reference_price.")
    reference_price: Price = Field(description="The first price of the model's window.")
    last_known_price: Price = Field(description="The last known close.")
    expected_change_pct: Percent = Field(description="Of predicted_price against last_known_price.")
    prediction_for_date: dt.date | NotKnown
    estimated: bool = Field(description=ESTIMATED)
    last_data_date: dt.date | NotKnown


class SymbolPrediction(Provenance, Answer, NextClose):  # pydantic puts the fields of the last base first
    """The next session's close, the model's accuracy, and the source of the prices."""


class DayForecast(Document):
    """One future session."""

    day: int
    date: dt.date
    estimated: bool = Field(description=ESTIMATED)
    predicted_price: Price
    expected_change_pct: Percent = Field(description="Against the last known close, whatever the day.")
    intervals: tuple[Interval, ...]


class DailyForecast(Provenance):
    """The sessions to come of one symbol."""

    base_price: Price = Field(description="The last known close.")
    base_date: dt.date
    persistence: Price = Field(description="The forecast of tomorrow = today, the same for every session.")
    forecast: tuple[DayForecast, ...]


class SymbolForecast(Answer, DailyForecast):
    """The closes of the next sessions."""

    symbol: str
    forecast_days: int
