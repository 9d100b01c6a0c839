"""Forecasts by symbol, with the fields of legacy contract v2."""

import datetime as dt
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from schemas.alias import AliasName
from schemas.common import (
    DEFAULT_LEVELS,
    MAX_HORIZON,
    Document,
    Levels,
    ModelId,
    ModelOrAlias,
    Percent,
    Price,
    Request,
    Ticker,
    Timestamp,
)
from schemas.predict import ESTIMATED, THROUGH_ALIAS, Evidence, Explanation, Interval, MarketInputs

DEFAULT_SYMBOL = "PETR4.SA"

GivenPrice = Annotated[float, Field(ge=1e-12, le=1e12)]
Milliseconds = Annotated[float, PlainSerializer(partial(round, ndigits=3), when_used="json")]
Days = Annotated[int, Field(ge=1, le=MAX_HORIZON, description="Sessions to forecast.")]


class ModelChoice(Request):
    """The model to forecast with, and the levels of its intervals."""

    model_id: Annotated[
        ModelOrAlias | None,
        Field(
            description="Id of a stored model, or an alias. By default the model of the alias `ticker/SYMBOL` where "
            "there is one, else of `default`."
        ),
    ] = None
    levels: Levels = DEFAULT_LEVELS


class PricesRequest(Request):
    """Closes to forecast from: as many as the model's lookback, 60 for the bundled model."""

    model_id: ModelOrAlias = "default"
    levels: Levels = DEFAULT_LEVELS
    symbol: Annotated[
        Ticker | None,
        Field(
            description="The symbol of the prices. The answer repeats it, and warns if the model was not trained on it."
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
    """The model that made the forecast."""

    model_id: ModelId
    alias: AliasName | None = Field(description=THROUGH_ALIAS)
    model: str = Field(description="Kind of model, such as return_lstm.")
    target_column: str = Field(description="The price that is forecast.")
    test: Evidence
    inference_time_ms: Milliseconds = Field(description="Milliseconds that the model took.")
    timestamp: Timestamp = Field(description="When the answer was made, in UTC.")


class Provenance(Document):
    """The prices that the forecast was made from."""

    currency: str | None = Field(description="ISO code of the quote currency; null if the source does not say.")
    source: str = Field(
        description="Where the prices come from: yahoo, sample or csv; ``request`` for prices of the request."
    )
    stale: bool | None = Field(
        description="Whether a newer completed session should exist but is missing; null for prices of the request."
    )
    demo: bool = Field(description="Whether these are the sample prices, which end in December 2018.")
    dropped: dict[str, int] = Field(description="Rows of the history that were left out, by reason.")
    repaired: dict[str, int] = Field(
        description="Prices or volumes of the history that were set to unknown, by column."
    )
    warnings: tuple[str, ...] = Field(description="About the model and about missing, repaired or suspect prices.")
    inputs: MarketInputs
    explanation: Explanation


NotKnown = Literal["N/A"]
"""What legacy contract v2 has instead of null, because its clients require a string."""

NOT_KNOWN: NotKnown = "N/A"


class NextClose(Document):
    """The next close and its interval; symbol and dates are "N/A" where only prices are known."""

    symbol: str = Field(description='"N/A" if the request has prices but no symbol.')
    predicted_price: Price = Field(description="The median, in quote currency.")
    intervals: tuple[Interval, ...] = Field(description="One per coverage level.")
    persistence: Price = Field(description="The no-change forecast.")
    predicted_ratio: Price = Field(description="predicted_price / reference_price.")
    reference_price: Price = Field(description="The first price of the model's window.")
    last_known_price: Price = Field(description="The last known close.")
    expected_change_pct: Percent = Field(description="Change from last_known_price to predicted_price, in percent.")
    prediction_for_date: dt.date | NotKnown = Field(description='The session forecast; "N/A" if only prices are known.')
    estimated: bool = Field(description=ESTIMATED)
    last_data_date: dt.date | NotKnown = Field(description='The last known session; "N/A" if only prices are known.')


class SymbolPrediction(Provenance, Answer, NextClose):  # pydantic puts the fields of the last base first
    """The next session's close, the model's accuracy, and the source of the prices."""


class DayForecast(Document):
    """One future session."""

    day: int = Field(description="Sessions after base_date, from 1.")
    date: dt.date = Field(description="The session forecast.")
    estimated: bool = Field(description=ESTIMATED)
    predicted_price: Price = Field(description="The median, in quote currency.")
    expected_change_pct: Percent = Field(description="Change from the last known close, in percent, whatever the day.")
    intervals: tuple[Interval, ...] = Field(description="One per coverage level.")


class DailyForecast(Provenance):
    """The forecast of the next sessions of one symbol."""

    base_price: Price = Field(description="The last known close.")
    base_date: dt.date = Field(description="The last known session.")
    persistence: Price = Field(description="The no-change forecast, the same for every session.")
    forecast: tuple[DayForecast, ...]


class SymbolForecast(Answer, DailyForecast):
    """The closes of the next sessions."""

    symbol: str
    forecast_days: int = Field(description="Sessions forecast.")
