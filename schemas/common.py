"""Types that several schemas use: tickers, model ids, prices, levels."""

import re
from datetime import UTC, date, datetime
from functools import cache, partial
from typing import Annotated, Any, Literal, get_args

from annotated_types import MaxLen
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

# what exchanges use, without the characters that mean something in a path or a URL
TICKER_PATTERN = re.compile(r"\^?[A-Z0-9][A-Z0-9._=&-]{0,22}")
MODEL_ID_PATTERN = r"^[a-z0-9]+(?:-[a-z0-9]+)*$"
OF_TICKER = "ticker/"  # begins the alias of one ticker's model
MODEL_NAME_PATTERN = rf"^(?:[a-z0-9]+(?:-[a-z0-9]+)*|{OF_TICKER}{TICKER_PATTERN.pattern})$"
"""A model id or an alias."""
MAX_HORIZON = 30


class Document(BaseModel):
    """A frozen schema; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


MAX_FIELDS = 50  # of a body: the largest request has half as many
MAX_ITEMS = 1000  # of a list without a limit of its own


class Request(Document):
    """What a caller sends.

    ``true`` and ``false`` are no numbers, although pydantic reads them as 1 and 0. A number is no date, although
    pydantic reads it as seconds since 1970: 20181231 would be in August 1970. Too many fields or items are one error:
    pydantic would build one for each, and block the server for seconds.
    """

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, body: object) -> object:
        if isinstance(body, dict) and len(body) > MAX_FIELDS:
            raise PydanticCustomError(
                "too_many_fields",
                "expected at most {most} fields, found {found}",
                {"most": MAX_FIELDS, "found": len(body)},
            )
        return body

    @field_validator("*", mode="before")
    @classmethod
    def _short_and_of_the_right_kind(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields[str(info.field_name)]
        annotation: Any = field.annotation
        items = value if isinstance(value, list | tuple) else [value]
        most = next((one.max_length for one in field.metadata if isinstance(one, MaxLen)), MAX_ITEMS)
        if isinstance(value, list | tuple) and len(value) > most:
            raise PydanticCustomError(
                "too_long", "expected at most {most} items, found {found}", {"most": most, "found": len(value)}
            )
        if _takes(annotation, int, float) and any(isinstance(item, bool) for item in items):
            raise PydanticCustomError("boolean", "Input should be a number, not true or false")
        if _takes(annotation, date) and any(map(_is_number, items)):
            raise PydanticCustomError("number", "Input should be a date such as 2018-12-31, not a number")
        return value


@cache
def _takes(annotation: object, *kinds: type) -> bool:
    """Whether the type of a field is one of these, or contains one of them."""
    return annotation in kinds or any(_takes(part, *kinds) for part in get_args(annotation))


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, int | float)


def _utc_seconds(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


Timestamp = Annotated[datetime, AfterValidator(_utc_seconds)]
"""A moment in UTC, in whole seconds as legacy contract v2 documents it."""


def _ticker(value: str) -> str:
    if not TICKER_PATTERN.fullmatch(value):
        raise ValueError("a ticker has up to 23 letters, digits and . - _ = &, like PETR4.SA or ^GSPC")
    return value


def distinct_sorted(levels: tuple[float, ...]) -> tuple[float, ...]:
    """The levels, ascending; raises ValueError, which pydantic answers as 422, where one is given twice."""
    if len(set(levels)) != len(levels):
        raise ValueError("levels must be distinct")
    return tuple(sorted(levels))


def _significant(price: float) -> float:
    return float(f"{price:.8g}")


Ticker = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_upper=True),
    AfterValidator(_ticker),
    Field(description="Exchange symbol as Yahoo Finance writes it.", examples=["^GSPC"]),
]

ModelId = Annotated[str, Field(pattern=MODEL_ID_PATTERN, max_length=64, description="Id of a stored model.")]

ModelOrAlias = Annotated[
    str, Field(pattern=MODEL_NAME_PATTERN, max_length=64, description="Id of a stored model, or an alias.")
]

Price = Annotated[float, PlainSerializer(_significant, when_used="json")]
"""A price in quote currency, written with eight significant digits."""

Percent = Annotated[float, PlainSerializer(partial(round, ndigits=4), when_used="json")]

Language = Literal["en", "pt-BR"]
"""What people read is in one of these."""

DISTINCT: dict[str, JsonValue] = {"uniqueItems": True}
"""How the OpenAPI document says that no item is given twice."""

Level = Annotated[float, Field(ge=0.01, le=0.99)]

Levels = Annotated[
    tuple[Level, ...],
    Field(
        min_length=1,
        max_length=10,
        description="Coverage levels of the intervals, as fractions.",
        json_schema_extra=DISTINCT,
    ),
    AfterValidator(distinct_sorted),
]

UNIVERSE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
UniverseName = Annotated[str, Field(pattern=rf"^{UNIVERSE_NAME.pattern}$")]

DEFAULT_LEVELS = (0.8, 0.95)
