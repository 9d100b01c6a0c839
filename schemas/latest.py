"""The forecasts that a nightly run publishes: the stored documents, and the answers that are read from them."""

from datetime import date, datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from schemas.alias import AliasName
from schemas.batch import SymbolError
from schemas.common import TICKER_PATTERN, Document, ModelId, Percent, Price, Request, Ticker
from schemas.predict import ESTIMATED, THROUGH_ALIAS, Explanation, Interval, Step
from schemas.realised import DriftStatus

MAX_PAGE = 1000
MAX_NAMED = 100  # failures that an answer names; the document names all

SORT_PATTERN = r"^-?(ticker|change|move|relative_move|range|drift)$"


class FailedTicker(SymbolError):
    """Why a ticker has no forecast: the error that a request for this ticker alone would get."""

    ticker: str
    failed_at: datetime = Field(description="When it was tried, in UTC.")


class _About(Document):
    """What is known of one ticker's forecast, whatever the step."""

    ticker: Ticker
    currency: str | None = Field(description="ISO code of the quote currency; null if the source does not say.")
    exchange: str = Field(description="Name of the trading calendar.")
    source: str = Field(description="Where the prices come from: yahoo, sample or csv.")
    demo: bool = Field(description="Whether these are the sample prices, which end in December 2018.")
    model_id: ModelId
    alias: AliasName | None = Field(description=THROUGH_ALIAS)
    model: str = Field(description="Kind of model, such as return_lstm.")
    target_column: str = Field(description="The price that is forecast.")
    as_of: date = Field(description="The last session known to the forecast.")
    last_close: Price = Field(description="The last known close, whatever the target column.")
    persistence: Price = Field(description="The no-change forecast of every step.")
    closes: tuple[Price, ...] = Field(description="The last 30 closes known to the forecast, oldest first.")
    drift: DriftStatus | None = Field(
        description="Whether the model still fits the ticker; null with too few sessions to say."
    )
    warnings: tuple[str, ...] = Field(description="About the model and about missing, repaired or suspect prices.")
    made_at: datetime = Field(description="When the forecast was made, in UTC.")


class StoredForecast(_About):
    """One ticker's forecast as it is stored: steps as columns."""

    explanation: Explanation
    sessions: tuple[date, ...]
    estimated: tuple[bool, ...]
    median: tuple[Price, ...]
    lower: tuple[tuple[Price, ...], ...] = Field(description="A row for each step, a column for each level.")
    upper: tuple[tuple[Price, ...], ...] = Field(description="As ``lower``.")

    @model_validator(mode="after")
    def _has_steps(self) -> Self:
        n = len(self.sessions)
        if n == 0 or {len(self.estimated), len(self.median), len(self.lower), len(self.upper)} != {n}:
            raise ValueError("expected at least one step, with its session, median and bounds")
        return self


class Publication(Document):
    """The forecasts of one run; written once, except for a draft."""

    format_version: Literal[1] = 1
    made_at: datetime
    horizon: int = Field(ge=1)
    levels: tuple[float, ...]
    forecasts: tuple[StoredForecast, ...] = Field(description="Only a draft may have none.")
    failed: tuple[FailedTicker, ...]

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        if len({one.ticker for one in self.forecasts}) != len(self.forecasts):
            raise ValueError("expected each ticker once")
        n = len(self.levels)
        if any(len(row) != n for one in self.forecasts for row in (*one.lower, *one.upper)):
            raise ValueError("expected a bound of each level")
        return self


class Pointer(Document):
    """Which publication is the latest; replaced by each run."""

    document: str = Field(pattern=r"^forecasts/[0-9A-Za-z_-]+\.json$", max_length=200)
    made_at: datetime


class LatestForecast(_About):
    """The next session of one ticker, from the last nightly run."""

    stale: bool = Field(description="Whether a newer session of the exchange has closed than the forecast knows.")
    session: date = Field(description="The session forecast.")
    estimated: bool = Field(description=ESTIMATED)
    price: Price = Field(description="The median, in quote currency.")
    change_pct: Percent = Field(description="Of the median against the last close.")
    intervals: tuple[Interval, ...] = Field(description="At levels 0.8 and 0.95.")
    expected_move_pct: Percent = Field(
        description="One standard deviation of the next session's log return, in percent: half its 68.27 % interval."
    )
    usual_move_pct: Percent | None = Field(
        description="The median of the same over the ticker's last 250 sessions; null where there are fewer."
    )


