"""Aliases: names that point to a model and can be moved to another."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from schemas.common import OF_TICKER, TICKER_PATTERN, Document, ModelId, ModelOrAlias, Request

ALIAS_PATTERN = rf"^(?:[a-z]+(?:-[a-z]+)*|{OF_TICKER}{TICKER_PATTERN.pattern})$"

AliasName = Annotated[
    str,
    Field(
        pattern=ALIAS_PATTERN,
        max_length=32,
        description="Lower-case letters and hyphens, without digits: no model id looks like this. Or `ticker/` and a "
        "ticker, such as `ticker/PETR4.SA`: the model of that ticker.",
    ),
]


class AliasRequest(Request):
    model_id: ModelOrAlias


class AliasMove(Document):
    model_id: ModelId = Field(description="The model that the alias was moved to.")
    moved_at: datetime = Field(description="When, in UTC.")
    evidence: str | None = Field(description="Key of the evaluation that moved it; null: moved by hand.")


class Alias(Document):
    """An alias and its history, in one document, so that every move is recorded."""

    alias: AliasName
    model_id: ModelId
    previous_model_id: ModelId | None = Field(
        description="The model it pointed to before: move it there to undo the last move. Null where there was none. "
        "Before its first move, the alias of a ticker points to the model of `default`."
    )
    moved_at: datetime = Field(description="When it was last moved, in UTC.")
    evidence: str | None = Field(default=None, description="Key of the evaluation that moved it; null: moved by hand.")
    earlier: tuple[AliasMove, ...] = Field(default=(), description="The moves before the last, newest first.")


class AliasList(Document):
    aliases: tuple[Alias, ...]


class PendingMove(Document):
    token: str
    model_id: ModelId


class AliasRecord(Document):
    """An alias as it is stored: with the moves that have begun, and without a model until the first has ended."""

    alias: AliasName
    model_id: ModelId | None = None
    previous_model_id: ModelId | None
    moved_at: datetime | None = None
    evidence: str | None = None
    earlier: tuple[AliasMove, ...] = ()
    pending: tuple[PendingMove, ...] = ()

    @property
    def moved(self) -> Alias | None:
        """The alias; None where it was never moved."""
        if self.model_id is None or self.moved_at is None:
            return None
        return Alias(
            alias=self.alias,
            model_id=self.model_id,
            previous_model_id=self.previous_model_id,
            moved_at=self.moved_at,
            evidence=self.evidence,
            earlier=self.earlier,
        )


class Deletion(Document):
    """A model that is being deleted; ``decided`` once no alias can be moved to it any more."""

    token: str
    decided: bool = False
