import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from errors import (
    AppError,
    PricesEmpty,
    PricesInvalid,
    PricesRateLimited,
    PricesUnreachable,
    TickerNotFound,
    UnknownExchange,
)
from services.prices.cache.breaker import FAILURES_TO_OPEN
from services.prices.cache.kept import STORE_PAUSE_S, PriceStore, price_key
from services.prices.cache.source import NOT_FOUND_PAUSE_S, OVERLAP, READ_AGAIN_S, CachedSource
from services.prices.calendars import next_sessions
from services.prices.exchanges import Listing
from services.prices.series import PriceHistory, RawBars, Sessions
from services.storage.store import LocalArtifactStore
from telemetry.measures import PRICE_CACHE
from tests.fakes import InMemoryArtifactStore, RecordingMeter, UnreliableStore

SESSIONS = next_sessions("XNYS", date(2024, 1, 1), 60)  # the last one is 2024-03-27
NOW = datetime(2024, 3, 15, 14, tzinfo=UTC)  # a Friday, the session is open
AFTER_CLOSE = datetime(2024, 3, 15, 21, tzinfo=UTC)
NEXT_EVENING = datetime(2024, 3, 18, 21, tzinfo=UTC)
TTL_S = 900.0


@dataclass
class FakeFetcher:
    """Sessions up to the day of ``now``, unfinished one included; closes 100, 101, …, times a factor."""

    name: str = "fake"
    factor: float = 1.0
    error: AppError | None = None
    starts: list[date | None] = field(default_factory=list)
    listing: Listing | None = None
    alter: Callable[[RawBars], RawBars] = lambda raw: raw
    meanwhile: Callable[[str], object] = lambda ticker: None

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        self.starts.append(start)
        self.meanwhile(ticker)
        if self.error is not None:
            raise self.error
        days = [day for day in SESSIONS if (start is None or day >= start) and day <= now.date()]
        closes = np.array([self.factor * (100.0 + SESSIONS.index(day)) for day in days])
        bars = np.column_stack([closes, closes, closes, closes, np.ones(len(days))])
        return self.alter(RawBars(np.array(days, dtype="datetime64[D]"), bars, "USD", self.listing))


@pytest.fixture
def fetcher() -> FakeFetcher:
    return FakeFetcher()


@pytest.fixture
def source(fetcher: FakeFetcher) -> CachedSource:
    return CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)


def days_of(history: PriceHistory) -> list[date]:
    return [day.item() for day in history.series.sessions]


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def without(day: str) -> Callable[[RawBars], RawBars]:
    """Takes the day's row out, as Yahoo sometimes does for a day or two."""

    def alter(raw: RawBars) -> RawBars:
        kept = raw.sessions != np.datetime64(day)
        return RawBars(raw.sessions[kept], raw.bars[kept], raw.currency, raw.listing)

    return alter


def unpriced(*days: str) -> Callable[[RawBars], RawBars]:
    """Makes the prices of these days unknown; without a day, all prices."""

    def alter(raw: RawBars) -> RawBars:
        raw.bars[np.isin(raw.sessions, np.array(days, dtype="datetime64[D]")) if days else slice(None), :4] = np.nan
        return raw

    return alter


def sessions_up_to(last: date) -> list[date]:
    return [day for day in SESSIONS if day <= last]


def new_source(fetcher: FakeFetcher, shared: PriceStore | None = None) -> CachedSource:
    """One more process, on another machine."""
    return CachedSource(fetcher, InMemoryArtifactStore(), TTL_S, shared=shared)


def refused(source: CachedSource, ticker: str, now: datetime) -> AppError:
    with pytest.raises(AppError) as caught:
        source.history(ticker, now)
    return caught.value


def test_first_answer_is_the_whole_history_without_the_unfinished_session(
    source: CachedSource, fetcher: FakeFetcher
) -> None:
    history = source.history("AAPL", NOW)

    assert fetcher.starts == [None]
    assert days_of(history) == sessions_up_to(date(2024, 3, 14))
    assert (history.source, history.stale, history.series.currency) == ("fake", False, "USD")


