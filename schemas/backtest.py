"""Walk-forward backtests: the request, and the scores of the model and of every baseline."""

from datetime import date
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from schemas.accuracy import ByMeasure, DetailedReport, Scores
from schemas.common import (
    DEFAULT_LEVELS,
    DISTINCT,
    MAX_HORIZON,
    Document,
    Levels,
    ModelId,
    Price,
    Request,
    Ticker,
    distinct_sorted,
)
from schemas.webhook import OnEnd

QuantileLevel = Annotated[float, Field(ge=0.001, le=0.999)]


class BacktestRequest(Request):
    """From which origins to forecast, how far, and what to report."""

    ticker: Annotated[Ticker | None, Field(description="By default the ticker that the model was trained on.")] = None
    start: Annotated[
        date | None,
        Field(
            description="First origin; by default the first of the model's test part, or if the prices end before it, "
            "the last 250 sessions."
        ),
    ] = None
    end: Annotated[date | None, Field(description="Last session that may be known as an outcome.")] = None
    stride: Annotated[int, Field(ge=1, le=250, description="Sessions between origins.")] = 1
    horizon: Annotated[int, Field(ge=1, le=MAX_HORIZON, description="Sessions forecast from each origin.")] = 5
    levels: Levels = DEFAULT_LEVELS
    quantile_levels: Annotated[
        tuple[QuantileLevel, ...],
        Field(
            min_length=1,
            max_length=99,
            description="Quantiles that are scored by pinball loss and returned.",
            json_schema_extra=DISTINCT,
        ),
        AfterValidator(distinct_sorted),
    ] = (0.05, 0.25, 0.5, 0.75, 0.95)
    refit_every: Annotated[
        int | None, Field(ge=5, le=1000, description="Fit again after this many origins; null keeps the model frozen.")
    ] = None
    include_forecasts: Annotated[bool, Field(description="Return every forecast with its outcome.")] = False

    @model_validator(mode="after")
    def _dates_in_order(self) -> "BacktestRequest":
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"start {self.start} must be before end {self.end}")
        return self


class BacktestSubmission(BacktestRequest):
    """A backtest, and where its end is announced."""

    webhook: OnEnd = None

    @property
    def backtest(self) -> BacktestRequest:
        """Without the webhook, whose secret no answer contains."""
        return BacktestRequest.model_validate(self.model_dump(exclude={"webhook"}))


class BacktestScores(Scores):
    """Scores that only a backtest has; null if a score is undefined."""

    mase: float | None = Field(description="MAE divided by the MAE of one-step persistence before the first origin.")
    crps_log_return: float = Field(description="CRPS of the log return since the origin.")
    pinball: float = Field(description="Mean over the request's quantile levels.")
    hit_rate: float | None = Field(description="Share of moves whose direction was right; null without a direction.")


class BacktestByMeasure(ByMeasure):
    """One figure for each measure of error, and the comparison with the last 250 returns."""

    crps_vs_rolling_empirical: float | None = Field(
        description="Of the log return's CRPS, against the last 250 returns; null if the history is too short."
    )


class BacktestReport(DetailedReport):
    """One step, or all together when ``step`` is null."""

    model: BacktestScores
    skill: BacktestByMeasure
    p_value: BacktestByMeasure


class ForecasterReport(Document):
    """The scores of the model, or of a baseline from the same origins."""

    name: str = Field(description="Kind of model.")
    overall: BacktestReport = Field(description="All steps together.")
    steps: tuple[BacktestReport, ...] = Field(description="Each step that has an outcome.")


class BacktestForecast(Document):
    """One forecast of the model and what happened; quantiles are horizon × quantile_levels."""

    origin: date = Field(description="Last session known to the forecast.")
    sessions: tuple[date, ...] = Field(description="The sessions forecast, one per step.")
    quantiles: tuple[tuple[Price, ...], ...] = Field(
        description="Prices: one row per step, one column per quantile level."
    )
    actuals: tuple[Price | None, ...] = Field(description="The closes that followed; null if unknown.")


class BacktestResponse(Document):
    """How accurate the model would have been from each origin, knowing only the past."""

    model_id: ModelId
    model: str = Field(description="Kind of model, such as return_lstm.")
    ticker: Ticker
    currency: str | None = Field(description="ISO code of the quote currency; null if the source does not say.")
    source: str = Field(description="Where the prices come from: yahoo, sample or csv.")
    as_of: date = Field(description="The newest session of the prices.")
    stale: bool = Field(description="Whether a newer completed session should exist but is missing.")
    demo: bool = Field(description="Whether these are the sample prices, which end in December 2018.")
    dropped: dict[str, int] = Field(description="Rows of the history that were left out, by reason.")
    repaired: dict[str, int] = Field(
        description="Prices or volumes of the history that were set to unknown, by column."
    )
    first_origin: date = Field(description="First session forecast from.")
    last_origin: date = Field(description="Last session forecast from.")
    n_origins: int = Field(description="Number of origins.")
    stride: int = Field(description="Sessions between origins.")
    horizon: int = Field(description="Sessions forecast from each origin.")
    levels: tuple[float, ...] = Field(description="Coverage levels of the intervals.")
    quantile_levels: tuple[float, ...] = Field(description="Quantile levels of the pinball loss and of forecasts.")
    n_refits: int = Field(description="How often the model was fitted again.")
    model_report: ForecasterReport = Field(description="Of the model.")
    baselines: tuple[ForecasterReport, ...] = Field(description="Of each baseline, from the same origins.")
    forecasts: tuple[BacktestForecast, ...] | None = Field(
        description="Of the model; null unless include_forecasts is set."
    )
    warnings: tuple[str, ...] = Field(
        description="Baselines left out, sessions the model has seen, and suspect prices."
    )
