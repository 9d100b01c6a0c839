"""The analysis of a ticker's history: statistics, tests and series of its closes and log returns."""

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer, model_validator

from schemas.common import Document, Price, Request, Ticker

Number = Annotated[float, PlainSerializer(lambda value: float(f"{value:.6g}"), when_used="json")]
"""Written with six significant digits."""

PValue = Annotated[Number | None, Field(ge=0, le=1)]


class AnalysisRequest(Request):
    start: Annotated[dt.date | None, Field(description="First session; the first one known by default.")] = None
    end: Annotated[dt.date | None, Field(description="Last session, included; the newest by default.")] = None
    format: Annotated[
        Literal["json", "html"], Field(description="Figures, or one HTML page that needs no network.")
    ] = "json"

    @model_validator(mode="after")
    def _dates_in_order(self) -> "AnalysisRequest":
        if self.start and self.end and self.start > self.end:
            raise ValueError(f"start {self.start} must not be after end {self.end}")
        return self


class Quantile(Document):
    level: float
    value: Price | None


class Moments(Document):
    """Of closes in quote currency, or of log returns; null where a figure overflows."""

    n: int
    mean: Price | None
    sd: Price | None = Field(description="Standard deviation, with n − 1.")
    min: Price
    max: Price
    quantiles: tuple[Quantile, ...]


class Summary(Document):
    closes: Moments
    log_returns: Moments
    annualised_volatility: Number = Field(description="sd of the log returns × √sessions_per_year: 0.2 is 20 % a year.")
    annualised_mean_log_return: Number = Field(description="Mean log return × sessions_per_year.")
    total_log_return: Number = Field(description="ln(last close / first close).")


class TailQuantile(Document):
    """A quantile of the log returns, and that of a normal distribution of the same mean and sd."""

    level: float
    empirical: Number
    normal: Number


class Distribution(Document):
    bin_edges: tuple[Number, ...] = Field(description="Log returns; one more than counts.")
    counts: tuple[int, ...] = Field(description="Sessions in each bin.")
    n_below: int = Field(description="Sessions below the first edge.")
    n_above: int = Field(description="Sessions above the last edge.")
    skewness: Number | None = Field(description="0 for a symmetric distribution.")
    excess_kurtosis: Number | None = Field(description="0 for a normal distribution; above, tails are fat.")
    tails: tuple[TailQuantile, ...]
    n_beyond_3_sd: int = Field(description="Sessions more than three sds from the mean.")
    n_beyond_3_sd_if_normal: Number
    jarque_bera: Number | None = Field(description="Statistic; about 2 on average for independent normal returns.")
    jarque_bera_p_value: PValue = Field(description="A small value rejects normality.")
    interpretation: str


class Series(Document):
    """Thinned: every k-th value, and always the smallest and the largest."""

    sessions: tuple[dt.date, ...]
    values: tuple[Number | None, ...]


class PriceLine(Document):
    """Closes in quote currency, thinned like ``Series``."""

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
    """Close-to-close and range-based volatility; the latter ignores the moves between sessions."""

    rolling: tuple[RollingVolatility, ...]
    n_without_range: int = Field(
        description="Sessions whose high and low are equal or unknown; range-based volatility skips them."
    )


class DrawdownEpisode(Document):
    peak: dt.date
    trough: dt.date
    recovery: dt.date | None = Field(description="First close at or above the peak; null if there is none yet.")
    depth: Number = Field(description="close at the trough / close at the peak − 1; −0.5 is half lost.")
    n_sessions_down: int = Field(description="Sessions from peak to trough.")
    n_sessions: int = Field(description="Sessions from peak to recovery, or to the last session.")


class Drawdowns(Document):
    """close / highest close so far − 1."""

    current: Number
    series: Series
    deepest: tuple[DrawdownEpisode, ...] = Field(description="Up to five, deepest first.")


