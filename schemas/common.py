"""Types that several schemas share: tickers, model ids, prices, levels."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

# what exchanges use, and nothing that means something in a path or an address
TICKER_PATTERN = re.compile(r"\^?[A-Z0-9][A-Z0-9.=&-]{0,22}")
MODEL_ID_PATTERN = r"^[a-z0-9]+(?:-[a-z0-9]+)*$"
MAX_HORIZON = 30


class Document(BaseModel):
    """A frozen schema in which an unknown field is an error, not silence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _ticker(value: str) -> str:
    if not TICKER_PATTERN.fullmatch(value):
        raise ValueError("a ticker is up to 23 letters, digits and . - = &, such as PETR4.SA or ^GSPC")
    return value


def distinct_sorted(levels: tuple[float, ...]) -> tuple[float, ...]:
    """The levels ascending; ValueError, which pydantic turns into 422, when one is given twice."""
    if len(set(levels)) != len(levels):
        raise ValueError("levels must be distinct")
    return tuple(sorted(levels))


def _significant(price: float) -> float:
    return float(f"{price:.8g}")


Ticker = Annotated[
    str,
    BeforeValidator(lambda value: value.strip().upper() if isinstance(value, str) else value),
    AfterValidator(_ticker),
    Field(description="Exchange symbol as Yahoo Finance writes it.", examples=["^GSPC"]),
]

ModelId = Annotated[str, Field(pattern=MODEL_ID_PATTERN, max_length=64, description="Id of a stored model.")]

Price = Annotated[float, PlainSerializer(_significant, when_used="json")]
"""A price in quote currency, written with eight significant digits."""

Level = Annotated[float, Field(ge=0.01, le=0.99)]

Levels = Annotated[
    tuple[Level, ...],
    Field(min_length=1, max_length=10, description="Coverage levels of the intervals, as fractions."),
    AfterValidator(distinct_sorted),
]

DEFAULT_LEVELS = (0.8, 0.95)
