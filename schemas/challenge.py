"""A challenger compared with the champion of an alias, from the same origins."""

from datetime import date, datetime
from typing import Any

from pydantic import Field, model_validator

from schemas.alias import AliasName
from schemas.common import Document, ModelId


class ChallengerEvaluation(Document):
    """Scores of both models from the same origins; written once.

    Scores are the mean CRPS of the log return over steps, origins and tickers: lower is better. They are null where
    the two cannot be compared, and ``reason`` says why.
    """

    alias: AliasName
    job_id: str = Field(description="The training that made the challenger.")
    champion_id: ModelId | None = Field(
        description="The model that the alias pointed to; null if the alias cannot be read."
    )
    challenger_id: ModelId
    tickers: tuple[str, ...] = Field(description="The tickers that both forecast; those that the alias answers for.")
    horizon: int = Field(description="Steps scored from each origin.")
    first_origin: date | None = None
    last_origin: date | None = None
    n_origins: int = Field(default=0, description="Common origins of all tickers; 0 if the two cannot be compared.")
    champion_score: float | None = Field(default=None, description="Mean CRPS of the log return; lower is better.")
    challenger_score: float | None = Field(default=None, description="Mean CRPS of the log return; lower is better.")
    persistence_score: float | None = Field(default=None, description="Of the no-change forecast.")
    gain: float | None = Field(
        default=None,
        description="How much lower the challenger's CRPS is, as a fraction of the champion's; of several tickers the "
        "mean, each session counted once.",
    )
    p_value: float | None = Field(
        default=None, description="One-sided, of monthly mean differences; null where it is undefined."
    )
    max_p_value: float | None = Field(
        default=None,
        description="What the p-value must be below: 0.01 / family_position^1.25, so that challengers that are no "
        "better win less than 0.05 times a night on average, however many are tested.",
    )
    family_position: int = Field(
        default=1,
        description="Position among the challengers for any alias that were submitted in the twelve hours before this "
        "one, itself included: the family of the test.",
    )
    won: bool = Field(description="Whether the challenger won. The alias records whether it has moved.")
    reason: str = Field(description="Why the challenger won or did not.")
    warnings: tuple[str, ...] = ()
    at: datetime = Field(description="When, in UTC.")

    @model_validator(mode="before")
    @classmethod
    def _one_ticker(cls, document: Any) -> Any:
        """Documents once had one ``ticker``."""
        if isinstance(document, dict) and "ticker" in document:
            ticker = document["ticker"]
            return {"tickers": (ticker,), **{name: value for name, value in document.items() if name != "ticker"}}
        return document


class EvaluationPage(Document):
    """Some evaluations for an alias, newest first, and where the next page starts."""

    evaluations: tuple[ChallengerEvaluation, ...]
    next_after: str | None = Field(description="Pass as ``after`` for the next page; null on the last.")
