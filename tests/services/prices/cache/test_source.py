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
    StoreUnavailable,
    TickerNotFound,
    UnknownExchange,
)
from services.prices.cache.breaker import FAILURES_TO_OPEN, LONGEST_PAUSE_S
from services.prices.cache.kept import STORE_PAUSE_S, price_key
from services.prices.cache.source import NOT_FOUND_PAUSE_S, OVERLAP, READ_AGAIN_S, CachedSource
from services.prices.calendars import next_sessions
from services.prices.exchanges import Listing
from services.prices.series import PriceHistory, RawBars, Sessions
from services.storage.store import LocalArtifactStore
from telemetry.measures import PRICE_CACHE
from tests.fakes import InMemoryArtifactStore, RecordingMeter

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


class CountingStore(InMemoryArtifactStore):
    """Records what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def get(self, key: str) -> bytes:
        self.calls.append("get")
        return super().get(key)

    def put(self, key: str, data: bytes) -> None:
        self.calls.append("put")
        super().put(key, data)


class BrokenStore(CountingStore):
    """Fails whatever is asked."""

    def get(self, key: str) -> bytes:
        self.calls.append("get")
        raise StoreUnavailable("the store is down")

    def put(self, key: str, data: bytes) -> None:
        self.calls.append("put")
        raise StoreUnavailable("the store is down")


def cached(fetcher: FakeFetcher, folder: Path, **options: float) -> CachedSource:
    return CachedSource(fetcher, LocalArtifactStore(folder), TTL_S, **options)  # type: ignore[arg-type]


def days_of(history: PriceHistory) -> list[date]:
    return [day.item() for day in history.series.sessions]


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_first_answer_is_the_whole_history_without_the_unfinished_session(tmp_path: Path) -> None:
    fetcher = FakeFetcher()

    history = cached(fetcher, tmp_path).history("AAPL", NOW)

    assert fetcher.starts == [None]
    assert (history.series.first_session, history.as_of) == (SESSIONS[0], date(2024, 3, 14))
    assert (history.source, history.stale, history.series.currency) == ("fake", False, "USD")


def test_nothing_is_requested_within_the_time_to_live(tmp_path: Path) -> None:
    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path)
    source.history("AAPL", NOW)

    source.history("AAPL", later(TTL_S - 1))

    assert len(fetcher.starts) == 1


def test_after_the_time_to_live_only_the_tail_is_requested(tmp_path: Path) -> None:
    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path)
    before = source.history("AAPL", NOW)

    history = source.history("AAPL", NEXT_EVENING)

    assert fetcher.starts == [None, before.series.sessions[-OVERLAP].item()]
    assert [day.item() for day in history.series.sessions] == [day for day in SESSIONS if day <= NEXT_EVENING.date()]
    assert not history.stale


def test_tail_with_other_adjusted_closes_brings_the_whole_history_again(tmp_path: Path) -> None:
    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path)
    source.history("AAPL", NOW)
    fetcher.factor = 0.995  # a dividend of half a per cent

    history = source.history("AAPL", NEXT_EVENING)

    assert fetcher.starts[2] is None
    assert history.series.close[0] == pytest.approx(99.5)


def test_rounding_of_adjusted_closes_does_not_count_as_another_history(tmp_path: Path) -> None:
    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path)
    source.history("AAPL", NOW)
    fetcher.factor = 1 + 1e-7

    source.history("AAPL", NEXT_EVENING)

    assert len(fetcher.starts) == 2


def test_old_history_is_fetched_whole_again(tmp_path: Path) -> None:
    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path, whole_ttl_s=86_400.0)
    source.history("AAPL", NOW)

    source.history("AAPL", NEXT_EVENING)

    assert fetcher.starts == [None, None]


def without(day: str) -> Callable[[RawBars], RawBars]:
    """Takes the day's row out, as Yahoo sometimes does for a day or two."""

    def alter(raw: RawBars) -> RawBars:
        kept = raw.sessions != np.datetime64(day)
        return RawBars(raw.sessions[kept], raw.bars[kept], raw.currency, raw.listing)

    return alter


def unpriced(day: str) -> Callable[[RawBars], RawBars]:
    def alter(raw: RawBars) -> RawBars:
        raw.bars[raw.sessions == np.datetime64(day), :4] = np.nan
        return raw

    return alter


def test_rows_without_a_price_are_counted_for_as_long_as_they_are_so(tmp_path: Path) -> None:
    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path)
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