class LatestTicker(LatestForecast):
    """All steps of one ticker, from the last nightly run."""

    published_at: datetime = Field(description="When the run was published, in UTC.")
    horizon: int = Field(description="Sessions forecast.")
    explanation: Explanation
    forecast: tuple[Step, ...]


class LatestModel(Document):
    """A model that made forecasts of the run."""

    model_id: ModelId
    model: str = Field(description="Kind of model, such as return_lstm.")
    n_tickers: int


class LatestForecasts(Document):
    """The forecasts of the last nightly run, one row for each ticker, a page at a time."""

    made_at: datetime = Field(description="When the run was published, in UTC.")
    as_of: date = Field(description="The newest session known to any of the forecasts.")
    session: date = Field(description="The session that most of the forecasts are for.")
    stale: bool = Field(
        description="Whether a newer session of any of the exchanges has closed than the run knew: a night is missing, "
        "or has not run yet."
    )
    horizon: int = Field(description="Sessions forecast; GET /forecasts/latest/{ticker} has all of them.")
    levels: tuple[float, ...] = Field(description="Coverage levels of the intervals.")
    n_tickers: int = Field(description="Tickers with a forecast.")
    n_stale: int = Field(description="Those of them whose own prices are not the newest.")
    n_failed: int = Field(description="Tickers without a forecast.")
    n_models: int
    models: tuple[LatestModel, ...] = Field(description="The 20 models with most tickers.")
    failed: tuple[FailedTicker, ...] = Field(
        description="Tickers without a forecast, 100 at most; of the tickers asked for, if any are."
    )
    forecasts: tuple[LatestForecast, ...]
    next_after: Ticker | None = Field(description="Pass it as `after` for the next page; null on the last one.")


MAX_TICKERS = 1000  # of one question


def _tickers(text: str) -> str:
    """The tickers in capitals, each once."""
    found = dict.fromkeys(one.strip().upper() for one in text.split(","))
    if len(found) > MAX_TICKERS:
        raise ValueError(f"expected at most {MAX_TICKERS} tickers, found {len(found)}")
    wrong = next((one for one in found if not TICKER_PATTERN.fullmatch(one)), None)
    if wrong is not None:
        raise ValueError(f"expected tickers with commas between, such as AAPL,MSFT, found {wrong[:40]!r}")
    return ",".join(found)


class LatestQuery(Request):
    """Which rows, in which order."""

    tickers: Annotated[
        str | None,
        Field(
            max_length=24_000, description="Only these, with commas between; by default all.", examples=["AAPL,MSFT"]
        ),
        AfterValidator(lambda text: None if text is None else _tickers(text)),
    ] = None
    sort: Annotated[
        str,
        Field(
            pattern=SORT_PATTERN,
            description="ticker, change, move (expected), relative_move (expected / usual), range (80 % range / price) "
            "or drift (worst first); with - in front in the opposite order.",
        ),
    ] = "ticker"
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE, description="Rows in the answer.")] = 500
    after: Annotated[Ticker | None, Field(description="Start after this ticker of the same order.")] = None


class FetchReport(Document):
    """The prices that one call has fetched; a caller repeats it until ``next_after`` is null."""

    n_tickers: int = Field(description="Tickers of the nightly run.")
    n_fetched: int = Field(description="Those that this call has the newest prices of.")
    failed: tuple[FailedTicker, ...] = Field(description="Those that this call has no prices of, 100 at most.")
    next_after: str | None = Field(description="Pass it as `after` to continue; null at the end.")
    retry_after_s: int | None = Field(
        default=None, description="Seconds to wait before the next call, where the source limits requests."
    )


class PublishReport(Document):
    """What one call has forecast; a caller repeats it until ``n_left`` is 0."""

    n_tickers: int = Field(description="Tickers of the nightly run.")
    n_made: int = Field(description="Forecasts made by this call.")
    n_kept: int = Field(description="Forecasts that an earlier call made from the same prices and model.")
    n_failed: int = Field(description="Tickers without a forecast.")
    n_left: int = Field(description="Tickers that the next call forecasts.")
    failed: tuple[FailedTicker, ...] = Field(description="Tickers without a forecast, 100 at most.")
    published_at: datetime | None = Field(
        description="When the forecasts were published, in UTC; null while some are left, or if no ticker has one."
    )