def test_nothing_is_requested_within_the_time_to_live(source: CachedSource, fetcher: FakeFetcher) -> None:
    source.history("AAPL", NOW)
    source.history("AAPL", later(TTL_S - 1))

    assert len(fetcher.starts) == 1


@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_after_the_time_to_live_only_the_tail_is_requested(
    source: CachedSource, fetcher: FakeFetcher, rounding: float
) -> None:
    before = source.history("AAPL", NOW)
    fetcher.factor = 1 + rounding

    history = source.history("AAPL", NEXT_EVENING)

    assert fetcher.starts == [None, before.series.sessions[-OVERLAP].item()]
    assert days_of(history) == sessions_up_to(NEXT_EVENING.date())
    assert not history.stale


@pytest.mark.parametrize(
    ("ticker", "factor", "rewritten"),
    [("AAPL", 1.0, 0.995), ("BTT-USD", 1.4e-9, 2.1e-9)],
    ids=["a dividend of half a per cent", "closes near zero"],
)
def test_tail_with_other_closes_brings_the_whole_history_again(
    source: CachedSource, fetcher: FakeFetcher, ticker: str, factor: float, rewritten: float
) -> None:
    fetcher.factor = factor
    source.history(ticker, NOW)
    fetcher.factor = rewritten

    closes = source.history(ticker, NEXT_EVENING).series.close

    assert fetcher.starts[2] is None
    assert closes[0] == pytest.approx(100 * rewritten)
    assert np.abs(np.diff(np.log(closes))).max() < 0.02  # no splice of two scales


def test_old_history_is_fetched_whole_again(fetcher: FakeFetcher) -> None:
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S, whole_ttl_s=86_400.0)

    source.history("AAPL", NOW)
    source.history("AAPL", NEXT_EVENING)

    assert fetcher.starts == [None, None]


def test_rows_without_a_price_are_counted_until_they_have_one(source: CachedSource, fetcher: FakeFetcher) -> None:
    source.history("AAPL", NOW)
    fetcher.alter = unpriced("2024-03-15")

    friday = source.history("AAPL", AFTER_CLOSE)
    monday = source.history("AAPL", NEXT_EVENING)
    fetcher.alter = lambda raw: raw
    tuesday = source.history("AAPL", NEXT_EVENING + timedelta(days=1))

    assert (friday.as_of, friday.stale) == (date(2024, 3, 14), True)
    assert friday.dropped == monday.dropped == {"missing": 1}
    assert date(2024, 3, 15) not in days_of(monday)
    assert tuesday.dropped == {}
    assert date(2024, 3, 15) in days_of(tuesday)


def test_rows_of_the_newest_answer_appear_and_vanish(source: CachedSource, fetcher: FakeFetcher) -> None:
    fetcher.alter = without("2024-03-14")
    late = source.history("AAPL", AFTER_CLOSE)
    fetcher.alter = without("2024-03-13")

    history = source.history("AAPL", NEXT_EVENING)

    assert date(2024, 3, 14) not in days_of(late)
    assert days_of(history)[-4:] == [date(2024, 3, day) for day in (12, 14, 15, 18)]
    assert len(fetcher.starts) == 2
    assert fetcher.starts[1] is not None


def test_a_close_of_zero_in_a_tail_is_no_rewritten_history(source: CachedSource, fetcher: FakeFetcher) -> None:
    def without_a_close(raw: RawBars) -> RawBars:
        raw.bars[raw.sessions == np.datetime64("2024-03-13"), :4] = 0.0
        return raw

    source.history("AAPL", NOW)
    fetcher.alter = without_a_close

    history = source.history("AAPL", NEXT_EVENING)

    assert fetcher.starts[1:] != [None]
    assert len(fetcher.starts) == 2
    assert history.as_of == date(2024, 3, 18)


def test_tail_that_does_not_meet_the_cached_rows_brings_the_whole_history(
    source: CachedSource, fetcher: FakeFetcher
) -> None:
    source.history("AAPL", datetime(2024, 2, 1, 22, tzinfo=UTC))
    fetcher.alter = lambda raw: raw if fetcher.starts[-1] is None else RawBars(raw.sessions[-1:], raw.bars[-1:], "USD")

    history = source.history("AAPL", datetime(2024, 2, 6, 22, tzinfo=UTC))

    assert fetcher.starts[2] is None
    assert days_of(history) == sessions_up_to(date(2024, 2, 6))


