"""Walk-forward backtests: the request, and the scores of the model and of every baseline."""

from datetime import date
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from schemas.accuracy import ByMeasure, DetailedReport, Scores
from schemas.common import (
    DEFAULT_LEVELS,
    MAX_HORIZON,
    Document,
    Levels,
    ModelId,
    Price,
    Request,
    Ticker,
    distinct_sorted,
)

QuantileLevel = Annotated[float, Field(ge=0.001, le=0.999)]


class BacktestRequest(Request):
    """From which origins to forecast, how far, and what to report."""

    ticker: Annotated[Ticker | None, Field(description="Another ticker than the model's own.")] = None
    start: Annotated[date | None, Field(description="First origin; by default the first of the model's test part.")] = (
        None
    )
    end: Annotated[date | None, Field(description="Last session that may be known as an outcome.")] = None
    stride: Annotated[int, Field(ge=1, le=250, description="Sessions between origins.")] = 1
    horizon: Annotated[int, Field(ge=1, le=MAX_HORIZON, description="Sessions forecast from each origin.")] = 5
    levels: Levels = DEFAULT_LEVELS
    quantile_levels: Annotated[
        tuple[QuantileLevel, ...],
        Field(min_length=1, max_length=99, description="Quantiles scored by pinball loss and answered."),
        AfterValidator(distinct_sorted),
    ] = (0.05, 0.25, 0.5, 0.75, 0.95)
    refit_every: Annotated[
        int | None, Field(ge=5, le=1000, description="Fit again after this many origins; null keeps the model frozen.")
    ] = None
    include_forecasts: Annotated[bool, Field(description="Answer every forecast with its outcome.")] = False

    @model_validator(mode="after")
    def _dates_in_order(self) -> "BacktestRequest":
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"start {self.start} must be before end {self.end}")
        return self


class BacktestScores(Scores):
    """Scores that only a backtest can form; a null could not be formed."""

    mase: float | None = Field(description="MAE over that of one-step persistence before the first origin.")
    crps_log_return: float = Field(description="CRPS of the log return since the origin.")
    pinball: float = Field(description="Mean over the request's quantile levels.")
    hit_rate: float | None = Field(description="Share of moves whose direction was right; null without a direction.")


class BacktestByMeasure(ByMeasure):
    """With the harder comparison, where the history allows it."""

    crps_vs_rolling_empirical: float | None = Field(
        description="Of the log return, against the quantiles of the last 250 sessions' returns."
    )


class BacktestReport(DetailedReport):
    """One step, or all together when ``step`` is null."""

    model: BacktestScores
    skill: BacktestByMeasure
    p_value: BacktestByMeasure


class ForecasterReport(Document):
    """The model, or a baseline from the same origins."""

    name: str
    overall: BacktestReport
    steps: tuple[BacktestReport, ...]


class BacktestForecast(Document):
    """One forecast of the model and what happened; quantiles are horizon × quantile_levels."""

    origin: date
    sessions: tuple[date, ...]
    quantiles: tuple[tuple[Price, ...], ...]
    actuals: tuple[Price | None, ...]


class BacktestResponse(Document):
    """How accurate the model would have been, had it forecast at each origin with only the past known."""

    model_id: ModelId
    model: str
    ticker: Ticker
    currency: str | None
    source: str
    as_of: date
    stale: bool
    demo: bool = Field(description="Whether these are the sample prices, which end in December 2018.")
    dropped: dict[str, int] = Field(description="Rows of the history that were left out, by reason.")
    repaired: dict[str, int] = Field(description="Cells of the history that were made unknown, by column.")
    first_origin: date
    last_origin: date
    n_origins: int
    stride: int
    horizon: int
    levels: tuple[float, ...]
    quantile_levels: tuple[float, ...]
    n_refits: int
    model_report: ForecasterReport
    baselines: tuple[ForecasterReport, ...]
    forecasts: tuple[BacktestForecast, ...] | None
    warnings: tuple[str, ...]
