"""Aliases: names that point to a model and can be moved to another."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from schemas.common import Document, ModelId, Request

ALIAS_PATTERN = r"^[a-z]+(?:-[a-z]+)*$"

AliasName = Annotated[
    str,
    Field(
        pattern=ALIAS_PATTERN,
        max_length=32,
        description="Lower-case letters and hyphens, without digits: no model id looks like this.",
    ),
]


class AliasRequest(Request):
    model_id: ModelId


class AliasMove(Document):
    model_id: ModelId = Field(description="The model that the alias was moved to.")
    moved_at: datetime = Field(description="When, in UTC.")
    evidence: str | None = Field(description="Key of the evaluation that moved it; null: moved by hand.")


class Alias(Document):
    """An alias and its history, in one document, so that every move is recorded."""

    alias: AliasName
    model_id: ModelId
    previous_model_id: ModelId | None = Field(
        description="The model it pointed to before: move it there to undo the last move. Null where there was none."
    )
    moved_at: datetime = Field(description="When it was last moved, in UTC.")
    evidence: str | None = Field(default=None, description="Key of the evaluation that moved it; null: moved by hand.")
    earlier: tuple[AliasMove, ...] = Field(default=(), description="The moves before the last, newest first.")


class AliasList(Document):
    aliases: tuple[Alias, ...]