def test_row_that_comes_late_appears_with_the_next_tail(tmp_path: Path) -> None:
    fetcher = FakeFetcher(alter=without("2024-03-14"))
    source = cached(fetcher, tmp_path)
    before = source.history("AAPL", AFTER_CLOSE)
    fetcher.alter = lambda raw: raw

    after = source.history("AAPL", NEXT_EVENING)

    assert date(2024, 3, 14) not in days_of(before)
    assert days_of(after) == [day for day in SESSIONS if day <= NEXT_EVENING.date()]
    assert len(fetcher.starts) == 2
    assert fetcher.starts[1] is not None


def test_row_that_the_newest_answer_lacks_is_gone(tmp_path: Path) -> None:
    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path)
    source.history("AAPL", AFTER_CLOSE)
    fetcher.alter = without("2024-03-14")

    history = source.history("AAPL", NEXT_EVENING)

    assert date(2024, 3, 14) not in days_of(history)
    assert days_of(history)[-2:] == [date(2024, 3, 15), date(2024, 3, 18)]


def test_tail_that_does_not_meet_the_cached_rows_brings_the_whole_history(tmp_path: Path) -> None:
    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path)
    source.history("AAPL", datetime(2024, 2, 1, 22, tzinfo=UTC))
    fetcher.alter = lambda raw: raw if fetcher.starts[-1] is None else RawBars(raw.sessions[-1:], raw.bars[-1:], "USD")

    history = source.history("AAPL", datetime(2024, 2, 6, 22, tzinfo=UTC))

    assert fetcher.starts[2] is None
    assert days_of(history) == [day for day in SESSIONS if day <= date(2024, 2, 6)]


def test_closes_near_zero_are_compared_in_proportion(tmp_path: Path) -> None:
    fetcher = FakeFetcher(factor=1.4e-9, listing=Listing(instrument="CRYPTOCURRENCY"))
    source = cached(fetcher, tmp_path)
    source.history("BTT-USD", NOW)
    fetcher.factor *= 1.5

    history = source.history("BTT-USD", NEXT_EVENING)

    assert fetcher.starts[2] is None
    assert history.series.close[0] == pytest.approx(2.1e-7)
    assert np.abs(np.diff(np.log(history.series.close))).max() < 0.02  # no splice of two scales


def test_warm_answer_is_the_same_object_until_another_session_is_final() -> None:
    store = CountingStore()
    source = CachedSource(FakeFetcher(), store, ttl_s=86_400.0, shared=store)
    first = source.history("AAPL", NOW)
    store.calls.clear()

    assert source.history("AAPL", later(3_600)) is first
    assert source.history("AAPL", AFTER_CLOSE).stale  # Friday's close is missing
    assert store.calls == []


def test_another_process_answers_from_disk(tmp_path: Path) -> None:
    first = cached(FakeFetcher(), tmp_path).history("AAPL", NOW)
    fetcher = FakeFetcher()

    second = cached(fetcher, tmp_path).history("AAPL", later(10))

    assert fetcher.starts == []
    assert np.array_equal(second.series.bars, first.series.bars)
    assert np.array_equal(second.series.sessions, first.series.sessions)
    assert second.series.currency == "USD"


def test_entry_is_stored_under_a_key_of_the_ticker() -> None:
    store = InMemoryArtifactStore()

    for ticker in ("^GSPC", "M&M.NS"):
        CachedSource(FakeFetcher(), store, TTL_S).history(ticker, NOW)

    assert store.list_keys("") == ["prices/M^M.NS.npz", "prices/^GSPC.npz"]


def test_corrupt_document_is_discarded_and_fetched_again(caplog: pytest.LogCaptureFixture) -> None:
    store = InMemoryArtifactStore()
    store.put(price_key("AAPL"), b"PK no archive")
    fetcher = FakeFetcher(error=PricesUnreachable("down"))
    source = CachedSource(fetcher, store, TTL_S)

    with pytest.raises(PricesUnreachable):
        source.history("AAPL", NOW)
    discarded = not store.exists(price_key("AAPL"))
    fetcher.error = None
    history = source.history("AAPL", later(60))

    assert "discarding corrupt cached prices of AAPL" in caplog.text
    assert discarded
    assert history.as_of == date(2024, 3, 14)