def test_warm_answer_is_the_same_object_until_another_session_is_final() -> None:
    store = UnreliableStore()
    source = CachedSource(FakeFetcher(), store, ttl_s=86_400.0, shared=store)
    first = source.history("AAPL", NOW)
    store.calls.clear()

    assert source.history("AAPL", later(3_600)) is first
    assert source.history("AAPL", AFTER_CLOSE).stale  # Friday's close is missing
    assert store.calls == []


def test_another_process_answers_from_disk(fetcher: FakeFetcher, tmp_path: Path) -> None:
    (tmp_path / "AAPL.json").write_text("{}")  # a cache file of an earlier version
    sources = [CachedSource(fetcher, LocalArtifactStore(tmp_path), TTL_S) for _ in range(2)]
    first, second = (source.history("AAPL", NOW) for source in sources)

    assert fetcher.starts == [None]
    assert np.array_equal(second.series.bars, first.series.bars)
    assert np.array_equal(second.series.sessions, first.series.sessions)
    assert second.series.currency == "USD"


def test_entry_is_stored_under_a_key_of_the_ticker(fetcher: FakeFetcher) -> None:
    store = InMemoryArtifactStore()

    for ticker in ("^GSPC", "M&M.NS"):
        CachedSource(fetcher, store, TTL_S).history(ticker, NOW)

    assert store.list_keys("") == ["prices/M^M.NS.npz", "prices/^GSPC.npz"]


def test_corrupt_document_is_discarded_and_fetched_again(
    fetcher: FakeFetcher, caplog: pytest.LogCaptureFixture
) -> None:
    store = InMemoryArtifactStore()
    store.put(price_key("AAPL"), b"PK no archive")
    fetcher.error = PricesUnreachable("down")
    source = CachedSource(fetcher, store, TTL_S)

    refused(source, "AAPL", NOW)
    discarded = not store.exists(price_key("AAPL"))
    fetcher.error = None
    history = source.history("AAPL", later(60))

    assert "discarding corrupt cached prices of AAPL" in caplog.text
    assert discarded
    assert history.as_of == date(2024, 3, 14)


def test_store_that_fails_costs_a_warning_and_is_not_used_for_a_while(
    fetcher: FakeFetcher, caplog: pytest.LogCaptureFixture
) -> None:
    store = UnreliableStore(down=True)
    source = CachedSource(fetcher, store, TTL_S)

    source.history("AAPL", NOW)
    source.history("MSFT", later(1))
    during_the_pause = list(store.calls)
    source.history("MSFT", later(TTL_S + STORE_PAUSE_S))

    assert during_the_pause == ["get"]
    assert store.calls == ["get", "get"]
    assert "cannot read cached prices of AAPL: the store is down" in caplog.text


