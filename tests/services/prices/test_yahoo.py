import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import curl_cffi.requests
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yfinance.data import SingletonMeta

from errors import AppError, PricesEmpty, PricesRateLimited, PricesUnreachable, TickerNotFound
from services.prices.calendars import next_sessions
from services.prices.cleaning import clean, clean_raw
from services.prices.exchanges import Listing
from services.prices.names import Symbol
from services.prices.series import COLUMNS
from services.prices.yahoo import LONGEST_NAME, RATE_LIMIT_PAUSE_S, YahooSource
from tests.yahoo_server import SEARCH, Quotes, Reply, YahooServer, chart_payload, error_payload

SESSIONS = next_sessions("XNYS", date(2024, 1, 1), 52)  # 2024-01-02 to 2024-03-15
CLOSES = [100.0 + session for session in range(len(SESSIONS))]
NOW = datetime(2024, 3, 15, 15, tzinfo=UTC)  # the last session is open
TIMEOUT_S = 0.5
HANGS_S = 30.0  # a busy machine takes seconds for what it does in one at rest


@pytest.fixture
def source(yahoo: YahooServer, tmp_path: Path) -> YahooSource:
    yahoo.quotes["AAPL"] = Quotes(SESSIONS, CLOSES)
    return YahooSource(tmp_path, TIMEOUT_S, attempts=2, session=yahoo.session(), backoff_s=0.01)


def failure_of(source: YahooSource, ticker: str = "AAPL") -> AppError:
    with pytest.raises(AppError) as caught:
        source.fetch(ticker, None, NOW)
    return caught.value


def test_whole_history_comes_in_one_chart_request(source: YahooSource, yahoo: YahooServer) -> None:
    raw = source.fetch("AAPL", None, NOW)

    assert raw.sessions.tolist() == list(SESSIONS)
    assert raw.bars[:, 3].tolist() == pytest.approx(CLOSES)
    assert raw.currency == "USD"
    assert len(yahoo.chart_requests) == 1


def test_session_that_passes_for_a_browser_works_as_well(tmp_path: Path, yahoo: YahooServer) -> None:
    class Loopback(curl_cffi.requests.Session[Any]):
        def request(self, method: Any, url: str, **options: Any) -> Any:  # type: ignore[override]
            address = urlsplit(url)
            return super().request(method, f"http://127.0.0.1:{yahoo.port}{address.path}?{address.query}", **options)

    yahoo.quotes["AAPL"] = Quotes(SESSIONS, CLOSES)
    source = YahooSource(tmp_path, TIMEOUT_S, attempts=1, session=Loopback(impersonate="chrome"))

    raw = source.fetch("AAPL", None, NOW)
    yahoo.always = Reply(429, "", {"Retry-After": "17"})
    error = failure_of(source)

    assert raw.sessions.size == len(SESSIONS)
    assert error.retry_after_s == 17


def test_own_session_passes_for_a_browser_and_reports_a_dead_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # nothing listens there
    source = YahooSource(tmp_path, TIMEOUT_S, attempts=1)

    assert isinstance(failure_of(source), PricesUnreachable)


def test_tail_is_asked_for_by_period1(source: YahooSource, yahoo: YahooServer) -> None:
    raw = source.fetch("AAPL", date(2024, 3, 12), NOW)

    assert yahoo.chart_requests[0].first_day == date(2024, 3, 11)
    assert raw.sessions.tolist() == list(SESSIONS[-5:])


def test_session_of_an_eastern_exchange_keeps_its_own_day(source: YahooSource, yahoo: YahooServer) -> None:
    days = next_sessions("XASX", date(2024, 3, 1), 5)
    yahoo.quotes["BHP.AX"] = Quotes(days, [40.0] * 5, currency="AUD", zone="Australia/Sydney")

    raw = source.fetch("BHP.AX", days[0], NOW)

    assert raw.sessions.tolist() == list(days)
    assert raw.currency == "AUD"


def test_prices_are_adjusted_for_dividends(source: YahooSource, yahoo: YahooServer) -> None:
    adjusted = [close * 0.98 for close in CLOSES[:-1]] + CLOSES[-1:]
    yahoo.quotes["AAPL"] = Quotes(SESSIONS, CLOSES, adjusted, dividends={SESSIONS[-1]: 3.0})

    raw = source.fetch("AAPL", None, NOW)

    assert raw.bars[:, COLUMNS.index("Close")].tolist() == pytest.approx(adjusted)
    assert raw.bars[0, COLUMNS.index("High")] == pytest.approx(101.0 * 0.98)


