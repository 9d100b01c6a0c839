"""Universes from the real client of Yahoo, against a server on loopback."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from errors import InvalidRequest
from schemas.universe import UniverseDownload
from services.prices.cache import CachedSource
from services.prices.calendars import next_sessions
from services.prices.csv import CsvSource
from services.prices.patient import MOST_WAITS, PatientFetcher
from services.prices.yahoo import YahooSource
from services.storage.store import LOCK, LocalArtifactStore
from services.training.download import NOTES, download_universe, read_tickers, with_markets
from services.training.universe import Universe, report
from tests.yahoo_server import Quotes, Reply, YahooServer

SESSIONS = next_sessions("XNYS", date(2024, 1, 1), 52)  # 2024-01-02 to 2024-03-15
CLOSES = [100.0 + session / 3 for session in range(len(SESSIONS))]
NOW = datetime(2024, 3, 15, 22, tzinfo=UTC)  # the last session is over
REFUSAL = Reply(429, "Too Many Requests", {"Retry-After": "7"})


class Downloads:
    """Downloads into one folder, each as a process of its own would, but with one cache on disk."""

    def __init__(self, yahoo: YahooServer, folder: Path) -> None:
        self.yahoo = yahoo
        self.folder = folder / "universes" / "some"
        self.waits: list[float] = []
        self.now = NOW
        self._cache = folder / "cache"

    def run(self, tickers: Sequence[str], first_day: date | None = None) -> UniverseDownload:
        yahoo = YahooSource(self._cache / "cookies", 5, attempts=1, session=self.yahoo.session(), backoff_s=0.01)
        fetcher = PatientFetcher(yahoo, self.waits.append)
        prices = CachedSource(fetcher, LocalArtifactStore(self._cache), ttl_s=900)
        return download_universe(self.folder, tickers, fetcher, prices, lambda: self.now, first_day=first_day)

    @property
    def files(self) -> set[str]:
        return {path.name.removesuffix(".csv") for path in self.folder.glob("*.csv")}

    @property
    def requested(self) -> list[str]:
        return [request.symbol for request in self.yahoo.chart_requests]


@pytest.fixture
def downloads(yahoo: YahooServer, tmp_path: Path) -> Downloads:
    for ticker in ("AAPL", "MSFT", "M&M", "^GSPC"):
        yahoo.quotes[ticker] = Quotes(SESSIONS, CLOSES)
    return Downloads(yahoo, tmp_path)


def test_every_ticker_becomes_a_file_that_a_training_reads(downloads: Downloads) -> None:
    result = downloads.run(["^GSPC", "AAPL", "M&M"])

    assert (result.n_downloaded, result.failed, result.stopped) == (3, (), None)
    universe = Universe.in_folder(downloads.folder)
    assert universe.tickers == ("AAPL", "M&M", "^GSPC")
    history = universe.prices.history("AAPL", NOW)
    assert history.series.close.tolist() == CLOSES
    assert history.series.sessions.tolist() == list(SESSIONS)
    assert history.market is not None


def test_prices_are_adjusted_and_unknown_cells_are_empty(downloads: Downloads) -> None:
    opens: list[float | None] = [*CLOSES]
    opens[3] = None
    downloads.yahoo.quotes["AAPL"] = Quotes(SESSIONS, CLOSES, adjclose=[close / 2 for close in CLOSES], open=opens)

    downloads.run(["AAPL"])

    lines = (downloads.folder / "AAPL.csv").read_text().splitlines()
    assert lines[0] == "Date,Open,High,Low,Close,Volume"
    assert lines[4].startswith("2024-01-05,,")
    series = CsvSource(downloads.folder).history("AAPL", NOW).series
    assert series.close.tolist() == [close / 2 for close in CLOSES]
    assert np.flatnonzero(np.isnan(series.bars[:, 0])).tolist() == [3]


def test_what_is_up_to_date_is_not_requested_again(downloads: Downloads) -> None:
    downloads.run(["AAPL", "MSFT"])
    downloads.yahoo.chart_requests.clear()
    downloads.now = NOW + timedelta(hours=20)  # no session since
    (downloads.folder / "MSFT.csv").unlink()

    result = downloads.run(["AAPL", "MSFT"])

    assert (result.n_up_to_date, result.n_downloaded) == (1, 1)
    assert set(downloads.requested) == {"MSFT"}


def test_later_only_the_newest_sessions_are_requested(downloads: Downloads) -> None:
    more = next_sessions("XNYS", date(2024, 1, 1), 54)
    downloads.run(["AAPL"])
    downloads.yahoo.chart_requests.clear()
    downloads.now = NOW + timedelta(days=4)
    downloads.yahoo.quotes["AAPL"] = Quotes(more, [*CLOSES, 200.0, 201.0])

    downloads.run(["AAPL"])

    assert CsvSource(downloads.folder).history("AAPL", downloads.now).series.close[-2:].tolist() == [200.0, 201.0]
    (request,) = downloads.yahoo.chart_requests
    assert request.first_day > date(2024, 2, 20)


def test_files_begin_at_the_first_day(downloads: Downloads) -> None:
    downloads.run(["AAPL"], date(2024, 2, 1))
    cut = CsvSource(downloads.folder).history("AAPL", NOW).series.first_session

    downloads.run(["AAPL"])

    assert cut == date(2024, 2, 1)
    assert CsvSource(downloads.folder).history("AAPL", NOW).series.first_session == SESSIONS[0]


def test_tickers_that_fail_are_named_and_the_others_downloaded(downloads: Downloads) -> None:
    result = downloads.run(["NOPE", "^UNHEARD", "AAPL"])

    assert [(one.ticker, one.code) for one in result.failed] == [
        ("NOPE", "ticker_not_found"),
        ("^UNHEARD", "unknown_exchange"),
    ]
    assert downloads.files == {"AAPL"}
    assert result.stopped is None


def test_a_download_waits_as_long_as_yahoo_says(downloads: Downloads) -> None:
    downloads.yahoo.next_replies.extend([REFUSAL] * 4)  # yfinance asks twice each time

    result = downloads.run(["AAPL", "MSFT"])

    assert downloads.waits == [7, 14]
    assert (result.n_downloaded, result.failed) == (2, ())


@pytest.mark.parametrize("cached", [False, True])
def test_a_download_stops_when_yahoo_keeps_refusing_and_continues_later(downloads: Downloads, cached: bool) -> None:
    downloads.run(["^GSPC", "AAPL"] if cached else ["^GSPC"])
    downloads.now = NOW + timedelta(days=4)  # a cache that answers with older prices must not look like success
    downloads.yahoo.always = REFUSAL

    result = downloads.run(["AAPL", "MSFT"])

    assert result.stopped is not None
    assert (result.stopped.ticker, result.stopped.code) == ("AAPL", "prices_rate_limited")
    assert result.not_tried == ("MSFT",)
    assert len(downloads.waits) == MOST_WAITS
    downloads.yahoo.always = None
    assert downloads.run(["AAPL", "MSFT"]).n_downloaded == 2


def test_a_server_that_is_down_is_not_asked_for_every_ticker(downloads: Downloads) -> None:
    downloads.yahoo.always = Reply(500, "down")

    result = downloads.run(["AAPL", "MSFT", "M&M", "^GSPC"])

    assert result.stopped is not None
    assert result.stopped.code == "prices_unreachable"
    assert result.not_tried == ("^GSPC",)
    assert downloads.files == set()


def test_a_file_that_is_interrupted_never_looks_whole(downloads: Downloads, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == ".AAPL.csv.tmp":
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            downloads.run(["AAPL"])

    assert downloads.files == set()
    assert downloads.run(["AAPL"]).n_downloaded == 1
    assert {path.name for path in downloads.folder.iterdir()} == {"AAPL.csv", NOTES, LOCK}


@pytest.mark.parametrize("notes", ["not json", "[]", '{"from": []}'])
def test_a_spoilt_note_costs_a_download(downloads: Downloads, notes: str) -> None:
    downloads.run(["AAPL"])
    (downloads.folder / NOTES).write_text(notes)

    assert downloads.run(["AAPL"]).n_downloaded == 1
    assert json.loads((downloads.folder / NOTES).read_text()) == {"from": {"AAPL": None}}


def test_downloads_at_the_same_time_keep_the_notes_of_each_other(downloads: Downloads) -> None:
    downloads.run(["MSFT"])

    def meanwhile(*_: object) -> None:
        downloads.run(["AAPL"])

    yahoo = YahooSource(downloads.folder / "cookies", 5, attempts=1, session=downloads.yahoo.session(), backoff_s=0.01)
    fetcher = PatientFetcher(yahoo, downloads.waits.append)
    prices = CachedSource(fetcher, LocalArtifactStore(downloads.folder / "other"), ttl_s=900)
    download_universe(downloads.folder, ["^GSPC"], fetcher, prices, lambda: downloads.now, on_ticker=meanwhile)

    assert json.loads((downloads.folder / NOTES).read_text())["from"].keys() == {"AAPL", "MSFT", "^GSPC"}


def test_a_list_has_one_ticker_a_line() -> None:
    text = "\ufeffSymbol,Name\naapl, Apple Inc.\n\n# comment\n'PETR4.SA'  # Petrobras\nAAPL\n^gspc;index\n"

    assert read_tickers(text) == ("AAPL", "PETR4.SA", "^GSPC")


@pytest.mark.parametrize(("text", "message"), [("AAPL\n../etc\n", "line 2"), ("# nothing\n", "no tickers")])
def test_a_list_that_cannot_be_read_names_its_line(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_tickers(text)


def test_the_indices_of_the_exchanges_come_first() -> None:
    assert with_markets(["AAPL", "^VIX", "PETR4.SA", "WALMEX.MX", "^UNHEARD", "EURUSD=X"]) == (
        "^GSPC",
        "^VIX",
        "^BVSP",
        "^MXX",
        "AAPL",
        "PETR4.SA",
        "WALMEX.MX",
        "^UNHEARD",
        "EURUSD=X",
    )


def test_a_report_has_the_sessions_and_what_the_market_lacks(downloads: Downloads) -> None:
    downloads.run(["AAPL", "^GSPC"])
    (downloads.folder / "BAD.csv").write_text("nonsense")

    found = report(Universe.in_folder(downloads.folder), downloads.folder, NOW)

    assert [(one.ticker, one.first_session, one.last_session) for one in found.tickers] == [
        ("AAPL", SESSIONS[0], SESSIONS[-1]),
        ("^GSPC", SESSIONS[0], SESSIONS[-1]),
    ]
    (exchange,) = found.exchanges
    assert (exchange.exchange, exchange.n_tickers, exchange.index) == ("XNYS", 1, "^GSPC")
    assert (exchange.implied_volatility, exchange.missing) == (None, ("^VIX",))
    assert [one.ticker for one in found.unreadable] == ["BAD"]
