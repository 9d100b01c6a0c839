"""The analysis of a ticker's history: statistics, tests and series of its closes and log returns."""

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer, model_validator

from schemas.common import Document, Language, Price, Request, Ticker

Number = Annotated[float, PlainSerializer(lambda value: float(f"{value:.6g}"), when_used="json")]
"""Written with six significant digits."""

PValue = Annotated[Number | None, Field(ge=0, le=1)]


class AnalysisRequest(Request):
    start: Annotated[dt.date | None, Field(description="First session; the first one known by default.")] = None
    end: Annotated[dt.date | None, Field(description="Last session, included; the newest by default.")] = None
    format: Annotated[
        Literal["json", "html"], Field(description="Figures, or one HTML page that needs no network.")
    ] = "json"

    lang: Annotated[
        Language | None,
        Field(description="Language of the HTML page; by default the one that Accept-Language prefers."),
    ] = None

    @model_validator(mode="after")
    def _dates_in_order(self) -> "AnalysisRequest":
        if self.start and self.end and self.start > self.end:
            raise ValueError(f"start {self.start} must not be after end {self.end}")
        return self


class Quantile(Document):
    level: float = Field(description="Quantile level, in (0, 1).")
    value: Price | None


class Moments(Document):
    """Summary statistics of closes (in quote currency) or of log returns; null if a figure overflows."""

    n: int = Field(description="Number of values.")
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
    """A quantile of the log returns, and the same quantile of a normal distribution with their mean and sd."""

    level: float = Field(description="Quantile level, in (0, 1).")
    empirical: Number = Field(description="Quantile of the log returns.")
    normal: Number = Field(description="Quantile of the normal distribution.")


class Distribution(Document):
    bin_edges: tuple[Number, ...] = Field(description="Log returns; one more than counts.")
    counts: tuple[int, ...] = Field(description="Sessions in each bin.")
    n_below: int = Field(description="Sessions below the first edge.")
    n_above: int = Field(description="Sessions above the last edge.")
    skewness: Number | None = Field(description="0 for a symmetric distribution.")
    excess_kurtosis: Number | None = Field(description="0 for a normal distribution; above, tails are fat.")
    tails: tuple[TailQuantile, ...]
    n_beyond_3_sd: int = Field(description="Sessions more than three sds from the mean.")
    n_beyond_3_sd_if_normal: Number = Field(description="The same number, expected of a normal distribution.")
    jarque_bera: Number | None = Field(description="Statistic; about 2 on average for independent normal returns.")
    jarque_bera_p_value: PValue = Field(description="A small value rejects normality.")
    interpretation: str = Field(description="What the figures mean, in one or two sentences.")


class Series(Document):
    """A thinned series: every k-th value, and always the smallest and the largest."""

    sessions: tuple[dt.date, ...]
    values: tuple[Number | None, ...]


class PriceLine(Document):
    """Closes in quote currency, thinned like ``Series``."""

    sessions: tuple[dt.date, ...]
    values: tuple[Price, ...]


class RollingVolatility(Document):
    """Annualised volatility over a rolling window: 0.2 is 20 % a year."""

    estimator: Literal["close_to_close", "parkinson", "garman_klass"]
    window: int = Field(description="Sessions.")
    last: Number | None = Field(description="At the last session.")
    median: Number | None = Field(description="Median over the whole history.")
    series: Series


class Volatility(Document):
    """Close-to-close and range-based volatility; the latter ignores the moves between sessions."""

    rolling: tuple[RollingVolatility, ...]
    n_without_range: int = Field(
        description="Sessions whose high and low are equal or unknown; range-based volatility skips them."
    )


class DrawdownEpisode(Document):
    peak: dt.date = Field(description="Session of the highest close before the drawdown.")
    trough: dt.date = Field(description="Session of the lowest close of the drawdown.")
    recovery: dt.date | None = Field(description="First close at or above the peak; null if there is none yet.")
    depth: Number = Field(description="close at the trough / close at the peak − 1; −0.5 is half lost.")
    n_sessions_down: int = Field(description="Sessions from peak to trough.")
    n_sessions: int = Field(description="Sessions from peak to recovery, or to the last session.")


class Drawdowns(Document):
    """close / highest close so far − 1."""

    current: Number = Field(description="At the last session; 0 at a new peak, −0.1 is 10 % below the peak.")
    series: Series
    deepest: tuple[DrawdownEpisode, ...] = Field(description="Up to five, deepest first.")


class SeasonGroup(Document):
    name: str = Field(description="Weekday or month.")
    n: int = Field(description="Returns in the group.")
    mean_log_return: Number = Field(description="Per session.")
    lower: Number | None = Field(description="95 % confidence bound of the mean; null below 10 sessions.")
    upper: Number | None = Field(description="Like lower.")