def test_split_leaves_the_adjusted_closes_as_they_come(source: YahooSource, yahoo: YahooServer) -> None:
    yahoo.quotes["AAPL"] = Quotes(SESSIONS, CLOSES, splits={SESSIONS[-1]: (4, 1)})

    assert source.fetch("AAPL", None, NOW).bars[:, COLUMNS.index("Close")].tolist() == pytest.approx(CLOSES)


def test_null_close_is_a_missing_value(source: YahooSource, yahoo: YahooServer) -> None:
    yahoo.quotes["AAPL"] = Quotes(SESSIONS, [*CLOSES[:10], None, *CLOSES[11:]])

    raw = source.fetch("AAPL", None, NOW)
    series, defects = clean_raw("AAPL", raw)

    assert len(series) == len(SESSIONS) - 1
    assert defects.n_dropped == {"missing": 1}


def test_currency_yahoo_does_not_tell_is_unknown(source: YahooSource, yahoo: YahooServer) -> None:
    yahoo.quotes["AAPL"] = Quotes(SESSIONS, CLOSES, currency=None)

    assert source.fetch("AAPL", None, NOW).currency is None


@pytest.mark.parametrize(
    ("symbol", "quotes", "listing"),
    [
        ("AAPL", Quotes(SESSIONS, CLOSES), Listing("NMS", "America/New_York", "EQUITY")),
        ("BTC-USD", Quotes(SESSIONS, CLOSES, zone="UTC"), Listing("CCC", "UTC", "CRYPTOCURRENCY")),
        ("XYZ", Quotes(SESSIONS, CLOSES, exchange="", instrument=""), Listing(zone="America/New_York")),
    ],
)
def test_metadata_say_where_the_symbol_trades(
    source: YahooSource, yahoo: YahooServer, symbol: str, quotes: Quotes, listing: Listing
) -> None:
    yahoo.quotes[symbol] = quotes

    assert source.fetch(symbol, None, NOW).listing == listing


@pytest.mark.parametrize("odd", [None, 7, ["NMS"], {"code": "NMS"}, True])
def test_metadata_that_are_no_text_are_unknown(source: YahooSource, yahoo: YahooServer, odd: Any) -> None:
    payload = chart_payload("AAPL", Quotes(SESSIONS, CLOSES), 0, 2**31)
    payload["chart"]["result"][0]["meta"] |= {"exchangeName": odd, "instrumentType": odd}
    yahoo.always = Reply(200, json.dumps(payload))

    assert source.fetch("AAPL", None, NOW).listing == Listing(zone="America/New_York")


def test_bars_come_as_yahoo_has_them(source: YahooSource, yahoo: YahooServer) -> None:
    yahoo.quotes["AAPL"] = Quotes(
        SESSIONS[:3],
        [100.0, 101.0, 102.0],
        open=[0.0, 101.0, None],
        high=[102.0, 101.0, 103.0],
        low=[99.0, 101.0, 101.0],
        volume=[500, 0, None],
    )

    raw = source.fetch("AAPL", None, NOW)

    assert raw.bars[:, :4].tolist() == [
        pytest.approx(row, nan_ok=True)
        for row in ([0.0, 102.0, 99.0, 100.0], [101.0] * 4, [np.nan, 103.0, 101.0, 102.0])
    ]
    assert raw.bars[:2, 4].tolist() == [500, 0]


def test_unknown_ticker_is_not_found_and_not_tried_again(source: YahooSource, yahoo: YahooServer) -> None:
    error = failure_of(source, "ZZZZ")

    assert isinstance(error, TickerNotFound)
    assert len(yahoo.chart_requests) == 2  # yfinance itself tries once more with another cookie