def test_cache_files_of_an_earlier_version_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "AAPL.json").write_text("{}")
    fetcher = FakeFetcher()

    cached(fetcher, tmp_path).history("AAPL", NOW)

    assert fetcher.starts == [None]


def test_store_that_fails_only_costs_a_warning_and_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    store, fetcher = BrokenStore(), FakeFetcher()
    source = CachedSource(fetcher, store, TTL_S)

    source.history("AAPL", NOW)
    source.history("MSFT", later(1))
    left_alone = list(store.calls)
    source.history("MSFT", later(TTL_S + STORE_PAUSE_S))

    assert left_alone == ["get"]
    assert store.calls == ["get", "get"]
    assert "cannot read cached prices of AAPL: the store is down" in caplog.text


def test_disk_that_cannot_be_written_only_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("")
    fetcher = FakeFetcher()
    source = cached(fetcher, not_a_folder)

    source.history("AAPL", NOW)
    source.history("AAPL", later(1))

    assert len(fetcher.starts) == 1
    assert "prices of AAPL" in caplog.text


# the shared store


def test_another_machine_answers_from_the_shared_store() -> None:
    shared = InMemoryArtifactStore()
    CachedSource(FakeFetcher(), InMemoryArtifactStore(), TTL_S, shared=shared).history("AAPL", NOW)
    fetcher, local = FakeFetcher(), InMemoryArtifactStore()

    history = CachedSource(fetcher, local, TTL_S, shared=shared).history("AAPL", later(10))

    assert fetcher.starts == []
    assert not history.stale
    assert local.list_keys("") == [price_key("AAPL")]


def test_entry_that_is_too_old_is_looked_up_in_the_shared_store_before_a_fetch() -> None:
    shared = InMemoryArtifactStore()
    ours, theirs = FakeFetcher(), FakeFetcher()
    here = CachedSource(ours, InMemoryArtifactStore(), TTL_S, shared=shared)
    there = CachedSource(theirs, InMemoryArtifactStore(), TTL_S, shared=shared)
    here.history("AAPL", NOW)
    there.history("AAPL", NEXT_EVENING)

    history = here.history("AAPL", NEXT_EVENING + timedelta(seconds=10))

    assert len(ours.starts) == 1
    assert history.as_of == date(2024, 3, 18)


def test_stores_are_not_read_for_every_stale_answer() -> None:
    shared, fetcher = CountingStore(), FakeFetcher()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S, shared=shared)
    source.history("AAPL", NOW)
    fetcher.error = PricesUnreachable("down")
    shared.calls.clear()

    for second in range(int(READ_AGAIN_S)):
        assert source.history("AAPL", NEXT_EVENING + timedelta(seconds=second)).stale

    assert shared.calls == ["get"]


def test_stores_are_not_read_for_every_request_of_an_unknown_ticker() -> None:
    shared, fetcher = CountingStore(), FakeFetcher(error=TickerNotFound("no such ticker"))
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S, shared=shared)

    for second in range(int(READ_AGAIN_S)):
        with pytest.raises(TickerNotFound):
            source.history("ZZZZ", later(second))

    assert shared.calls == ["get"]


def test_entry_that_memory_has_no_room_for_is_read_from_the_store_again() -> None:
    fetcher = FakeFetcher()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S, memory_tickers=1)

    for second in range(3):
        for ticker in ("AAPL", "MSFT"):
            source.history(ticker, later(second))

    assert len(fetcher.starts) == 2


def test_stale_entry_is_replaced_by_the_one_another_machine_fetches_meanwhile() -> None:
    shared, ours = InMemoryArtifactStore(), FakeFetcher()
    here = CachedSource(ours, InMemoryArtifactStore(), TTL_S, shared=shared)
    here.history("AAPL", NOW)
    ours.error = PricesRateLimited("slow down", retry_after_s=600)
    before = here.history("AAPL", NEXT_EVENING)
    CachedSource(FakeFetcher(), InMemoryArtifactStore(), TTL_S, shared=shared).history("AAPL", NEXT_EVENING)

    after = here.history("AAPL", NEXT_EVENING + timedelta(seconds=READ_AGAIN_S))

    assert (before.stale, after.stale) == (True, False)


def test_shared_store_that_fails_costs_no_answer() -> None:
    source = CachedSource(FakeFetcher(), InMemoryArtifactStore(), TTL_S, shared=BrokenStore())

    assert not source.history("AAPL", NOW).stale


# partial histories


