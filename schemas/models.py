"""Summaries of the models, a page at a time."""

from datetime import date, datetime

from pydantic import Field

from schemas.accuracy import StepReport
from schemas.common import Document, ModelId, Ticker, UniverseName
from schemas.train import ModelName, TargetColumn


class ModelSummary(Document):
    id: ModelId
    model: ModelName
    tickers: tuple[Ticker, ...] = Field(description="The tickers it was trained on; empty for a universe.")
    universe: UniverseName | None = Field(default=None, description="The universe that it was trained on.")
    created_at: datetime = Field(description="Time of the training request, in UTC.")
    first_session: date = Field(description="First session that the model was made with.")
    last_session: date = Field(description="Last session that the model was made with.")
    test: StepReport = Field(description="One step ahead.")
    target_column: TargetColumn = Field(default="Close", description="The price that is forecast.")
    bundled: bool = Field(default=False, description="Whether it is the bundled model, which cannot be deleted.")


class UnreadableModel(Document):
    """A stored model whose card cannot be read, and the code of the error."""

    id: ModelId
    code: str = Field(description="Error code, see docs/errors.md.")


class ModelPage(Document):
    """Some models, ordered by id."""

    models: tuple[ModelSummary, ...]
    unreadable: tuple[UnreadableModel, ...]
    next_after: ModelId | None = Field(description="Pass as ``after`` for the next page; null on the last.")
