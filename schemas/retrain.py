"""Training again where a model has drifted: the request and its answer."""

from typing import Annotated

from pydantic import Field

from schemas.alias import AliasName
from schemas.common import Document, Request, Ticker
from schemas.job import Job
from schemas.realised import DriftStatus


class RetrainRequest(Request):
    """The ticker to check, and the alias whose model is to be challenged."""

    ticker: Ticker
    alias: Annotated[
        AliasName | None,
        Field(
            description="The alias that the challenger may take: by default `ticker/TICKER`, the model of this ticker "
            "alone. Only `default` itself touches the model of all other tickers."
        ),
    ] = None
    only_on_drift: Annotated[bool, Field(description="Train only if the status is ``drifted``.")] = True


class RetrainAnswer(Document):
    """The drift status of the alias's model, and the job that trains a challenger if one is needed."""

    status: DriftStatus
    reasons: tuple[str, ...] = Field(description="Why the status is not ok; empty if it is.")
    job: Job | None = Field(description="Null if no training was needed.")