PARTIAL_START = date(2024, 3, 15) - timedelta(days=int(10 * 365.25 / 235) + 20)


def test_few_recent_sessions_are_fetched_alone() -> None:
    fetcher = FakeFetcher()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)

    history = source.history("AAPL", NOW, recent=10)

    assert fetcher.starts == [PARTIAL_START]
    assert history.as_of == date(2024, 3, 14)
    assert 10 <= len(history.series) < len([day for day in SESSIONS if day < NOW.date()])


def test_partial_history_serves_as_many_sessions_as_it_has_also_from_the_store() -> None:
    store, fetcher = InMemoryArtifactStore(), FakeFetcher()
    CachedSource(fetcher, store, TTL_S).history("AAPL", NOW, recent=10)

    for recent in (1, 10):
        CachedSource(fetcher, store, TTL_S).history("AAPL", later(1), recent=recent)

    assert len(fetcher.starts) == 1


def test_whole_history_is_fetched_where_a_partial_one_is_cached() -> None:
    fetcher = FakeFetcher()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)
    source.history("AAPL", NOW, recent=10)

    history = source.history("AAPL", later(1))
    source.history("AAPL", later(2), recent=40)
    source.history("AAPL", later(3))

    assert fetcher.starts == [PARTIAL_START, None]
    assert history.series.first_session == SESSIONS[0]


def test_whole_history_is_fetched_where_a_partial_one_has_too_few_sessions() -> None:
    fetcher = FakeFetcher()  # a listing of 2024-01-02

    history = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S).history("AAPL", NOW, recent=250)

    assert len(fetcher.starts) == 2
    assert fetcher.starts[1] is None
    assert history.series.first_session == SESSIONS[0]


def test_tail_of_a_partial_history_leaves_it_partial() -> None:
    fetcher = FakeFetcher()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)
    source.history("AAPL", NOW, recent=20)

    history = source.history("AAPL", NEXT_EVENING, recent=20)
    source.history("AAPL", NEXT_EVENING + timedelta(seconds=1))

    assert history.as_of == date(2024, 3, 18)
    assert fetcher.starts[1] == [day for day in SESSIONS if day <= date(2024, 3, 14)][-OVERLAP]
    assert fetcher.starts[2] is None


def test_rewritten_partial_history_is_fetched_partly_again() -> None:
    fetcher = FakeFetcher()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)
    source.history("AAPL", NOW, recent=10)
    fetcher.factor = 0.5

    history = source.history("AAPL", NEXT_EVENING, recent=10)

    assert fetcher.starts[2] == PARTIAL_START + timedelta(days=3)
    assert history.series.close[-1] == pytest.approx(0.5 * (100 + SESSIONS.index(date(2024, 3, 18))))


def test_whole_history_stays_whole_when_only_recent_sessions_are_needed() -> None:
    fetcher = FakeFetcher()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)
    source.history("AAPL", NOW)
    fetcher.factor = 0.5

    source.history("AAPL", NEXT_EVENING, recent=10)

    assert fetcher.starts[2] is None


def test_partial_history_is_not_served_as_stale_to_a_caller_that_needs_more() -> None:
    fetcher = FakeFetcher()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)
    source.history("AAPL", NOW, recent=10)
    fetcher.error = PricesUnreachable("down")

    with pytest.raises(PricesUnreachable):
        source.history("AAPL", later(1))
    assert source.history("AAPL", NEXT_EVENING, recent=10).stale


# calendars


def test_calendar_is_the_one_that_the_listing_names() -> None:
    fetcher = FakeFetcher(listing=Listing("NSI", "Asia/Kolkata", "INDEX"))
    store = InMemoryArtifactStore()

    fetched = CachedSource(fetcher, store, TTL_S).history("^CNXIT", NOW)
    stored = CachedSource(fetcher, store, TTL_S).history("^CNXIT", NOW)

    assert fetched.series.exchange == stored.series.exchange == "XBOM"


def test_index_that_nothing_names_a_calendar_for_is_refused_and_not_fetched_again() -> None:
    fetcher = FakeFetcher()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)

    for seconds in (0, 3_600):
        with pytest.raises(UnknownExchange):
            source.history("^CNXIT", later(seconds))

    assert len(fetcher.starts) == 1


