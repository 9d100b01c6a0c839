"""Forecasts of many symbols in one call."""

from typing import Annotated

from pydantic import Field, model_validator

from schemas.alias import AliasName
from schemas.by_symbol import Answer, DailyForecast, Days, ModelChoice
from schemas.common import DISTINCT, Document, ModelId, Ticker
from schemas.predict import THROUGH_ALIAS

MAX_SYMBOLS = 500
MAX_INTERVALS = 40_000  # about 3 MB of JSON; AWS Lambda answers at most 6


class BatchRequest(ModelChoice):
    """Many symbols at once."""

    symbols: Annotated[
        tuple[Ticker, ...],
        Field(min_length=1, max_length=MAX_SYMBOLS, description="Each once, in any order.", json_schema_extra=DISTINCT),
    ]
    days: Days = 1

    @model_validator(mode="after")
    def _distinct_and_answerable(self) -> "BatchRequest":
        if len(set(self.symbols)) != len(self.symbols):
            raise ValueError("symbols must be distinct")
        n_intervals = len(self.symbols) * self.days * len(self.levels)
        if n_intervals > MAX_INTERVALS:
            raise ValueError(f"symbols × days × levels may be {MAX_INTERVALS} at most, found {n_intervals}")
        return self


class SymbolError(Document):
    """Why a symbol has no forecast: the error that a request for this symbol alone would get."""

    code: str = Field(description="Error code, see docs/errors.md.")
    detail: str = Field(description="What happened, for people.")
    status: int = Field(description="HTTP status that a request for this symbol alone would get.")
    did_you_mean: str | None = Field(default=None, description="A symbol that the source may know instead.")


class BatchedForecast(DailyForecast):
    """The forecast of one symbol, and the model that made it."""

    model_id: ModelId
    alias: AliasName | None = Field(description=THROUGH_ALIAS)
    model: str = Field(description="Kind of model, such as return_lstm.")
    target_column: str = Field(description="The price that is forecast.")


class SymbolResult(Document):
    """The forecast or the error of one symbol: either ``result`` or ``error`` is null."""

    symbol: str
    result: BatchedForecast | None = Field(description="Null if the symbol failed.")
    error: SymbolError | None = Field(description="Null if it did not.")


class BatchForecast(Answer):
    """Every symbol's forecast or its error, in the order of the request.

    The model and its accuracy are those of the symbols without a model of their own.
    """

    forecast_days: int = Field(description="Sessions forecast for each symbol.")
    results: tuple[SymbolResult, ...]