def test_disk_that_cannot_be_written_costs_a_warning(
    fetcher: FakeFetcher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("")
    source = CachedSource(fetcher, LocalArtifactStore(not_a_folder), TTL_S)

    source.history("AAPL", NOW)
    source.history("AAPL", later(1))

    assert len(fetcher.starts) == 1
    assert "prices of AAPL" in caplog.text


def test_another_machine_answers_from_the_shared_store(fetcher: FakeFetcher) -> None:
    shared, local = InMemoryArtifactStore(), InMemoryArtifactStore()
    new_source(FakeFetcher(), shared).history("AAPL", NOW)

    history = CachedSource(fetcher, local, TTL_S, shared=shared).history("AAPL", later(10))

    assert fetcher.starts == []
    assert not history.stale
    assert local.list_keys("") == [price_key("AAPL")]


def test_the_shared_store_is_read_before_a_fetch(fetcher: FakeFetcher) -> None:
    shared = InMemoryArtifactStore()
    here, there = new_source(fetcher, shared), new_source(FakeFetcher(), shared)
    here.history("AAPL", NOW)
    there.history("AAPL", NEXT_EVENING)

    history = here.history("AAPL", NEXT_EVENING + timedelta(seconds=10))

    assert len(fetcher.starts) == 1
    assert history.as_of == date(2024, 3, 18)


def test_stores_are_not_read_for_every_stale_answer(fetcher: FakeFetcher) -> None:
    shared = UnreliableStore()
    source = new_source(fetcher, shared)
    source.history("AAPL", NOW)
    fetcher.error = PricesUnreachable("down")
    shared.calls.clear()

    for second in range(int(READ_AGAIN_S)):
        assert source.history("AAPL", NEXT_EVENING + timedelta(seconds=second)).stale

    assert shared.calls == ["get"]


def test_stores_are_not_read_for_every_request_of_an_unknown_ticker(fetcher: FakeFetcher) -> None:
    shared = UnreliableStore()
    fetcher.error = TickerNotFound("no such ticker")
    source = new_source(fetcher, shared)

    errors = [refused(source, "ZZZZ", later(second)).code for second in range(int(READ_AGAIN_S))]

    assert set(errors) == {"ticker_not_found"}
    assert shared.calls == ["get"]


def test_entry_that_memory_has_no_room_for_is_read_from_the_store_again(fetcher: FakeFetcher) -> None:
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S, memory_tickers=1)

    for second in range(3):
        for ticker in ("AAPL", "MSFT"):
            source.history(ticker, later(second))

    assert len(source._entries) == 1
    assert len(fetcher.starts) == 2


def test_stale_entry_is_replaced_by_the_one_another_machine_fetches_meanwhile(fetcher: FakeFetcher) -> None:
    shared = InMemoryArtifactStore()
    here = new_source(fetcher, shared)
    here.history("AAPL", NOW)
    fetcher.error = PricesRateLimited("slow down", retry_after_s=600)
    before = here.history("AAPL", NEXT_EVENING)
    new_source(FakeFetcher(), shared).history("AAPL", NEXT_EVENING)

    after = here.history("AAPL", NEXT_EVENING + timedelta(seconds=READ_AGAIN_S))

    assert (before.stale, after.stale) == (True, False)


def test_shared_store_that_fails_costs_no_answer(fetcher: FakeFetcher) -> None:
    assert not new_source(fetcher, UnreliableStore(down=True)).history("AAPL", NOW).stale


PARTIAL_START = date(2024, 3, 15) - timedelta(days=int(10 * 365.25 / 235) + 20)


def test_few_recent_sessions_are_fetched_alone(source: CachedSource, fetcher: FakeFetcher) -> None:
    history = source.history("AAPL", NOW, recent=10)

    assert fetcher.starts == [PARTIAL_START]
    assert history.as_of == date(2024, 3, 14)
    assert 10 <= len(history.series) < len(sessions_up_to(history.as_of))


def test_partial_history_serves_as_many_sessions_as_it_has_also_from_the_store(fetcher: FakeFetcher) -> None:
    store = InMemoryArtifactStore()

    for recent in (10, 1, 10):
        CachedSource(fetcher, store, TTL_S).history("AAPL", NOW, recent=recent)

    assert len(fetcher.starts) == 1


def test_whole_history_is_fetched_where_a_partial_one_is_cached(source: CachedSource, fetcher: FakeFetcher) -> None:
    source.history("AAPL", NOW, recent=10)

    history = source.history("AAPL", later(1))
    source.history("AAPL", later(2), recent=40)
    source.history("AAPL", later(3))

    assert fetcher.starts == [PARTIAL_START, None]
    assert history.series.first_session == SESSIONS[0]


def test_whole_history_is_fetched_where_a_partial_one_has_too_few_sessions(
    source: CachedSource, fetcher: FakeFetcher
) -> None:
    source.history("AAPL", NOW, recent=250)  # listed on 2024-01-02

    assert len(fetcher.starts) == 2
    assert fetcher.starts[1] is None


