"""What every price source does, on the sample, on CSV files and on the real yfinance client."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from errors import PricesEmpty, TickerNotFound, UnknownExchange
from services.prices.cache import CachedSource
from services.prices.calendars import next_sessions
from services.prices.csv import CsvSource
from services.prices.sample import SampleSource
from services.prices.series import PriceSource
from services.prices.yahoo import YahooSource
from services.storage.store import LocalArtifactStore
from tests.yahoo_server import Quotes, running_yahoo

SESSIONS = next_sessions("XNYS", date(2018, 1, 1), 251)  # all of 2018
AFTER_THE_LAST = datetime(2018, 12, 31, 23, tzinfo=UTC)


@dataclass(frozen=True)
class Supplied:
    name: str
    source: PriceSource


@pytest.fixture(params=["sample", "csv", "yahoo"])
def supplied(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Supplied]:
    """A source that has ^GSPC up to the last session of 2018."""
    name: str = request.param
    if name == "sample":
        yield Supplied(name, SampleSource())
    elif name == "csv":
        rows = [f"{day},10,11,9,{10 + number / 1000},100" for number, day in enumerate(SESSIONS)]
        (tmp_path / "^GSPC.csv").write_text("\n".join(["Date,Open,High,Low,Close,Volume", *rows]))
        yield Supplied(name, CsvSource(tmp_path))
    else:
        with running_yahoo() as yahoo:
            yahoo.quotes["^GSPC"] = Quotes(SESSIONS, [10 + number / 1000 for number in range(len(SESSIONS))])
            fetcher = YahooSource(tmp_path, timeout_s=5.0, attempts=1, session=yahoo.session())
            yield Supplied(name, CachedSource(fetcher, LocalArtifactStore(tmp_path / "prices"), ttl_s=60.0))


def test_source_names_itself_and_the_ticker(supplied: Supplied) -> None:
    history = supplied.source.history("^GSPC", AFTER_THE_LAST)

    assert (history.source, history.series.ticker) == (supplied.name, "^GSPC")


@pytest.mark.parametrize("recent", [1, 20, 10_000])
def test_recent_history_has_the_newest_sessions_of_the_whole(supplied: Supplied, recent: int) -> None:
    some = supplied.source.history("^GSPC", AFTER_THE_LAST, recent).series
    whole = supplied.source.history("^GSPC", AFTER_THE_LAST).series

    assert len(some) >= min(recent, len(whole))
    assert np.array_equal(some.tail(recent).sessions, whole.tail(recent).sessions[-len(some) :])
    assert np.array_equal(some.tail(recent).bars, whole.tail(recent).bars[-len(some) :])


def test_sessions_are_unique_and_ascending(supplied: Supplied) -> None:
    series = supplied.source.history("^GSPC", AFTER_THE_LAST).series

    assert (np.diff(series.sessions) > np.timedelta64(0, "D")).all()
    assert series.sessions.dtype == np.dtype("datetime64[D]")


def test_prices_are_positive_and_enclosed_by_high_and_low(supplied: Supplied) -> None:
    bars = supplied.source.history("^GSPC", AFTER_THE_LAST).series.bars

    assert bars.dtype == np.float64
    assert (bars[:, :4] > 0).all()
    assert (bars[:, 1] == bars[:, :4].max(axis=1)).all()
    assert (bars[:, 2] == bars[:, :4].min(axis=1)).all()


@pytest.mark.parametrize(
    ("now", "as_of", "stale"),
    [
        (datetime(2018, 12, 31, 18, tzinfo=UTC), date(2018, 12, 28), False),  # during the last session
        (AFTER_THE_LAST, date(2018, 12, 31), False),
        (datetime(2019, 1, 5, tzinfo=UTC), date(2018, 12, 31), True),
    ],
)
def test_history_ends_with_the_last_settled_session_and_is_stale_without_it(
    supplied: Supplied, now: datetime, as_of: date, stale: bool
) -> None:
    history = supplied.source.history("^GSPC", now)

    assert (history.as_of, history.stale) == (as_of, stale)


def test_same_question_has_the_same_answer(supplied: Supplied) -> None:
    first = supplied.source.history("^GSPC", AFTER_THE_LAST)
    second = supplied.source.history("^GSPC", AFTER_THE_LAST)

    assert np.array_equal(first.series.sessions, second.series.sessions)
    assert np.array_equal(first.series.bars, second.series.bars)


@pytest.mark.parametrize("ticker", ["ZZZZ", "ZZZZ.SA", "../^GSPC", ""])
def test_unknown_ticker_is_not_found(supplied: Supplied, ticker: str) -> None:
    with pytest.raises(TickerNotFound):
        supplied.source.history(ticker, AFTER_THE_LAST)


def test_unknown_exchange_is_a_named_error(supplied: Supplied) -> None:
    with pytest.raises((UnknownExchange, TickerNotFound)):
        supplied.source.history("ZZZZ.QQ", AFTER_THE_LAST)


def test_before_the_first_session_there_is_nothing(supplied: Supplied) -> None:
    with pytest.raises(PricesEmpty):
        supplied.source.history("^GSPC", datetime(1998, 1, 2, 12, tzinfo=UTC))
