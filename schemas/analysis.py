"""What the past of a ticker looks like: statistics, tests and series of its closes and log returns."""

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer, model_validator

from schemas.common import Document, Price, Request, Ticker

Number = Annotated[float, PlainSerializer(lambda value: float(f"{value:.6g}"), when_used="json")]
"""A figure without a price's precision, written with six significant digits."""

PValue = Annotated[Number | None, Field(ge=0, le=1)]


class AnalysisRequest(Request):
    """Which sessions to look at, and how to answer."""

    start: Annotated[dt.date | None, Field(description="First session; the first known where it is left out.")] = None
    end: Annotated[dt.date | None, Field(description="Last session, included; the newest where it is left out.")] = None
    format: Annotated[
        Literal["json", "html"], Field(description="Figures, or one page to read that needs no network.")
    ] = "json"

    @model_validator(mode="after")
    def _dates_in_order(self) -> "AnalysisRequest":
        if self.start and self.end and self.start > self.end:
            raise ValueError(f"start {self.start} must not be after end {self.end}")
        return self


class Quantile(Document):
    """The value that a share ``level`` of all values does not exceed."""

    level: float
    value: Price | None


class Moments(Document):
    """Of closes in quote currency, or of log returns; null where a figure is beyond the range of numbers."""

    n: int
    mean: Price | None
    sd: Price | None = Field(description="Standard deviation, with n − 1.")
    min: Price
    max: Price
    quantiles: tuple[Quantile, ...]


class Summary(Document):
    """Closes, and the log returns between them."""

    closes: Moments
    log_returns: Moments
    annualised_volatility: Number = Field(
        description="sd of the log returns × √sessions_per_year: 0.2 is 20 % a year, as the square root of time has it."
    )
    annualised_mean_log_return: Number = Field(description="Mean log return × sessions_per_year.")
    total_log_return: Number = Field(description="ln(last close / first close).")


class TailQuantile(Document):
    """A quantile of the log returns beside that of a normal distribution of the same mean and sd."""

    level: float
    empirical: Number
    normal: Number


class Distribution(Document):
    """How the log returns are distributed."""

    bin_edges: tuple[Number, ...] = Field(description="Log returns; one more than counts.")
    counts: tuple[int, ...] = Field(description="Sessions between two edges.")
    n_below: int = Field(description="Sessions below the first edge.")
    n_above: int = Field(description="Sessions above the last edge.")
    skewness: Number | None = Field(description="0 for a symmetric distribution.")
    excess_kurtosis: Number | None = Field(description="0 for a normal distribution; above, tails are fat.")
    tails: tuple[TailQuantile, ...]
    n_beyond_3_sd: int = Field(description="Sessions further than three sds from the mean.")
    n_beyond_3_sd_if_normal: Number
    jarque_bera: Number | None = Field(description="Statistic; about 2 on average for independent normal returns.")
    jarque_bera_p_value: PValue = Field(description="Small: the returns are not normal.")
    interpretation: str


class Series(Document):
    """One value for each session named: every so many of all, with the smallest and the largest kept."""

    sessions: tuple[dt.date, ...]
    values: tuple[Number | None, ...]


class PriceLine(Document):
    """Closes in quote currency, thinned as ``Series`` are."""

    sessions: tuple[dt.date, ...]
    values: tuple[Price, ...]


class RollingVolatility(Document):
    """Volatility over the sessions up to each one, annualised: 0.2 is 20 % a year."""

    estimator: Literal["close_to_close", "parkinson", "garman_klass"]
    window: int = Field(description="Sessions.")
    last: Number | None = Field(description="At the last session.")
    median: Number | None
    series: Series


class Volatility(Document):
    """Close-to-close, and range-based; the latter see nothing of the moves between sessions."""

    rolling: tuple[RollingVolatility, ...]
    n_without_range: int = Field(
        description="Sessions whose high and low are equal or unknown; range-based figures leave them out."
    )


class DrawdownEpisode(Document):
    """From a peak of the close down to its trough and back."""

    peak: dt.date
    trough: dt.date
    recovery: dt.date | None = Field(description="First close at or above the peak; null where there is none yet.")
    depth: Number = Field(description="close at the trough / close at the peak − 1; −0.5 is half lost.")
    n_sessions_down: int = Field(description="Sessions from peak to trough.")
    n_sessions: int = Field(description="Sessions from peak to recovery, or to the last session.")


class Drawdowns(Document):
    """How far the close stood below its highest so far."""

    current: Number
    series: Series
    deepest: tuple[DrawdownEpisode, ...] = Field(description="Up to five, deepest first.")