def test_tail_of_a_partial_history_leaves_it_partial(source: CachedSource, fetcher: FakeFetcher) -> None:
    source.history("AAPL", NOW, recent=20)

    history = source.history("AAPL", NEXT_EVENING, recent=20)
    source.history("AAPL", NEXT_EVENING + timedelta(seconds=1))

    assert history.as_of == date(2024, 3, 18)
    assert fetcher.starts[1] == [day for day in SESSIONS if day <= date(2024, 3, 14)][-OVERLAP]
    assert fetcher.starts[2] is None


def test_rewritten_partial_history_is_fetched_partly_again(source: CachedSource, fetcher: FakeFetcher) -> None:
    source.history("AAPL", NOW, recent=10)
    fetcher.factor = 0.5

    history = source.history("AAPL", NEXT_EVENING, recent=10)

    assert fetcher.starts[2] == PARTIAL_START + timedelta(days=3)
    assert history.series.close[-1] == pytest.approx(0.5 * (100 + SESSIONS.index(date(2024, 3, 18))))


def test_whole_history_stays_whole_when_only_recent_sessions_are_needed(
    source: CachedSource, fetcher: FakeFetcher
) -> None:
    source.history("AAPL", NOW)
    fetcher.factor = 0.5

    source.history("AAPL", NEXT_EVENING, recent=10)

    assert fetcher.starts[2] is None


def test_partial_history_is_not_served_as_stale_to_a_caller_that_needs_more(
    source: CachedSource, fetcher: FakeFetcher
) -> None:
    source.history("AAPL", NOW, recent=10)
    fetcher.error = PricesUnreachable("down")

    assert isinstance(refused(source, "AAPL", later(1)), PricesUnreachable)
    assert source.history("AAPL", NEXT_EVENING, recent=10).stale


def test_calendar_is_the_one_that_the_listing_names(fetcher: FakeFetcher) -> None:
    fetcher.listing = Listing("NSI", "Asia/Kolkata", "INDEX")
    store = InMemoryArtifactStore()

    fetched = CachedSource(fetcher, store, TTL_S).history("^CNXIT", NOW)
    fetcher.listing, fetcher.factor = None, 0.5  # an answer without metadata leaves it
    refetched = CachedSource(fetcher, store, TTL_S).history("^CNXIT", NEXT_EVENING)
    stored = CachedSource(fetcher, store, TTL_S).history("^CNXIT", NEXT_EVENING)

    assert fetcher.starts[2] is None
    assert fetched.series.exchange == refetched.series.exchange == stored.series.exchange == "XBOM"


def test_session_that_no_calendar_lists_is_kept_once_it_is_final(source: CachedSource, fetcher: FakeFetcher) -> None:
    muhurat = date(2024, 3, 16)  # pretend that New York traded on a Saturday

    def with_saturday(raw: RawBars) -> RawBars:
        sessions: Sessions = np.append(raw.sessions, np.datetime64(muhurat))
        return RawBars(sessions, np.vstack([raw.bars, [[150.0, 152.0, 149.0, 151.0, 500.0]]]), "USD")

    fetcher.alter = with_saturday

    during = source.history("AAPL", datetime(2024, 3, 16, 16, tzinfo=UTC))
    afterwards = source.history("AAPL", datetime(2024, 3, 17, 12, tzinfo=UTC))
    monday = source.history("AAPL", datetime(2024, 3, 18, 15, tzinfo=UTC))

    assert during.as_of == date(2024, 3, 15)
    assert afterwards.as_of == monday.as_of == muhurat
    assert None not in fetcher.starts[1:]


@pytest.mark.parametrize(
    "failure", [PricesUnreachable("down"), PricesRateLimited("slow"), PricesEmpty("none"), "no usable row"]
)
def test_stale_history_is_served_while_the_fetcher_is_unavailable(
    source: CachedSource, fetcher: FakeFetcher, failure: AppError | str
) -> None:
    source.history("AAPL", NOW)
    if isinstance(failure, AppError):
        fetcher.error = failure
    else:
        fetcher.alter = unpriced()

    history = source.history("AAPL", NEXT_EVENING)

    assert (history.as_of, history.stale) == (date(2024, 3, 14), True)


