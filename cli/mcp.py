"""Forecasts for AI assistants: a server of the Model Context Protocol on standard input and output.

Every tool goes through the client of the command line. No answer has a forecast without its range, the no-change
forecast and how accurate both were: an assistant that is given a number alone passes on a number alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, Field

from cli.exits import hint
from cli.options import given, model_or_own
from cli.target import target_of
from stock_forecast_client import Client, StockForecastError
from stock_forecast_client.models import (
    BacktestResponse,
    Coverage,
    Evidence,
    ForecastResponse,
    IntervalScores,
    Step,
    SymbolFound,
)
from stock_forecast_client.version import VERSION

if TYPE_CHECKING:
    from mcp.server import MCPServer

MAX_DAYS, MAX_LEVELS, MAX_TICKERS, MAX_SYMBOLS = 30, 5, 10, 20

INSTRUCTIONS = """
Forecasts of daily closing prices, each with a calibrated range. How to pass them on:

- Never state a forecast price without its range and the level of the range. The median alone is not a prediction.
- Say what the no-change forecast is, and how accurate both were on sessions that the model had not seen. Often the
  model's median is no better than "no change"; the range is the useful part.
- Say so if the prices are stale or demo prices, and pass on warnings.
- Nothing here is advice to buy or sell.
- Use `symbols` first if you have a name and no ticker. An error names a code and what to do.
"""

Ticker = Annotated[
    str, Field(min_length=1, max_length=24, description="Symbol as on Yahoo Finance, such as PETR4.SA, AAPL or ^GSPC.")
]
Days = Annotated[int, Field(ge=1, le=MAX_DAYS, description="Sessions (trading days) ahead.")]
Level = Annotated[float, Field(ge=0.5, le=0.99)]
Levels = Annotated[
    list[Level],
    Field(min_length=1, max_length=MAX_LEVELS, description="Coverage of the ranges: 0.8 should contain 80% of closes."),
]


class McpUnavailable(StockForecastError, code="mcp_unavailable", status=501):
    """This installation has no package ``mcp``."""


class Range(BaseModel):
    """Where the close should be, with the probability ``level``."""

    level: float
    lower: float
    upper: float


class Day(BaseModel):
    """The forecast of one session. Never pass on ``median`` without ``ranges``."""

    session: date
    ranges: list[Range]
    median: float
    no_change: float = Field(description="The forecast that the price does not change.")
    sentence: str


class Containment(BaseModel):
    """How many past closes were inside the ranges of a level."""

    level: float
    contained: float = Field(description="Share of the closes, as a fraction; near the level if the ranges are honest.")


class Accuracy(BaseModel):
    """How accurate the model and the no-change forecast were, from the same past sessions."""

    measured_on: str = Field(description="The tickers of those sessions.")
    n_forecasts: int
    sessions_ahead: int | None = Field(description="Null: all steps together.")
    model_error_pct: float = Field(description="Mean absolute error of the median, in percent of the price.")
    no_change_error_pct: float
    p_value: float | None = Field(description="Of the difference: small if chance hardly explains it.")
    range_skill: float | None = Field(
        description="1 - CRPS / CRPS of no change, which scores median and ranges together; above 0 is better."
    )
    ranges: list[Containment]
    sentence: str


class Forecast(BaseModel):
    """Forecast closes with their ranges, and how far to trust them."""

    ticker: str
    currency: str | None
    last_close: float
    last_session: date
    stale: bool = Field(description="Whether a newer session exists that the prices lack.")
    demo: bool = Field(description="Whether these are sample prices, which end in 2018.")
    model_id: str
    days: list[Day]
    accuracy: Accuracy
    warnings: list[str]


class Explained(BaseModel):
    """Why the range of the next session is as wide as it is."""

    ticker: str
    expected_move_pct: float = Field(description="One standard deviation of the next session, in percent.")
    usual_move_pct: float | None = Field(description="The median of the same over the last 250 sessions.")
    market: str | None = Field(description="The index that the model read with the ticker's prices.")
    sentence: str
    forecast: Forecast


class Failed(BaseModel):
    """A ticker without a forecast, and why."""

    ticker: str
    code: str
    detail: str
    what_to_do: str


class Comparison(BaseModel):
    """The forecasts of several tickers; a ticker that fails does not hide the others."""

    forecasts: list[Forecast]
    failed: list[Failed]


class Baseline(BaseModel):
    """A simple model, from the same past sessions."""

    name: str
    error_pct: float
    crps: float | None = Field(description="Of prices; lower is better.")


class Backtested(BaseModel):
    """How accurate the model would have been, knowing only the past."""

    ticker: str
    model_id: str
    first_origin: date
    last_origin: date
    horizon: int
    accuracy: Accuracy
    model_crps: float | None
    baselines: list[Baseline]
    demo: bool
    warnings: list[str]


class Found(BaseModel):
    """Symbols that a name may mean, best first."""

    symbols: list[SymbolFound]
    matched: bool = Field(description="False if nothing has that name; the symbols are then only spelled nearly so.")
    incomplete: str | None


def mcp(context: typer.Context) -> None:
    """Serve forecasts to AI assistants (Model Context Protocol) on standard input and output."""
    target = target_of(context)
    try:
        import mcp.server  # noqa: F401 - an optional package
    except ImportError:
        raise McpUnavailable("the package mcp is not installed; `make mcp` installs it") from None
    with target.client() as client:
        server_of(client, verbose=target.verbose).run("stdio")


def server_of(client: Client, *, verbose: bool = False) -> "MCPServer[Any]":
    """The server, whose tools call this client."""
    from mcp.server import MCPServer
    from mcp.types import ToolAnnotations

    server: MCPServer[Any] = MCPServer(
        "stock-forecast",
        title="Stock forecasts with ranges",
        instructions=INSTRUCTIONS,
        version=VERSION,
        log_level="INFO" if verbose else "ERROR",
    )
    reads = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=True)
    for tool in tools_of(client):
        server.tool(annotations=reads, structured_output=True)(tool)
    return server


def tools_of(client: Client) -> Sequence[Callable[..., BaseModel]]:
    """The tools. Their docstrings and fields are what an assistant reads."""

    def forecast(ticker: Ticker, days: Days = 5, levels: Levels = [0.8]) -> Forecast:  # noqa: B006 - a JSON default
        """Forecast the closing prices of a ticker's next sessions.

        Never give a forecast price without its range and level, the no-change forecast and the measured accuracy.
        """
        with _as_tool_errors():
            return _forecast(client, ticker, days, levels)

    def explain(ticker: Ticker) -> Explained:
        """Explain why the range of a ticker's next session is wide or narrow today, compared with what is usual.

        Never give a forecast price from the answer without its range.
        """
        with _as_tool_errors():
            answer = client.forecast(model_or_own(None, ticker), ticker=ticker, horizon=1)
            return Explained(
                ticker=answer.ticker,
                expected_move_pct=answer.explanation.expected_move_pct,
                usual_move_pct=answer.explanation.usual_move_pct,
                market=answer.inputs.market,
                sentence=answer.explanation.sentence,
                forecast=_forecast_of(answer),
            )

    def compare(
        tickers: Annotated[list[Ticker], Field(min_length=2, max_length=MAX_TICKERS)],
        days: Days = 5,
        levels: Levels = [0.8],  # noqa: B006
    ) -> Comparison:
        """Forecast several tickers in one call. A ticker that fails is listed with its reason.

        Compare ranges, not medians: a higher median does not make a better investment.
        """
        forecasts: list[Forecast] = []
        failed: list[Failed] = []
        for ticker in dict.fromkeys(tickers):
            try:
                forecasts.append(_forecast(client, ticker, days, levels))
            except StockForecastError as error:
                failed.append(
                    Failed(ticker=ticker, code=error.code, detail=error.message, what_to_do=_what_to_do(error))
                )
        return Comparison(forecasts=forecasts, failed=failed)

    def backtest(
        ticker: Ticker,
        days: Days = 5,
        start: Annotated[date | None, Field(description="First past session to forecast from.")] = None,
        end: Annotated[date | None, Field(description="Last session that may be known as an outcome.")] = None,
        levels: Levels = [0.8],  # noqa: B006
    ) -> Backtested:
        """Measure how accurate the model would have been on past sessions, next to no change and simple models.

        It may take minutes. Without dates, it uses sessions that the model has not seen.
        """
        with _as_tool_errors():
            request = given(
                ticker=ticker,
                horizon=days,
                start=None if start is None else start.isoformat(),
                end=None if end is None else end.isoformat(),
            )
            return _backtest_of(client.backtest(model_or_own(None, ticker), levels=levels, **request))

    def symbols(
        query: Annotated[str, Field(min_length=1, max_length=100, description="A name, such as Petrobras.")],
        limit: Annotated[int, Field(ge=1, le=MAX_SYMBOLS)] = 5,
    ) -> Found:
        """Find the ticker of a company, an index or a fund by its name."""
        with _as_tool_errors():
            answer = client.symbols(query, limit=limit)
            return Found(symbols=answer.symbols, matched=answer.matched, incomplete=answer.incomplete)

    return forecast, explain, compare, backtest, symbols


@contextmanager
def _as_tool_errors() -> Iterator[None]:
    """Let the assistant read the code of an error and what to do; it would see nothing of another exception."""
    from mcp.server.mcpserver.exceptions import ToolError

    try:
        yield
    except StockForecastError as error:
        raise ToolError(f"{error.code}: {error.message}. What to do: {_what_to_do(error)}") from error


def _what_to_do(error: StockForecastError) -> str:
    """The hint of the command line, whose options an assistant does not have."""
    return hint(error).replace("see --help", "correct the arguments")


def _forecast(client: Client, ticker: str, days: int, levels: Sequence[float]) -> Forecast:
    return _forecast_of(client.forecast(model_or_own(None, ticker), ticker=ticker, horizon=days, levels=levels))


def _forecast_of(answer: ForecastResponse) -> Forecast:
    return Forecast(
        ticker=answer.ticker,
        currency=answer.currency,
        last_close=answer.last_close,
        last_session=answer.last_session,
        stale=answer.stale,
        demo=answer.demo,
        model_id=answer.model_id,
        days=[_day(step, answer.currency) for step in answer.forecast],
        accuracy=_accuracy(answer.test),
        warnings=answer.warnings,
    )


def _day(step: Step, currency: str | None) -> Day:
    ranges = [Range(level=one.level, lower=one.lower, upper=one.upper) for one in step.intervals]
    bounds = ", ".join(f"{one.level:.0%} range {one.lower:,.2f} to {one.upper:,.2f}" for one in ranges)
    unit = f" {currency}" if currency else ""
    return Day(
        session=step.session,
        ranges=ranges,
        median=step.price,
        no_change=step.persistence,
        sentence=f"{step.session}: {bounds}{unit}, median {step.price:,.2f}; no change: {step.persistence:,.2f}.",
    )


def _accuracy(test: Evidence) -> Accuracy:
    tickers = ", ".join(test.tickers[:MAX_TICKERS]) + (" and others" if len(test.tickers) > MAX_TICKERS else "")
    return _accuracy_of(
        f"the universe {test.universe}" if test.universe is not None else tickers,
        test.n_origins,
        test.step,
        (test.model.mape, test.persistence.mape, test.p_value.mape, test.skill.crps),
        test.coverage,
    )


def _accuracy_of(
    measured_on: str,
    n_origins: int,
    step: int | None,
    errors: tuple[float, float, float | None, float | None],
    coverage: Sequence[Coverage | IntervalScores],
) -> Accuracy:
    model, no_change, p_value, skill = errors
    ranges = [Containment(level=one.level, contained=one.empirical_coverage) for one in coverage]
    contained = "".join(f" The {one.level:.0%} range contained {one.contained:.1%} of the closes." for one in ranges)
    ahead = "all sessions ahead together" if step is None else f"{step} session{'' if step == 1 else 's'} ahead"
    chance = "" if p_value is None else f" (p-value of the difference {p_value:.2g})"
    return Accuracy(
        measured_on=measured_on,
        n_forecasts=n_origins,
        sessions_ahead=step,
        model_error_pct=100 * model,
        no_change_error_pct=100 * no_change,
        p_value=p_value,
        range_skill=skill,
        ranges=ranges,
        sentence=f"In {n_origins} past forecasts of {measured_on}, {ahead}, the median was off by {model:.3%} on "
        f"average and no change by {no_change:.3%}{chance}.{contained}",
    )


def _backtest_of(answer: BacktestResponse) -> Backtested:
    overall = answer.model_report.overall
    return Backtested(
        ticker=answer.ticker,
        model_id=answer.model_id,
        first_origin=answer.first_origin,
        last_origin=answer.last_origin,
        horizon=answer.horizon,
        accuracy=_accuracy_of(
            answer.ticker,
            overall.n_origins,
            overall.step,
            (overall.model.mape, overall.persistence.mape, overall.p_value.mape, overall.skill.crps),
            overall.coverage,
        ),
        model_crps=overall.model.crps,
        baselines=[
            Baseline(name=one.name, error_pct=100 * one.overall.model.mape, crps=one.overall.model.crps)
            for one in answer.baselines
        ],
        demo=answer.demo,
        warnings=answer.warnings,
    )
