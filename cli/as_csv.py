"""Writes an answer as CSV: names of the machine, unrounded figures, every column."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Group, RenderableType

from cli.exits import sanitize
from cli.layout import Facts
from cli.sheet import Sheet, Value


def csv_of(answer: BaseModel, shown: RenderableType) -> str:
    """The table that is shown; of several, one below the other, with a column ``table`` that names each.

    An answer without a table, or with facts about one thing, is one row with the fields of its JSON. Fields within
    fields have names with dots, lists of plain values are JSON, and lists of records are left to ``--json``.
    """
    parts = tuple(parts_of(shown))
    sheets = [part for part in parts if isinstance(part, Sheet)]
    named = len({one.name for one in sheets}) > 1
    if not sheets or (not named and any(isinstance(part, Facts) for part in parts)):
        record = dict(_flat(answer.model_dump(mode="json")))
        return _written(list(record), [record])
    fields = dict.fromkeys(name for one in sheets for column in one.columns for name in column.fields)
    records = [({"table": one.name} if named else {}) | dict(_record(one, row)) for one in sheets for row in one.rows]
    return _written([*(["table"] if named else []), *fields], records)


def parts_of(shown: RenderableType) -> Iterator[RenderableType]:
    """What is shown, without the groups around it."""
    if isinstance(shown, Group):
        for part in shown.renderables:
            yield from parts_of(part)
    else:
        yield shown


def _record(sheet: Sheet, row: Sequence[Value]) -> Iterator[tuple[str, Value]]:
    for column, value in zip(sheet.columns, row, strict=True):
        if len(column.fields) == 1:
            yield column.fields[0], value
        else:
            assert isinstance(value, Sequence) or value is None  # noqa: S101 - the author of the sheet made it so
            yield from zip(column.fields, value or [None] * len(column.fields), strict=True)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif not (isinstance(value, list) and value and isinstance(value[0], list | dict)):
        yield name, json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _written(fields: Sequence[str], records: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in record.items()} for record in records)
    return text.getvalue()


def _cell(value: Any) -> Any:
    match value:
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case str():
            return sanitize(value)
        case list() | tuple():
            return ", ".join(map(sanitize, map(str, value)))
        case _:
            return value