def test_session_that_no_calendar_lists_is_kept_once_it_is_final(tmp_path: Path) -> None:
    muhurat = date(2024, 3, 16)  # pretend that New York traded on a Saturday

    def with_saturday(raw: RawBars) -> RawBars:
        sessions: Sessions = np.append(raw.sessions, np.datetime64(muhurat))
        return RawBars(sessions, np.vstack([raw.bars, [[150.0, 152.0, 149.0, 151.0, 500.0]]]), "USD")

    fetcher = FakeFetcher(alter=with_saturday)
    source = cached(fetcher, tmp_path)

    during = source.history("AAPL", datetime(2024, 3, 16, 16, tzinfo=UTC))
    afterwards = source.history("AAPL", datetime(2024, 3, 17, 12, tzinfo=UTC))
    monday = source.history("AAPL", datetime(2024, 3, 18, 15, tzinfo=UTC))

    assert during.as_of == date(2024, 3, 15)
    assert afterwards.as_of == monday.as_of == muhurat
    assert None not in fetcher.starts[1:]


@pytest.mark.parametrize("error", [PricesUnreachable("down"), PricesRateLimited("slow"), PricesEmpty("none")])
def test_stale_history_is_served_while_the_fetcher_is_unavailable(tmp_path: Path, error: AppError) -> None:
    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path)
    source.history("AAPL", NOW)
    fetcher.error = error

    history = source.history("AAPL", NEXT_EVENING)

    assert (history.as_of, history.stale) == (date(2024, 3, 14), True)


def test_meter_counts_hits_misses_and_stale_answers(tmp_path: Path) -> None:
    fetcher, meter = FakeFetcher(), RecordingMeter()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S, meter)

    source.history("AAPL", NOW)
    source.history("AAPL", NOW)
    fetcher.error = PricesUnreachable("down")
    source.history("AAPL", NEXT_EVENING)
    with pytest.raises(PricesUnreachable):
        source.history("MSFT", NEXT_EVENING)

    assert [labels["outcome"] for labels in meter.labels(PRICE_CACHE)] == ["miss", "hit", "stale", "miss"]


def test_unavailable_fetcher_is_left_alone_for_a_while_then_asked_again(tmp_path: Path) -> None:
    fetcher = FakeFetcher(error=PricesUnreachable("down"))
    source = cached(fetcher, tmp_path, pause_s=45.0)
    with pytest.raises(PricesUnreachable):
        source.history("AAPL", NOW)

    with pytest.raises(PricesUnreachable, match="down") as second:
        source.history("AAPL", later(40))
    fetcher.error = None
    source.history("AAPL", later(46))

    assert second.value.retry_after_s == 5
    assert len(fetcher.starts) == 2


def test_rate_limit_silences_requests_for_every_ticker(tmp_path: Path) -> None:
    fetcher = FakeFetcher(error=PricesRateLimited("slow down", retry_after_s=120))
    source = cached(fetcher, tmp_path)
    with pytest.raises(PricesRateLimited):
        source.history("AAPL", NOW)

    with pytest.raises(PricesRateLimited) as other:
        source.history("MSFT", later(100))

    assert other.value.retry_after_s == 20
    assert len(fetcher.starts) == 1


def test_no_server_silences_us_for_longer_than_a_quarter_of_an_hour(tmp_path: Path) -> None:
    fetcher = FakeFetcher(error=PricesRateLimited("slow down", retry_after_s=10**9))
    source = cached(fetcher, tmp_path)
    with pytest.raises(PricesRateLimited):
        source.history("AAPL", NOW)
    fetcher.error = None

    history = source.history("AAPL", later(LONGEST_PAUSE_S + 1))

    assert not history.stale


def test_unreachable_ticker_does_not_silence_others(tmp_path: Path) -> None:
    fetcher = FakeFetcher(error=PricesUnreachable("nonsense"))
    source = cached(fetcher, tmp_path)
    with pytest.raises(PricesUnreachable):
        source.history("AAPL", NOW)
    fetcher.error = None

    assert len(source.history("MSFT", later(1)).series) > 0


def test_unknown_ticker_is_remembered_for_hours(tmp_path: Path) -> None:
    fetcher = FakeFetcher(error=TickerNotFound("never heard of it"))
    source = cached(fetcher, tmp_path, unknown_ttl_s=3_600.0)

    for seconds in (0, 10, 3_599, 3_601):
        with pytest.raises(TickerNotFound):
            source.history("ZZZZ", later(seconds))

    assert len(fetcher.starts) == 2


