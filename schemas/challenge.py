"""A challenger compared with the champion of an alias, from the same origins."""

from datetime import date, datetime

from pydantic import Field

from schemas.alias import AliasName
from schemas.common import Document, ModelId


class ChallengerEvaluation(Document):
    """Scores of both models from the same origins; written once.

    Scores are the mean CRPS of the log return over steps and origins: lower is better. They are null where the two
    cannot be compared, and ``reason`` says why.
    """

    alias: AliasName
    job_id: str = Field(description="The training that made the challenger.")
    champion_id: ModelId | None = Field(
        description="The model that the alias pointed to; null if the alias cannot be read."
    )
    challenger_id: ModelId
    ticker: str = Field(description="The ticker that both forecast.")
    horizon: int = Field(description="Steps scored from each origin.")
    first_origin: date | None = None
    last_origin: date | None = None
    n_origins: int = Field(default=0, description="Common origins; 0 if the two cannot be compared.")
    champion_score: float | None = Field(default=None, description="Mean CRPS of the log return; lower is better.")
    challenger_score: float | None = Field(default=None, description="Mean CRPS of the log return; lower is better.")
    persistence_score: float | None = Field(default=None, description="Of the no-change forecast.")
    p_value: float | None = Field(default=None, description="Diebold–Mariano; null where it is undefined.")
    won: bool = Field(description="Whether the challenger won. The alias records whether it has moved.")
    reason: str = Field(description="Why the challenger won or did not.")
    warnings: tuple[str, ...] = ()
    at: datetime = Field(description="When, in UTC.")


class EvaluationPage(Document):
    """Some evaluations for an alias, newest first, and where the next page starts."""

    evaluations: tuple[ChallengerEvaluation, ...]
    next_after: str | None = Field(description="Pass as ``after`` for the next page; null on the last.")
