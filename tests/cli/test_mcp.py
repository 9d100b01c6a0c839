"""The server for assistants: the official client starts it as an assistant would, and talks over its pipes."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.mcp import MAX_DAYS, MAX_LEVELS, MAX_TICKERS

ROOT = Path(__file__).parents[2]
WITHIN_S = 60.0


@dataclass(frozen=True)
class Answer:
    """What a tool returned: its structured content, or the text of its error."""

    is_error: bool
    text: str
    content: dict[str, Any]


@dataclass(frozen=True)
class Visit:
    """All that one session with the server has shown."""

    instructions: str
    tools: dict[str, Any]
    answers: Sequence[Answer]


def visit(folder: Path, *options: str, calls: Sequence[tuple[str, dict[str, Any]]]) -> Visit:
    """Start ``stock-forecast mcp``, list its tools and call some, one after the other."""
    from mcp import Client  # takes half a second, and every process collects this module
    from mcp.client.stdio import StdioServerParameters

    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "cli", *options, "mcp"],
        env={"PYTHONPATH": str(ROOT), "PRICE_SOURCE": "sample", "DATA_DIR": str(folder), "OMP_NUM_THREADS": "1"},
        cwd=folder,
    )

    async def session() -> Visit:
        async with asyncio.timeout(WITHIN_S), Client(parameters) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            results = [await client.call_tool(name, arguments) for name, arguments in calls]
            answers = [
                Answer(bool(one.is_error), getattr(one.content[0], "text", ""), one.structured_content or {})
                for one in results
            ]
            return Visit(client.instructions or "", tools, answers)

    return asyncio.run(session())


CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("forecast", {"ticker": "^gspc", "days": 2, "levels": [0.8, 0.95]}),
    ("explain", {"ticker": "^GSPC"}),
    ("compare", {"tickers": ["^GSPC", "NOPE", "^IXIC", "^GSPC"], "days": 1}),
    ("backtest", {"ticker": "^GSPC", "days": 1, "start": "2018-10-01"}),
    ("symbols", {"query": "nasdaq"}),
)
FORECAST, EXPLAIN, COMPARE, BACKTEST, SYMBOLS = range(len(CALLS))
WRONG: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("forecast", {"ticker": "NOPE"}, "ticker_not_found: "),
    ("explain", {"ticker": "NOPE"}, "What to do: check the symbol"),
    ("backtest", {"ticker": "^GSPC", "start": "1800-01-01", "end": "1800-02-01"}, "What to do: "),
    ("forecast", {"ticker": "^GSPC", "days": MAX_DAYS + 1}, "less than or equal to"),
    ("forecast", {"ticker": "^GSPC", "levels": [1.5]}, "less than or equal to"),
    ("forecast", {"ticker": "^GSPC", "levels": [0.8] * (MAX_LEVELS + 1)}, "at most"),
    ("forecast", {"ticker": "A" * 1000}, "at most"),
    ("compare", {"tickers": ["^GSPC"] * (MAX_TICKERS + 1)}, "at most"),
    ("compare", {"tickers": ["^GSPC"]}, "at least 2"),
    ("backtest", {"ticker": "^GSPC", "start": "yesterday"}, "valid date"),
    ("symbols", {"query": "x" * 1000}, "at most"),
    ("buy", {"ticker": "^GSPC"}, "Unknown tool"),
)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    calls = [*CALLS, *((name, arguments) for name, arguments, _ in WRONG)]
    return visit(tmp_path_factory.mktemp("mcp"), calls=calls)


def assert_is_honest(forecast: dict[str, Any]) -> None:
    """Every price has its range and the no-change forecast, and the accuracy of both is there."""
    for day in forecast["days"]:
        assert day["no_change"] == forecast["last_close"]
        for one in day["ranges"]:
            assert one["lower"] < day["median"] < one["upper"]
            assert f"{one['level']:.0%} range {one['lower']:,.2f} to {one['upper']:,.2f}" in day["sentence"]
        assert f"no change: {day['no_change']:,.2f}" in day["sentence"]
    accuracy = forecast["accuracy"]
    assert accuracy["n_forecasts"] > 100
    assert accuracy["model_error_pct"] > 0
    assert accuracy["no_change_error_pct"] > 0
    assert [one["level"] for one in accuracy["ranges"]]
    assert forecast["demo"]


def test_the_tools_and_their_descriptions_say_never_to_pass_on_a_bare_number(local: Visit) -> None:
    assert {*local.tools} == {"forecast", "explain", "compare", "backtest", "symbols"}
    assert "Never state a forecast price without its range" in local.instructions
    for name in ("forecast", "explain"):
        assert "Never give a forecast price" in local.tools[name].description
    for tool in local.tools.values():
        assert tool.annotations.read_only_hint
        assert tool.output_schema["type"] == "object"


def test_a_forecast_has_ranges_no_change_and_accuracy(local: Visit) -> None:
    answer = local.answers[FORECAST]

    assert not answer.is_error, answer.text
    assert answer.content["ticker"] == "^GSPC"
    assert [day["session"] for day in answer.content["days"]] == ["2019-01-02", "2019-01-03"]
    assert [one["level"] for one in answer.content["days"][0]["ranges"]] == [0.8, 0.95]
    assert_is_honest(answer.content)


def test_an_explanation_compares_today_with_the_usual_day(local: Visit) -> None:
    content = local.answers[EXPLAIN].content

    assert content["expected_move_pct"] > content["usual_move_pct"] > 0  # the sample ends in a wild December
    assert content["sentence"].startswith("The expected daily move is")
    assert_is_honest(content["forecast"])


def test_a_ticker_that_fails_does_not_hide_the_others(local: Visit) -> None:
    content = local.answers[COMPARE].content

    assert [one["ticker"] for one in content["forecasts"]] == ["^GSPC", "^IXIC"]
    assert [(one["ticker"], one["code"]) for one in content["failed"]] == [("NOPE", "ticker_not_found")]
    assert content["failed"][0]["what_to_do"]
    for one in content["forecasts"]:
        assert_is_honest(one)


def test_a_backtest_has_the_baselines(local: Visit) -> None:
    content = local.answers[BACKTEST].content

    assert content["first_origin"] == "2018-10-01"
    assert content["accuracy"]["n_forecasts"] > 50
    assert "persistence" in [one["name"] for one in content["baselines"]]
    assert content["accuracy"]["measured_on"] == "^GSPC"


def test_a_symbol_is_found_by_its_name(local: Visit) -> None:
    content = local.answers[SYMBOLS].content

    assert content["matched"]
    assert content["symbols"][0]["symbol"] == "^IXIC"


@pytest.mark.parametrize(("number", "said"), [(number, said) for number, (_, _, said) in enumerate(WRONG)])
def test_an_error_says_what_is_wrong_and_what_to_do(local: Visit, number: int, said: str) -> None:
    answer = local.answers[len(CALLS) + number]

    assert answer.is_error
    assert said in answer.text
    assert "Traceback" not in answer.text


def test_with_an_address_the_tools_ask_that_server(server: str, tmp_path: Path) -> None:
    calls = [("forecast", {"ticker": "^IXIC", "days": 1})]

    (answer,) = visit(tmp_path, "--url", server, calls=calls).answers

    assert not answer.is_error, answer.text
    assert_is_honest(answer.content)


def test_a_server_that_is_away_is_an_error_of_the_tool(tmp_path: Path) -> None:
    (answer,) = visit(tmp_path, "--url", "http://127.0.0.1:9", calls=[("symbols", {"query": "x"})]).answers

    assert answer.is_error
    assert "service_unreachable: " in answer.text


def test_without_the_package_the_command_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server", None)

    result = CliRunner().invoke(app, ["mcp"])

    assert result.exit_code == 9
    assert "mcp_unavailable: the package mcp is not installed" in result.stderr
    assert "make mcp" in result.stderr
