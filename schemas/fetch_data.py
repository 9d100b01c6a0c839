"""Daily prices on the wire, in legacy contract v1's field names."""

from datetime import date
from typing import Annotated

from pydantic import Field, model_validator

from schemas.common import Document, Price, Request, Ticker


class FetchDataRequest(Request):
    """Either a range of dates or the last ``days`` sessions."""

    ticker: Ticker
    start_date: date | None = Field(default=None, description="First session.")
    end_date: Annotated[date | None, Field(description="Last session, included.")] = None
    days: Annotated[int | None, Field(ge=1, le=20_000, description="Number of most recent sessions.")] = None

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> "FetchDataRequest":
        by_range = self.start_date is not None and self.end_date is not None
        if self.days is None and not by_range:
            raise ValueError("provide either start_date and end_date, or days")
        if self.days is not None and (self.start_date or self.end_date):
            raise ValueError("provide either start_date and end_date, or days")
        if self.start_date and self.end_date and self.start_date > self.end_date:
            raise ValueError(f"start_date {self.start_date} must not be after end_date {self.end_date}")
        return self


class Bar(Document):
    """One session; prices are adjusted for splits and dividends."""

    Date: date
    Open: Price | None = Field(description="In quote currency, like High, Low and Close; null if unknown.")
    High: Price | None
    Low: Price | None
    Close: Price = Field(description="Adjusted close, in quote currency.")
    Volume: float = Field(description="Shares or contracts traded; 0 if unknown.")


class FetchDataResponse(Document):
    """A ticker's daily prices, oldest first."""

    ticker: Ticker
    data: tuple[Bar, ...]
    currency: str | None = Field(description="ISO code of the quote currency; null if the source does not say.")
    source: str = Field(description="Where the prices come from: yahoo, sample or csv.")
    as_of: date = Field(description="The newest session of the prices.")
    stale: bool = Field(description="Whether a newer completed session should exist but is missing.")
    demo: bool = Field(description="Whether these are the sample prices, which end in December 2018.")
    dropped: dict[str, int] = Field(description="Rows left out of the whole history, by reason.")
    repaired: dict[str, int] = Field(
        description="Prices or volumes of the whole history that were set to unknown, by column."
    )
