"""Names that stand for a model and can be moved to another."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from schemas.common import Document, ModelId

AliasName = Annotated[
    str,
    Field(
        pattern=r"^[a-z]+(?:-[a-z]+)*$",
        max_length=32,
        description="Letters and hyphens: never to be mistaken for a model's id.",
    ),
]


class AliasRequest(Document):
    """Where to move the alias."""

    model_id: ModelId


class Alias(Document):
    """An alias as it stands."""

    alias: AliasName
    model_id: ModelId
    previous_model_id: ModelId | None = Field(description="Where it pointed before; null for the bundled model.")
    moved_at: datetime
    evidence: str | None = Field(default=None, description="Key of the contest that moved it; null where somebody did.")


class AliasList(Document):
    """All aliases that were ever moved."""

    aliases: tuple[Alias, ...]