@pytest.mark.parametrize("ticker", ["../v7/quote", "A?range=max", "", "A B"])
def test_what_cannot_be_a_ticker_is_never_sent(source: YahooSource, yahoo: YahooServer, ticker: str) -> None:
    error = failure_of(source, ticker)

    assert isinstance(error, TickerNotFound)
    assert yahoo.chart_requests == []


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "17"}, 17),
        ({"Retry-After": "Fri, 15 Mar 2024 15:02:00 GMT"}, 120),
        ({"Retry-After": "Fri, 15 Mar 2024 15:02:00 -0000"}, 120),
        ({"Retry-After": "Fri, 15 Mar 2024 16:02:00 +0100"}, 120),
        ({"Retry-After": "Fri, 15 Mar 2024 14:00:00 GMT"}, 1),
        ({"Retry-After": "soon"}, RATE_LIMIT_PAUSE_S),
        ({"Retry-After": "9" * 5_000}, RATE_LIMIT_PAUSE_S),
        ({}, RATE_LIMIT_PAUSE_S),
    ],
)
def test_rate_limit_says_how_long_to_wait(
    source: YahooSource, yahoo: YahooServer, headers: dict[str, str], wait_s: int
) -> None:
    yahoo.always = Reply(429, "Too Many Requests", headers)

    error = failure_of(source)

    assert isinstance(error, PricesRateLimited)
    assert error.retry_after_s == wait_s
    assert len(yahoo.chart_requests) == 2  # yfinance's own second try, none of ours


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, "<html>oops</html>"),
        Reply(502, json.dumps(error_payload("Bad Gateway", "upstream"))),
        Reply(503, ""),
        Reply(401, json.dumps(error_payload("Unauthorized", "Invalid Crumb"))),
        Reply(200, "{"),
        Reply(200, "Will be right back"),
        Reply(200, "[1, 2]" + "[" * 100_000),
        Reply(200, '{"chart": {"result": [{}], "error": null}}'),
        Reply(200, '{"chart": {"result": [{"meta": null, "indicators": 3}], "error": null}}'),
    ],
)
def test_answer_that_is_no_answer_is_unreachable(source: YahooSource, yahoo: YahooServer, reply: Reply) -> None:
    yahoo.always = reply

    assert isinstance(failure_of(source), PricesUnreachable)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, "{}"),
        Reply(200, '{"chart": {"result": [], "error": null}}'),
        Reply(400, json.dumps(error_payload("Bad Request", "Data doesn't exist for startDate"))),
    ],
)
def test_answer_without_a_row_is_empty(source: YahooSource, yahoo: YahooServer, reply: Reply) -> None:
    yahoo.always = reply

    assert isinstance(failure_of(source), PricesEmpty)


def test_server_that_does_not_answer_is_given_up_in_time(source: YahooSource, yahoo: YahooServer) -> None:
    yahoo.always = Reply(delay_s=HANGS_S)
    started = time.monotonic()

    error = failure_of(source)

    assert isinstance(error, PricesUnreachable)
    assert time.monotonic() - started < HANGS_S / 2


def test_cookie_that_does_not_come_is_given_up_in_time(source: YahooSource, yahoo: YahooServer) -> None:
    SingletonMeta._instances.clear()  # yfinance has no cookie now and asks for one
    yahoo.side_delay_s = HANGS_S
    started = time.monotonic()

    raw = source.fetch("AAPL", None, NOW)

    assert raw.sessions.size == len(SESSIONS)
    assert time.monotonic() - started < HANGS_S / 2  # the cookie, then the consent page


def test_refused_connection_is_unreachable(tmp_path: Path, yahoo: YahooServer) -> None:
    yahoo.port = 1  # nothing listens there
    source = YahooSource(tmp_path, TIMEOUT_S, attempts=2, session=yahoo.session(), backoff_s=0.01)

    error = failure_of(source)

    assert isinstance(error, PricesUnreachable)
    assert error.message == "Yahoo Finance is unreachable: no prices of AAPL"


def test_an_answer_without_its_parts_is_unreadable(source: YahooSource, yahoo: YahooServer) -> None:
    yahoo.always = Reply(200, '{"chart": {"result": [{}], "error": null}}')

    error = failure_of(source)

    assert isinstance(error, PricesUnreachable)
    assert error.message == "Yahoo Finance sent an unreadable answer: no prices of AAPL"


def test_one_transient_failure_is_overcome(source: YahooSource, yahoo: YahooServer) -> None:
    yahoo.next_replies.extend([Reply(503, "busy"), Reply(503, "busy")])  # one for each of yfinance's two tries

    raw = source.fetch("AAPL", None, NOW)

    assert raw.sessions.size == len(SESSIONS)


