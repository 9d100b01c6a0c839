"""Forecast scores as documents: always the model's beside persistence's."""

from pydantic import Field, model_validator

from schemas.common import Document


class PointAccuracy(Document):
    """Errors of one-step point forecasts in price units; ``mape`` is a fraction."""

    mae: float
    mape: float
    rmse: float
    r2: float | None = Field(description="Null where the actual prices never move.")


class Skill(Document):
    """Share of persistence's error that is saved, per measure; negative is worse than doing nothing."""

    mae: float
    mape: float
    rmse: float


class AccuracyReport(Document):
    """One-step accuracy on one block, with persistence from the same origins."""

    n_origins: int
    model: PointAccuracy
    persistence: PointAccuracy
    skill: Skill | None = Field(description="Null where persistence makes no error.")


class Coverage(Document):
    """The share of closes inside the intervals of one level on the test part."""

    step: int
    level: float = Field(description="The share that is promised.")
    empirical_coverage: float = Field(description="The share that was found.")
    n_origins: int

    @model_validator(mode="before")
    @classmethod
    def _of_format_1(cls, data: object) -> object:
        """Cards of format version 1 write ``reached``."""
        if isinstance(data, dict) and "reached" in data:
            return {**{key: data[key] for key in data if key != "reached"}, "empirical_coverage": data["reached"]}
        return data
