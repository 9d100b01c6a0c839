"""The commands for universes, with a Yahoo on loopback."""

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

import bootstrap
from clock import utc_now
from config import Settings
from services.prices.calendars import last_completed_session, next_sessions
from services.prices.yahoo import YahooSource
from tests.cli.conftest import Run
from tests.fakes import walk_history, write_prices
from tests.yahoo_server import Quotes, Reply, YahooServer


@pytest.fixture(autouse=True)
def quotes(yahoo: YahooServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred sessions of three tickers, up to the newest."""
    newest = last_completed_session("XNYS", utc_now())
    sessions = [day for day in next_sessions("XNYS", newest - timedelta(days=120), 100) if day <= newest]
    for ticker in ("AAPL", "^GSPC", "^VIX"):
        yahoo.quotes[ticker] = Quotes(sessions, [100.0 + number for number in range(len(sessions))])

    def fetcher(settings: Settings) -> YahooSource:
        return YahooSource(tmp_path / "cookies", 5, attempts=1, session=yahoo.session(), backoff_s=0.01)

    monkeypatch.setattr(bootstrap, "yahoo_fetcher", fetcher)


@pytest.fixture
def tickers(tmp_path: Path) -> Path:
    path = tmp_path / "tickers.txt"
    path.write_text("AAPL\n")
    return path


def test_a_universe_is_downloaded_listed_and_shown(run: Run, tmp_path: Path, tickers: Path) -> None:
    here = {"DATA_DIR": str(tmp_path / "var")}

    done = run("universe", "download", "--tickers-file", tickers, "--name", "us", "--from", "2020-01-01", **here)
    listed = run("universe", "list", "--json", **here)
    shown = run("universe", "show", "us", **here)

    assert done.exit_code == 0, done.output
    assert "us: 3 files in " in done.stdout
    assert [path.name for path in sorted((tmp_path / "var" / "universes" / "us").glob("*.csv"))] == [
        "AAPL.csv",
        "^GSPC.csv",
        "^VIX.csv",
    ]
    assert json.loads(listed.stdout)["universes"] == [{"name": "us", "n_tickers": 2}]
    assert shown.exit_code == 0, shown.output
    assert "us: 2 tickers, " in shown.stdout
    assert " ".join(shown.stdout.split()).count("XNYS 1 ^GSPC ^VIX") == 1


def test_tickers_that_fail_are_named_with_the_exit_code_of_the_first(run: Run, tmp_path: Path, tickers: Path) -> None:
    tickers.write_text("AAPL\nNOPE\n")

    done = run("universe", "download", "--tickers-file", tickers, "--name", "us", DATA_DIR=str(tmp_path / "var"))

    assert done.exit_code == 3
    assert "NOPE: ticker_not_found" in done.stdout


def test_a_download_that_is_refused_says_how_to_continue(
    run: Run, tmp_path: Path, tickers: Path, yahoo: YahooServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.universe.time", SimpleNamespace(sleep=lambda _: None))
    yahoo.always = Reply(429, "Too Many Requests")

    done = run("universe", "download", "--tickers-file", tickers, "--name", "us", DATA_DIR=str(tmp_path / "var"))

    assert done.exit_code == 6
    assert "2 tickers left; run the same command later to continue" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "Not/a/name"], "lower-case letters"),
        (["--name", "us", "--from", "yesterday"], "expected a date"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_downloaded(
    run: Run, tmp_path: Path, tickers: Path, yahoo: YahooServer, arguments: list[str], message: str
) -> None:
    done = run("universe", "download", "--tickers-file", tickers, *arguments)

    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert yahoo.chart_requests == []


def test_an_unknown_universe_has_a_hint(run: Run) -> None:
    for command in (["universe", "show", "nowhere"], ["train-universe", "nowhere"]):
        done = run(*command)

        assert done.exit_code == 3
        assert "error: universe_not_found: no universe 'nowhere'" in done.stderr
        assert "universe download" in done.stderr


def test_universes_are_on_this_machine(run: Run) -> None:
    done = run("--url", "http://localhost:1", "universe", "list")

    assert done.exit_code == 2
    assert "universe list runs in this process" in " ".join(done.output.split())


def test_a_universe_is_trained_and_forecasts_any_ticker(run: Run, folder: Path) -> None:
    universe = folder / "universes" / "walks"
    universe.mkdir(parents=True)
    for seed, ticker in enumerate(["AAA", "BBB"]):
        write_prices(universe, walk_history(ticker, n_sessions=450, seed=seed))

    trained = run("train-universe", "walks", "--sequence-length", "20", "--epochs", "1", "--json")

    assert trained.exit_code == 0, trained.output
    job = json.loads(trained.stdout)
    assert job["result"]["universe"] == "walks"
    assert "universe walks" in run("jobs", "show", job["id"]).stdout
    assert run("predict", "^GSPC", "--model", job["model_id"]).exit_code == 0
