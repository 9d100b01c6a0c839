"""Served forecasts with the closes that came."""

import datetime as dt

from pydantic import Field

from schemas.common import Document, ModelId, Price, Ticker


class Outcome(Document):
    """One served forecast of one session, in the prices of the day it was made."""

    session: dt.date = Field(description="The session forecast.")
    origin: dt.date = Field(description="Last session known to the forecast.")
    model_id: ModelId
    actual: Price = Field(description="The close that came.")
    median: Price = Field(description="The forecast.")
    persistence: Price = Field(description="The no-change forecast.")
    levels: tuple[float, ...] = Field(description="Coverage levels of the intervals, as they were served.")
    lower: tuple[Price, ...] = Field(description="One bound per level.")
    upper: tuple[Price, ...] = Field(description="One bound per level.")


class Outcomes(Document):
    """Past forecasts of one ticker, oldest first."""

    ticker: Ticker
    step: int = Field(description="Sessions between origin and the session forecast.")
    outcomes: tuple[Outcome, ...]
