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
    champion_id: ModelId | None = Field(description="Where the alias pointed; null where that cannot be read.")
    challenger_id: ModelId
    ticker: str = Field(description="Whose history both forecast.")
    horizon: int = Field(description="Steps scored from each origin.")
    first_origin: date | None = None
    last_origin: date | None = None
    n_origins: int = 0
    champion_score: float | None = None
    challenger_score: float | None = None
    persistence_score: float | None = Field(default=None, description="Of the no-change forecast.")
    p_value: float | None = Field(default=None, description="Diebold–Mariano; null where it is undefined.")
    won: bool = Field(description="Whether the challenger did; the alias records whether it was moved for that.")
    reason: str
    warnings: tuple[str, ...] = ()
    at: datetime


class EvaluationPage(Document):
    """Some evaluations for an alias, newest first, and where the next page starts."""

    evaluations: tuple[ChallengerEvaluation, ...]
    next_after: str | None = Field(description="Pass as ``after`` for the next page; null on the last.")
