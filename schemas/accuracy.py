"""Scores of forecasts, next to those of persistence from the same origins."""

from pydantic import Field

from schemas.common import Document


class PointAccuracy(Document):
    """Errors of point forecasts in price units; ``mape`` is a fraction. The names are those of legacy contract v1."""

    mae: float = Field(description="Mean absolute error, in price units.")
    mape: float = Field(description="Mean absolute percentage error, as a fraction: 0.01 is 1 %.")
    rmse: float = Field(description="Root mean squared error, in price units.")
    r2: float | None = Field(description="On price levels: near 1 for persistence too; null where prices never move.")


class Scores(PointAccuracy):
    """Errors of point forecasts, and of the whole distribution."""

    crps: float | None = Field(
        description="2 × mean pinball loss over the levels 0.01, 0.02 … 0.99; null in cards of format 1."
    )


class ByMeasure(Document):
    """One figure for each measure of error; null if it is undefined."""

    mae: float | None
    mape: float | None
    rmse: float | None
    crps: float | None


class Coverage(Document):
    """The share of prices inside the intervals of one coverage level."""

    level: float = Field(description="Coverage level: the share of closes that the interval should contain.")
    empirical_coverage: float = Field(description="Share of closes that the interval did contain.")
    n_origins: int = Field(description="Forecasts counted.")


class IntervalScores(Coverage):
    """Coverage and sharpness of the intervals of one coverage level."""

    width: float = Field(description="Mean upper − lower, in price units.")
    interval_score: float = Field(description="Width plus 2/(1 − level) times the mean miss; lower is better.")


class StepReport(Document):
    """Scores at one step, compared with persistence from the same origins."""

    step: int | None = Field(description="Sessions ahead; null: all steps of a backtest together.")
    n_origins: int = Field(description="Origins with a known outcome.")
    model: Scores = Field(description="Of the model.")
    persistence: Scores = Field(description="Of the no-change forecast.")
    skill: ByMeasure = Field(description="1 − error / error of persistence; negative is worse than no change.")
    p_value: ByMeasure = Field(
        description="P-value of each skill (two-sided Diebold–Mariano test): small if chance hardly explains the "
        "difference. Null with too few origins, without any difference, or without scipy."
    )
    coverage: tuple[Coverage, ...]


class DetailedReport(StepReport):
    """A step report that also scores the widths of the intervals."""

    coverage: tuple[IntervalScores, ...]