def test_meter_counts_hits_misses_and_stale_answers(fetcher: FakeFetcher, meter: RecordingMeter) -> None:
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S, meter)

    source.history("AAPL", NOW)
    source.history("AAPL", NOW)
    fetcher.error = PricesUnreachable("down")
    source.history("AAPL", NEXT_EVENING)
    refused(source, "MSFT", NEXT_EVENING)

    assert [labels["outcome"] for labels in meter.labels(PRICE_CACHE)] == ["miss", "hit", "stale", "miss"]


def test_unavailable_ticker_is_requested_again_after_a_pause(source: CachedSource, fetcher: FakeFetcher) -> None:
    fetcher.error = PricesUnreachable("down")
    refused(source, "AAPL", NOW)

    second = refused(source, "AAPL", later(40))
    fetcher.error = None
    other = source.history("MSFT", later(40))
    source.history("AAPL", later(46))

    assert (second.message, second.retry_after_s) == ("down", 5)
    assert len(other.series) > 0
    assert len(fetcher.starts) == 3


def test_rate_limit_stops_requests_for_every_ticker(source: CachedSource, fetcher: FakeFetcher) -> None:
    fetcher.error = PricesRateLimited("slow down", retry_after_s=120)
    refused(source, "AAPL", NOW)

    other = refused(source, "MSFT", later(100))

    assert (other.code, other.retry_after_s) == ("prices_rate_limited", 20)
    assert len(fetcher.starts) == 1


def test_unknown_ticker_is_remembered_for_hours(fetcher: FakeFetcher) -> None:
    fetcher.error = TickerNotFound("no such ticker")
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S, unknown_ttl_s=3_600.0)

    errors = {refused(source, "ZZZZ", later(seconds)).code for seconds in (0, 10, 3_599, 3_601)}

    assert errors == {"ticker_not_found"}
    assert len(fetcher.starts) == 2


@pytest.mark.parametrize(
    ("ticker", "kind", "again_s"), [("^CNXIT", UnknownExchange, 3_600), ("AAPL", PricesInvalid, 1)]
)
def test_history_that_cannot_be_used_is_not_fetched_again_at_once(
    source: CachedSource, fetcher: FakeFetcher, ticker: str, kind: type[AppError], again_s: float
) -> None:
    fetcher.alter = unpriced()

    errors = [refused(source, ticker, later(seconds)) for seconds in (0, again_s)]

    assert [type(error) for error in errors] == [kind, kind]
    assert len(fetcher.starts) == 1


@pytest.mark.parametrize("ticker", ["../AAPL", "", "A B"])
def test_impossible_ticker_is_never_fetched(source: CachedSource, fetcher: FakeFetcher, ticker: str) -> None:
    assert isinstance(refused(source, ticker, NOW), TickerNotFound)
    assert fetcher.starts == []


def test_listing_whose_first_session_is_not_over_is_empty(source: CachedSource) -> None:
    assert isinstance(refused(source, "AAPL", datetime(2024, 1, 2, 15, tzinfo=UTC)), PricesEmpty)


NOT_FOUND = TickerNotFound("no such ticker")


def test_known_ticker_that_is_not_found_is_served_as_stale_for_an_hour_then_unknown(fetcher: FakeFetcher) -> None:
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S, unknown_ttl_s=3_600.0)
    source.history("AAPL", NOW)
    fetcher.error = NOT_FOUND

    def after(minutes: int) -> datetime:
        return NEXT_EVENING + timedelta(minutes=minutes)

    assert all(source.history("AAPL", after(minutes)).stale for minutes in (0, 5, 10, 15, 59))
    assert len(fetcher.starts) == 1 + 3  # at 0, 10 and 59 minutes
    assert {refused(source, "AAPL", after(minutes)).code for minutes in (70, 75, 129)} == {"ticker_not_found"}
    assert len(fetcher.starts) == 5
    assert isinstance(refused(source, "AAPL", after(131)), TickerNotFound)
    assert len(fetcher.starts) == 6


