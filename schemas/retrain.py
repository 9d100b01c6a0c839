"""Training again where a model has drifted: the request and its answer."""

from typing import Annotated

from pydantic import Field

from schemas.alias import AliasName
from schemas.common import Document, Request, Ticker
from schemas.job import Job
from schemas.realised import DriftStatus


class RetrainRequest(Request):
    """Which ticker to look at, and the alias whose model is to be challenged."""

    ticker: Ticker
    alias: AliasName = "default"
    only_on_drift: Annotated[bool, Field(description="Train only where the status is ``drifted``.")] = True


class RetrainAnswer(Document):
    """The drift status of the model of the alias, and the job that trains a challenger where one was wanted."""

    status: DriftStatus
    reasons: tuple[str, ...]
    job: Job | None