class SeasonGroup(Document):
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
    weekday: Seasonality
    month: Seasonality


class LjungBox(Document):
    """Tests that the first ``lags`` autocorrelations are all zero; assumes constant volatility."""

    lags: int
    statistic: Number | None
    p_value: PValue


class Correlogram(Document):
    """Autocorrelations by lag; without correlation, 1 in 20 exceeds its bound by chance."""

    lags: tuple[int, ...]
    acf: tuple[Number | None, ...]
    acf_bound: tuple[Number | None, ...] = Field(description="± bound by Bartlett's formula.")
    acf_robust_bound: tuple[Number | None, ...] = Field(
        description="± bound that allows for changing volatility; use this one for returns."
    )
    pacf: tuple[Number | None, ...] = Field(description="Partial autocorrelation, given the lags between.")
    pacf_bound: Number = Field(description="± 1.96 / √n.")
    ljung_box: tuple[LjungBox, ...]


class Dependence(Document):
    returns: Correlogram
    squared_returns: Correlogram
    interpretation: str


class UnitRootTest(Document):
    """ADF (hypothesis: unit root, a random walk) or KPSS (hypothesis: stationary)."""

    test: Literal["adf", "kpss"]
    of: Literal["log_closes", "log_returns"]
    regression: Literal["c", "ct"] = Field(description="Deterministic part: a constant, or a constant and a trend.")
    lags: int | None
    statistic: Number | None
    p_value: PValue
    p_value_note: str | None = Field(description="At the ends of the KPSS table: at most 0.01, at least 0.1.")


class Stationarity(Document):
    tests: tuple[UnitRootTest, ...]
    interpretation: str


class MissingRun(Document):
    """Consecutive sessions of the exchange's calendar that are missing."""

    first: dt.date
    last: dt.date
    n_sessions: int


class OvernightGap(Document):
    session: dt.date
    log_return: Number = Field(description="ln(open / previous close).")
    mad_zscore: Number = Field(description="log_return in robust sds of the log returns from close to close.")


class SuspectedSplit(Document):
    """A close whose ratio to the previous one looks like an unadjusted split."""

    session: dt.date
    ratio: Number = Field(description="close / previous close.")
    near: str = Field(description="The nearest usual split, as a ratio of prices.")
    mad_zscore: Number = Field(description="Distance of the log return from the median in robust standard deviations.")


class DataQuality(Document):
    """Possible defects of the series; lists are cut, counts are complete."""

    exchange: str = Field(description="Name of the trading calendar.")
    n_missing_sessions: int
    missing: tuple[MissingRun, ...] = Field(description="The longest, in order of time; at most 50.")
    n_unexpected_sessions: int = Field(description="Sessions of the series that the calendar does not have.")
    robust_sd_threshold: float = Field(description="Robust sds above which a gap or a ratio is listed.")
    n_overnight_gaps: int
    overnight_gaps: tuple[OvernightGap, ...] = Field(description="The largest, in order of time; at most 20.")
    suspected_splits: tuple[SuspectedSplit, ...] = Field(description="The largest, in order of time; at most 20.")


class Analysis(Document):
    ticker: Ticker
    currency: str | None
    source: str
    first_session: dt.date
    last_session: dt.date
    n_sessions: int
    stale: bool
    demo: bool = Field(description="Whether these are sample prices, which end in 2018.")
    dropped: dict[str, int] = Field(description="Rows dropped from the whole history, by reason.")
    repaired: dict[str, int] = Field(description="Unusable cells of the whole history, now unknown, by column.")
    sessions_per_year: Number = Field(description="Sessions in a year of the exchange's calendar.")
    closes: PriceLine
    summary: Summary
    distribution: Distribution
    volatility: Volatility
    drawdowns: Drawdowns
    seasonality: Seasons
    dependence: Dependence
    stationarity: Stationarity
    data_quality: DataQuality
    warnings: tuple[str, ...]
