"""Forecast scores: a model's figures with those of persistence from the same origins."""

from pydantic import Field

from schemas.common import Document


class PointAccuracy(Document):
    """Errors of point forecasts in price units; ``mape`` is a fraction. The names are those of legacy contract v1."""

    mae: float
    mape: float
    rmse: float
    r2: float | None = Field(description="On price levels: near 1 for persistence too; null where prices never move.")


class Scores(PointAccuracy):
    """Errors of point forecasts, and of the whole distribution."""

    crps: float | None = Field(
        description="2 × mean pinball loss over the levels 0.01, 0.02 … 0.99; null in cards of format 1."
    )


class ByMeasure(Document):
    """One figure per measure of error; null where it is undefined."""

    mae: float | None
    mape: float | None
    rmse: float | None
    crps: float | None


class Coverage(Document):
    """The share of prices inside the intervals of one coverage level."""

    level: float
    empirical_coverage: float
    n_origins: int


class IntervalScores(Coverage):
    """Coverage and sharpness of the intervals of one coverage level."""

    width: float = Field(description="Mean upper − lower, in price units.")
    interval_score: float = Field(description="Width plus 2/(1 − level) times the mean miss; lower is better.")


class StepReport(Document):
    """Scores at one step, compared with persistence from the same origins."""

    step: int | None = Field(description="Sessions ahead; null: all steps of a backtest together.")
    n_origins: int = Field(description="Origins with a known outcome.")
    model: Scores
    persistence: Scores = Field(description="Of the no-change forecast.")
    skill: ByMeasure = Field(description="1 − error / error of persistence; negative is worse than no change.")
    p_value: ByMeasure = Field(
        description="Of each skill: Diebold–Mariano, two-sided; small where more than chance explains the difference. "
        "Null with too few origins, without any difference, or without scipy."
    )
    coverage: tuple[Coverage, ...]


class DetailedReport(StepReport):
    """A step report whose intervals have their widths too."""

    coverage: tuple[IntervalScores, ...]