def test_moment_of_the_first_404_outlives_the_process(fetcher: FakeFetcher) -> None:
    store = InMemoryArtifactStore()
    CachedSource(fetcher, store, TTL_S).history("AAPL", NOW)
    fetcher.error = NOT_FOUND
    CachedSource(fetcher, store, TTL_S).history("AAPL", NEXT_EVENING)

    error = refused(CachedSource(fetcher, store, TTL_S), "AAPL", NEXT_EVENING + timedelta(hours=1))

    assert isinstance(error, TickerNotFound)


def test_answer_forgets_that_the_ticker_was_not_found(source: CachedSource, fetcher: FakeFetcher) -> None:
    source.history("AAPL", NOW)
    fetcher.error = NOT_FOUND
    source.history("AAPL", NEXT_EVENING)
    fetcher.error = None
    found = source.history("AAPL", NEXT_EVENING + timedelta(seconds=NOT_FOUND_PAUSE_S))
    fetcher.error = NOT_FOUND

    assert not found.stale
    assert source.history("AAPL", NEXT_EVENING + timedelta(hours=14)).stale


def test_one_404_does_not_make_a_partial_history_answer_for_a_whole_one(
    source: CachedSource, fetcher: FakeFetcher
) -> None:
    source.history("AAPL", NOW, recent=10)
    fetcher.error = NOT_FOUND

    error = refused(source, "AAPL", NEXT_EVENING)

    assert "although it did before" in error.message
    assert (error.code, error.retry_after_s) == ("prices_unreachable", NOT_FOUND_PAUSE_S)


def test_fetcher_that_is_down_is_requested_a_few_times_by_threads(source: CachedSource, fetcher: FakeFetcher) -> None:
    n_threads = 8
    fetcher.error, fetcher.meanwhile = PricesUnreachable("timed out"), lambda ticker: threading.Event().wait(0.05)

    with ThreadPoolExecutor(n_threads) as threads:
        errors = threads.map(lambda number: refused(source, f"T{number}", NOW), range(500))

    assert {error.code for error in errors} == {"prices_unreachable"}
    assert len(fetcher.starts) <= n_threads + FAILURES_TO_OPEN - 1


def test_stale_histories_are_served_while_the_circuit_is_open(source: CachedSource, fetcher: FakeFetcher) -> None:
    source.history("AAPL", NOW)
    fetcher.error = PricesUnreachable("timed out")
    for number in range(FAILURES_TO_OPEN):
        refused(source, f"T{number}", NEXT_EVENING)
    n_requests = len(fetcher.starts)

    assert source.history("AAPL", NEXT_EVENING).stale
    assert len(fetcher.starts) == n_requests


def test_every_ticker_is_fetched_again_once_a_trial_has_succeeded(source: CachedSource, fetcher: FakeFetcher) -> None:
    fetcher.error = PricesUnreachable("timed out")
    for number in range(FAILURES_TO_OPEN + 1):
        refused(source, f"T{number}", NOW)

    def during_the_trial(ticker: str) -> None:
        if ticker == "TRIAL":
            refused(source, "OTHER", later(45))

    fetcher.error, fetcher.meanwhile = None, during_the_trial
    histories = [source.history(ticker, later(45)) for ticker in ("TRIAL", "OTHER", "T3", "T2", "T1", "T0")]

    assert not any(history.stale for history in histories)


def test_threads_that_need_one_ticker_share_one_fetch(source: CachedSource, fetcher: FakeFetcher) -> None:
    everyone = threading.Barrier(8)

    def as_of(_: int) -> date:
        everyone.wait(timeout=5)
        return source.history("AAPL", NOW).as_of

    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(as_of, range(8)))

    assert answers == {date(2024, 3, 14)}
    assert len(fetcher.starts) == 1


def test_different_tickers_do_not_wait_for_each_other(source: CachedSource, fetcher: FakeFetcher) -> None:
    both_fetching = threading.Barrier(2)  # broken unless both fetches run at once
    fetcher.meanwhile = lambda ticker: both_fetching.wait(timeout=5)

    with ThreadPoolExecutor(2) as threads:
        histories = list(threads.map(lambda ticker: source.history(ticker, NOW), ["AAPL", "MSFT"]))

    assert [history.series.ticker for history in histories] == ["AAPL", "MSFT"]