def test_answer_without_a_usable_row_does_not_replace_what_is_cached(tmp_path: Path) -> None:
    def spoil(raw: RawBars) -> RawBars:
        raw.bars[:] = np.nan
        return raw

    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path)
    source.history("AAPL", NOW)
    fetcher.alter = spoil

    history = source.history("AAPL", NEXT_EVENING)

    assert (history.as_of, history.stale) == (date(2024, 3, 14), True)


def test_answer_without_metadata_leaves_the_calendar_as_it_was(tmp_path: Path) -> None:
    fetcher = FakeFetcher(listing=Listing("NSI", "Asia/Kolkata", "INDEX"))
    source = cached(fetcher, tmp_path)
    source.history("^CNXIT", NOW)
    fetcher.listing, fetcher.factor = None, 0.5

    history = source.history("^CNXIT", NEXT_EVENING)

    assert fetcher.starts[2] is None
    assert history.series.exchange == "XBOM"


# tickers that vanish


def not_found(fetcher: FakeFetcher) -> None:
    fetcher.error = TickerNotFound("no such ticker")


def test_known_ticker_that_is_not_found_is_served_as_stale_for_an_hour_then_unknown() -> None:
    fetcher = FakeFetcher()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S, unknown_ttl_s=3_600.0)
    source.history("AAPL", NOW)
    not_found(fetcher)

    def ask(minutes: int) -> bool:
        return source.history("AAPL", NEXT_EVENING + timedelta(minutes=minutes)).stale

    assert [ask(minutes) for minutes in (0, 5, 10, 15, 59)] == [True] * 5
    assert len(fetcher.starts) == 1 + 3  # at 0, 10 and 59 minutes
    for minutes in (70, 75, 129):
        with pytest.raises(TickerNotFound):
            ask(minutes)
    assert len(fetcher.starts) == 5
    with pytest.raises(TickerNotFound):
        ask(131)
    assert len(fetcher.starts) == 6


def test_moment_of_the_first_404_outlives_the_process() -> None:
    store, fetcher = InMemoryArtifactStore(), FakeFetcher()
    CachedSource(fetcher, store, TTL_S).history("AAPL", NOW)
    not_found(fetcher)
    CachedSource(fetcher, store, TTL_S).history("AAPL", NEXT_EVENING)

    with pytest.raises(TickerNotFound):
        CachedSource(fetcher, store, TTL_S).history("AAPL", NEXT_EVENING + timedelta(hours=1))


def test_answer_forgets_that_the_ticker_was_not_found() -> None:
    fetcher = FakeFetcher()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)
    source.history("AAPL", NOW)
    not_found(fetcher)
    source.history("AAPL", NEXT_EVENING)
    fetcher.error = None
    found = source.history("AAPL", NEXT_EVENING + timedelta(seconds=NOT_FOUND_PAUSE_S))
    not_found(fetcher)

    assert not found.stale
    assert source.history("AAPL", NEXT_EVENING + timedelta(hours=14)).stale


def test_one_404_does_not_make_a_partial_history_answer_for_a_whole_one() -> None:
    fetcher = FakeFetcher()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)
    source.history("AAPL", NOW, recent=10)
    not_found(fetcher)

    with pytest.raises(PricesUnreachable, match="although it did before") as refused:
        source.history("AAPL", NEXT_EVENING)

    assert refused.value.retry_after_s == NOT_FOUND_PAUSE_S


# the circuit breaker


def test_fetcher_that_is_down_is_requested_a_handful_of_times_for_a_batch() -> None:
    fetcher = FakeFetcher(error=PricesUnreachable("timed out"))
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)

    errors = []
    for number in range(500):
        with pytest.raises(PricesUnreachable) as caught:
            source.history(f"T{number}", NOW)
        errors.append(caught.value)

    assert len(fetcher.starts) == FAILURES_TO_OPEN
    assert str(errors[-1]) == "fake failed 3 times in a row; next try in 45 s, at 14:00:45 UTC"
    assert errors[-1].retry_after_s == 45


def test_fetcher_that_is_down_is_requested_a_handful_of_times_by_threads() -> None:
    n_threads = 8
    fetcher = FakeFetcher(error=PricesUnreachable("timed out"), meanwhile=lambda ticker: threading.Event().wait(0.05))
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)

    def outcome(ticker: str) -> str:
        with pytest.raises(PricesUnreachable) as caught:
            source.history(ticker, NOW)
        return caught.value.code

    with ThreadPoolExecutor(n_threads) as threads:
        outcomes = list(threads.map(outcome, [f"T{number}" for number in range(500)]))

    assert set(outcomes) == {"prices_unreachable"}
    assert len(fetcher.starts) <= n_threads + FAILURES_TO_OPEN - 1


