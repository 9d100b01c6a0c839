"""Symbols found by name."""

from pydantic import Field

from schemas.common import Document, Ticker


class SymbolFound(Document):
    symbol: Ticker
    name: str | None = Field(description="Name of the company, index or fund; null if unknown.")
    exchange: str | None = Field(description="Where it is listed; null if unknown.")
    currency: str | None = Field(description="Currency in which most shares there are quoted; null if unknown.")


class SymbolsFound(Document):
    """The symbols that a query may mean, best first."""

    query: str
    source: str = Field(description="The price source: yahoo, sample or csv.")
    symbols: tuple[SymbolFound, ...]
    matched: bool = Field(description="False if nothing has that name: the symbols are spelled nearly so, or none.")
    incomplete: str | None = Field(description="Why Yahoo Finance was not searched; null if it was, or need not be.")
