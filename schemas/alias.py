"""Names that stand for a model and can be moved to another."""

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
        description="Letters and hyphens: never to be mistaken for a model's id.",
    ),
]


class AliasRequest(Request):
    """Where to move the alias."""

    model_id: ModelId


class AliasMove(Document):
    """One move of an alias."""

    model_id: ModelId = Field(description="Where it was moved to.")
    moved_at: datetime
    evidence: str | None = Field(description="Key of the evaluation that moved it; null: moved by hand.")


class Alias(Document):
    """An alias as it stands, and how it came there: one document, so that no move is without its record."""

    alias: AliasName
    model_id: ModelId
    previous_model_id: ModelId | None = Field(
        description="Where it pointed before: moving it there undoes the last move. Null where it pointed nowhere."
    )
    moved_at: datetime
    evidence: str | None = Field(default=None, description="Key of the evaluation that moved it; null: moved by hand.")
    earlier: tuple[AliasMove, ...] = Field(default=(), description="The moves before the last, newest first.")


class AliasList(Document):
    """All aliases that were ever moved."""

    aliases: tuple[Alias, ...]