def test_stale_histories_are_served_while_the_circuit_is_open() -> None:
    fetcher = FakeFetcher()
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)
    source.history("AAPL", NOW)
    fetcher.error = PricesUnreachable("timed out")
    for number in range(3):
        with pytest.raises(PricesUnreachable):
            source.history(f"T{number}", NEXT_EVENING)
    n_requests = len(fetcher.starts)

    history = source.history("AAPL", NEXT_EVENING)

    assert history.stale
    assert len(fetcher.starts) == n_requests


def test_ticker_refused_during_a_trial_is_fetched_once_the_trial_has_succeeded() -> None:
    fetcher = FakeFetcher(error=PricesUnreachable("timed out"))
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)
    for number in range(FAILURES_TO_OPEN):
        with pytest.raises(PricesUnreachable):
            source.history(f"T{number}", NOW)

    def ask_during_the_trial(ticker: str) -> None:
        if ticker == "TRIAL":
            with pytest.raises(PricesUnreachable):
                source.history("OTHER", later(45))

    fetcher.error, fetcher.meanwhile = None, ask_during_the_trial
    source.history("TRIAL", later(45))

    assert not source.history("OTHER", later(45)).stale


def test_every_ticker_is_fetched_again_once_a_trial_has_succeeded() -> None:
    fetcher = FakeFetcher(error=PricesUnreachable("timed out"))
    source = CachedSource(fetcher, InMemoryArtifactStore(), TTL_S)
    for number in range(4):
        with pytest.raises(PricesUnreachable):
            source.history(f"T{number}", NOW)
    fetcher.error = None

    histories = [source.history(f"T{number}", later(45)) for number in range(3, -1, -1)]

    assert not any(history.stale for history in histories)


def test_history_too_bad_to_use_is_not_fetched_again_at_once(tmp_path: Path) -> None:
    def spoil(raw: RawBars) -> RawBars:
        raw.bars[:] = np.nan
        return raw

    fetcher = FakeFetcher(alter=spoil)
    source = cached(fetcher, tmp_path)

    for seconds in (0, 1):
        with pytest.raises(PricesInvalid):
            source.history("AAPL", later(seconds))

    assert len(fetcher.starts) == 1


@pytest.mark.parametrize("ticker", ["../AAPL", "", "A B"])
def test_impossible_ticker_is_never_fetched(tmp_path: Path, ticker: str) -> None:
    fetcher = FakeFetcher()

    with pytest.raises(TickerNotFound):
        cached(fetcher, tmp_path).history(ticker, NOW)

    assert fetcher.starts == []


def test_listing_whose_first_session_is_not_over_is_empty(tmp_path: Path) -> None:
    first_day = datetime(2024, 1, 2, 15, tzinfo=UTC)

    with pytest.raises(PricesEmpty):
        cached(FakeFetcher(), tmp_path).history("AAPL", first_day)


def test_threads_that_ask_for_one_ticker_share_one_fetch(tmp_path: Path) -> None:
    everyone = threading.Barrier(8)
    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path)

    def ask(_: int) -> date:
        everyone.wait(timeout=5)
        return source.history("AAPL", NOW).as_of

    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(ask, range(8)))

    assert answers == {date(2024, 3, 14)}
    assert len(fetcher.starts) == 1


def test_different_tickers_do_not_wait_for_each_other(tmp_path: Path) -> None:
    both_fetching = threading.Barrier(2)  # broken unless both fetches are under way at once
    fetcher = FakeFetcher(meanwhile=lambda ticker: both_fetching.wait(timeout=5))
    source = cached(fetcher, tmp_path)

    with ThreadPoolExecutor(2) as threads:
        histories = list(threads.map(lambda ticker: source.history(ticker, NOW), ["AAPL", "MSFT"]))

    assert [history.series.ticker for history in histories] == ["AAPL", "MSFT"]


def test_memory_is_bounded_and_the_disk_takes_over(tmp_path: Path) -> None:
    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path, memory_tickers=1)

    for ticker in ("AAPL", "MSFT", "AAPL"):
        source.history(ticker, NOW)

    assert len(source._entries) == 1
    assert len(fetcher.starts) == 2