class SeasonGroup(Document):
    """The sessions of one weekday or month."""

    name: str
    n: int
    mean_log_return: Number
    lower: Number | None = Field(description="95 % confidence bound of the mean; null below 10 sessions.")
    upper: Number | None


class Seasonality(Document):
    """Mean log return by weekday or month, with error bars that allow for changing volatility and correlation."""

    groups: tuple[SeasonGroup, ...]
    hac_lags: int = Field(description="Lags of the Newey–West covariance behind bounds and test.")
    p_value: PValue = Field(description="Joint F test that all means are equal, same covariance; null with one group.")
    interpretation: str


class Seasons(Document):
    """By the day on which a return ends."""

    weekday: Seasonality
    month: Seasonality


class LjungBox(Document):
    """Whether the first ``lags`` autocorrelations together are more than chance; supposes constant volatility."""

    lags: int
    statistic: Number | None
    p_value: PValue


class Correlogram(Document):
    """Autocorrelation at lags 1, 2 …; beyond a bound it is rare (1 in 20) where there is none."""

    lags: tuple[int, ...]
    acf: tuple[Number | None, ...]
    acf_bound: tuple[Number | None, ...] = Field(description="± bound by Bartlett's formula.")
    acf_robust_bound: tuple[Number | None, ...] = Field(
        description="± bound that allows for changing volatility; the one to go by for returns."
    )
    pacf: tuple[Number | None, ...] = Field(description="Partial: with the lags between held fixed.")
    pacf_bound: Number = Field(description="± 1.96 / √n.")
    ljung_box: tuple[LjungBox, ...]


class Dependence(Document):
    """Whether returns depend on past ones, in their sign and in their size."""

    returns: Correlogram
    squared_returns: Correlogram
    interpretation: str


class UnitRootTest(Document):
    """ADF (hypothesis: unit root, a random walk) or KPSS (hypothesis: stationary)."""

    test: Literal["adf", "kpss"]
    of: Literal["log_closes", "log_returns"]
    regression: Literal["c", "ct"] = Field(description="Allowed for: a constant, or a constant and a trend.")
    lags: int | None
    statistic: Number | None
    p_value: PValue
    p_value_note: str | None = Field(description="Where the table ends: at most 0.01, at least 0.1.")


class Stationarity(Document):
    """Whether closes and returns keep their mean."""

    tests: tuple[UnitRootTest, ...]
    interpretation: str


class MissingRun(Document):
    """Successive sessions of the exchange's calendar that the series lacks."""

    first: dt.date
    last: dt.date
    n_sessions: int


class OvernightGap(Document):
    """An open far from the close before."""

    session: dt.date
    log_return: Number = Field(description="ln(open / close before).")
    mad_zscore: Number = Field(description="The same in robust sds of the log return from close to close.")


class SuspectedSplit(Document):
    """A close that stands to the one before as an unadjusted split would have it."""

    session: dt.date
    ratio: Number = Field(description="close / close before.")
    near: str = Field(description="The ratio of small whole numbers it is near to.")
    mad_zscore: Number = Field(description="Distance of the log return from the median in robust standard deviations.")


class Irregularities(Document):
    """What may be wrong with the series; lists are cut, counts are of all."""

    exchange: str = Field(description="Name of the trading calendar.")
    n_missing_sessions: int
    missing: tuple[MissingRun, ...] = Field(description="The longest, in order of time; at most 50.")
    n_unexpected_sessions: int = Field(description="Sessions held that the calendar does not know.")
    robust_sd_threshold: float = Field(description="Beyond so many robust sds a gap or a ratio is told.")
    n_overnight_gaps: int
    overnight_gaps: tuple[OvernightGap, ...] = Field(description="The largest, in order of time; at most 20.")
    suspected_splits: tuple[SuspectedSplit, ...] = Field(description="The largest, in order of time; at most 20.")


class Analysis(Document):
    """The history of one ticker, described."""

    ticker: Ticker
    currency: str | None
    source: str
    first_session: dt.date
    last_session: dt.date
    n_sessions: int
    stale: bool
    demo: bool = Field(description="Whether these are sample prices, which end in 2018.")
    dropped: dict[str, int] = Field(description="Rows of the whole history that were left out, by reason.")
    repaired: dict[str, int] = Field(
        description="Cells of the whole history that were not usable and count as unknown, by column."
    )
    sessions_per_year: Number = Field(description="Of the exchange's calendar in these years; annualises.")
    closes: PriceLine
    summary: Summary
    distribution: Distribution
    volatility: Volatility
    drawdowns: Drawdowns
    seasonality: Seasons
    dependence: Dependence
    stationarity: Stationarity
    irregularities: Irregularities
    warnings: tuple[str, ...]