def test_threads_do_not_mix_up_their_answers(source: YahooSource, yahoo: YahooServer) -> None:
    tickers = [f"T{number}" for number in range(12)]
    for number, ticker in enumerate(tickers):
        yahoo.quotes[ticker] = Quotes(SESSIONS, [10.0 + number] * len(SESSIONS))

    with ThreadPoolExecutor(6) as threads:
        raws = list(threads.map(lambda ticker: source.fetch(ticker, None, NOW), tickers))

    assert [raw.bars[0, 3] for raw in raws] == pytest.approx([10.0 + number for number in range(12)])


def test_folder_that_cannot_be_written_does_not_matter(tmp_path: Path, yahoo: YahooServer) -> None:
    yahoo.quotes["AAPL"] = Quotes(SESSIONS, CLOSES)
    (tmp_path / "file").write_text("")
    source = YahooSource(tmp_path / "file", TIMEOUT_S, attempts=1, session=yahoo.session())

    assert source.fetch("AAPL", None, NOW).sessions.size == len(SESSIONS)


def found_for(source: YahooSource, yahoo: YahooServer, *quotes: Any) -> list[Symbol]:
    query = uuid.uuid4().hex  # yfinance remembers answers
    yahoo.searches[query] = list(quotes)
    return source.search(query, NOW)


def test_a_search_finds_symbols_with_name_exchange_and_currency_in_yahoos_order(
    source: YahooSource, yahoo: YahooServer
) -> None:
    found = found_for(
        source,
        yahoo,
        {"symbol": "ZKP.DE", "longname": "Zauber\nKaputt\x00  AG", "shortname": "ZK", "exchDisp": "XETRA"},
        {"symbol": "AAPL", "shortname": "Apple"},
        {"symbol": "X" * 10, "longname": "Y" * 200, "exchDisp": 7},
    )

    assert found == [
        Symbol("ZKP.DE", "Zauber Kaputt AG", "XETRA", "EUR"),
        Symbol("AAPL", "Apple", None, "USD"),
        Symbol("X" * 10, "Y" * LONGEST_NAME, None, "USD"),
    ]


def test_what_cannot_be_a_ticker_is_left_out_and_hides_no_other(source: YahooSource, yahoo: YahooServer) -> None:
    odd = [{"symbol": "not a ticker"}, {"symbol": 7}, {"shortname": "no symbol"}]

    assert [one.symbol for one in found_for(source, yahoo, *odd, {"symbol": "AAPL"})] == ["AAPL"]


def test_no_more_than_ten_symbols_are_found(source: YahooSource, yahoo: YahooServer) -> None:
    assert len(found_for(source, yahoo, *({"symbol": f"T{number}"} for number in range(20)))) == 10


@pytest.mark.parametrize(
    ("reply", "kind", "retry_after_s"),
    [
        (Reply(429, "Too Many Requests", {"Retry-After": "17"}), PricesRateLimited, 17),
        (Reply(500, "<html>oops</html>"), PricesUnreachable, None),
        (Reply(200, "{"), PricesUnreachable, None),
    ],
)
def test_a_search_that_fails_is_a_named_error(
    source: YahooSource, yahoo: YahooServer, reply: Reply, kind: type[AppError], retry_after_s: int | None
) -> None:
    yahoo.side_replies[SEARCH] = reply

    with pytest.raises(kind) as failure:
        found_for(source, yahoo)

    assert failure.value.retry_after_s == retry_after_s


def parts_of(node: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(part for key, child in items for part in parts_of(child, (*path, key)))]


def replaced(payload: Any, path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    copy = json.loads(json.dumps(payload))
    node = copy
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return copy


WHOLE_CHART = chart_payload("AAPL", Quotes(SESSIONS[:4], CLOSES[:4], dividends={SESSIONS[2]: 1.0}), 0, 2**31)
ODD_VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, {}, [], [None], "", "x", 0, -1, 1e300, 10**30, True, [[]], {"a": 1}]
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.sampled_from(parts_of(WHOLE_CHART)), value=ODD_VALUES)
def test_whatever_yahoo_answers_becomes_a_valid_series_or_a_named_error(
    yahoo: YahooServer, tmp_path: Path, part: tuple[str | int, ...], value: Any
) -> None:
    yahoo.always = Reply(200, json.dumps(replaced(WHOLE_CHART, part, value)))
    source = YahooSource(tmp_path, TIMEOUT_S, attempts=1, session=yahoo.session())

    try:
        raw = source.fetch("AAPL", None, NOW)
        series, _ = clean("AAPL", raw.sessions, raw.bars, raw.currency)
    except AppError:
        return

    assert np.isfinite(series.bars[:, 3:]).all()
