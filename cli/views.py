"""What the command line reads of an analysis: the fields it shows, whatever else the answer holds."""

from datetime import date

from pydantic import BaseModel


class Reading(BaseModel):
    """A part of the analysis, in words."""

    reading: str


class SummaryView(BaseModel):
    """The closes in two figures."""

    annualised_volatility: float
    total_log_return: float


class SeriesView(BaseModel):
    """One value for each session named."""

    sessions: tuple[date, ...]
    values: tuple[float | None, ...]


class EpisodeView(BaseModel):
    """From a peak to its trough."""

    peak: date
    trough: date
    depth: float


class DrawdownsView(BaseModel):
    """How far below its highest the close stood."""

    current: float
    series: SeriesView
    deepest: tuple[EpisodeView, ...]


class RollingView(BaseModel):
    """Volatility over the sessions up to each one, annualised."""

    estimator: str
    window: int
    series: SeriesView


class VolatilityView(BaseModel):
    """Every estimator and window."""

    rolling: tuple[RollingView, ...]


class SeasonsView(BaseModel):
    """By weekday and month."""

    weekday: Reading
    month: Reading


class AnalysisView(BaseModel):
    """The answer of ``GET /analysis/{ticker}``."""

    ticker: str
    currency: str | None
    source: str
    first_session: date
    last_session: date
    n_sessions: int
    closes: SeriesView
    summary: SummaryView
    distribution: Reading
    volatility: VolatilityView
    drawdowns: DrawdownsView
    seasonality: SeasonsView
    dependence: Reading
    stationarity: Reading
    warnings: tuple[str, ...]