class Seasonality(Document):
    """Mean log return by weekday or month, with error bars that allow for changing volatility and correlation."""

    groups: tuple[SeasonGroup, ...]
    hac_lags: int = Field(description="Lags of the Newey–West covariance behind bounds and test.")
    p_value: PValue = Field(
        description="Of the joint F test that all means are equal, with the same covariance; null with one group."
    )
    interpretation: str = Field(description="What the figures mean, in one or two sentences.")


class Seasons(Document):
    weekday: Seasonality
    month: Seasonality


class LjungBox(Document):
    """Tests that the first ``lags`` autocorrelations are all zero; assumes constant volatility."""

    lags: int = Field(description="How many of the first lags are tested together.")
    statistic: Number | None
    p_value: PValue = Field(description="Small: some autocorrelation is not zero.")


class Correlogram(Document):
    """Autocorrelations by lag; without correlation, 1 in 20 exceeds its bound by chance."""

    lags: tuple[int, ...] = Field(description="In sessions, 1 to 40.")
    acf: tuple[Number | None, ...] = Field(description="Autocorrelation at each lag; null if the values never vary.")
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
    interpretation: str = Field(description="What the figures mean, in one or two sentences.")


class UnitRootTest(Document):
    """ADF (hypothesis: unit root, a random walk) or KPSS (hypothesis: stationary)."""

    test: Literal["adf", "kpss"]
    of: Literal["log_closes", "log_returns"] = Field(description="The series that is tested.")
    regression: Literal["c", "ct"] = Field(description="Deterministic part: a constant, or a constant and a trend.")
    lags: int | None = Field(description="Lags of the test, chosen from the data.")
    statistic: Number | None
    p_value: PValue = Field(description="Small: the hypothesis is rejected.")
    p_value_note: str | None = Field(
        description="If the KPSS p-value is beyond its table: at most 0.01, or at least 0.1."
    )


class Stationarity(Document):
    tests: tuple[UnitRootTest, ...]
    interpretation: str = Field(description="What the figures mean, in one or two sentences.")


class MissingRun(Document):
    """Consecutive sessions of the exchange's calendar that are missing."""

    first: dt.date
    last: dt.date
    n_sessions: int


class OvernightGap(Document):
    session: dt.date
    log_return: Number = Field(description="ln(open / previous close).")
    mad_zscore: Number = Field(
        description="log_return divided by the robust sd (1.4826 × MAD) of the close-to-close log returns."
    )


class SuspectedSplit(Document):
    """A close whose ratio to the previous one looks like an unadjusted split."""

    session: dt.date
    ratio: Number = Field(description="close / previous close.")
    near: str = Field(description="The nearest usual split, as a ratio of prices.")
    mad_zscore: Number = Field(
        description="(log return − median) divided by the robust sd (1.4826 × MAD) of the log returns."
    )


class DataQuality(Document):
    """Possible defects of the series. Lists are limited in length; counts are complete."""

    exchange: str = Field(description="Name of the trading calendar.")
    n_missing_sessions: int = Field(description="Sessions of the calendar that the series does not have.")
    missing: tuple[MissingRun, ...] = Field(description="The longest, in order of time; at most 50.")
    n_unexpected_sessions: int = Field(description="Sessions of the series that the calendar does not have.")
    mad_zscore_threshold: float = Field(description="Overnight gaps and splits are listed above this mad_zscore.")
    n_overnight_gaps: int = Field(description="Opens too far from the previous close, see mad_zscore_threshold.")
    overnight_gaps: tuple[OvernightGap, ...] = Field(description="The largest, in order of time; at most 20.")
    suspected_splits: tuple[SuspectedSplit, ...] = Field(description="The largest, in order of time; at most 20.")


class Analysis(Document):
    ticker: Ticker
    currency: str | None = Field(description="ISO code of the quote currency; null if the source does not say.")
    source: str = Field(description="Where the prices come from: yahoo, sample or csv.")
    first_session: dt.date
    last_session: dt.date
    n_sessions: int = Field(description="Sessions analysed.")
    stale: bool = Field(description="Whether a newer completed session should exist but is missing.")
    demo: bool = Field(description="Whether these are the sample prices, which end in December 2018.")
    dropped: dict[str, int] = Field(description="Rows dropped from the whole history, by reason.")
    repaired: dict[str, int] = Field(
        description="Prices or volumes of the whole history that were set to unknown, by column."
    )
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
    warnings: tuple[str, ...] = Field(description="Missing, repaired or suspect prices among the sessions analysed.")
