import json
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
from services.prices.cache import LONGEST_PAUSE_S, OVERLAP, CachedSource, _KeyedLocks
from services.prices.calendars import next_sessions
from services.prices.series import RawBars
from telemetry.measures import PRICE_CACHE
from tests.fakes import RecordingMeter

SESSIONS = next_sessions("AAPL", date(2024, 1, 1), 60)  # the last one is 2024-03-27
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
        return self.alter(RawBars(np.array(days, dtype="datetime64[D]"), bars, "USD"))


def cached(fetcher: FakeFetcher, folder: Path, **options: float) -> CachedSource:
    return CachedSource(fetcher, folder, TTL_S, **options)  # type: ignore[arg-type]


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


def test_rows_without_a_price_are_counted_once(tmp_path: Path) -> None:
    def without_friday(raw: RawBars) -> RawBars:
        raw.bars[raw.sessions == np.datetime64("2024-03-15"), :4] = np.nan
        return raw

    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path)
    source.history("AAPL", NOW)
    fetcher.alter = without_friday

    friday = source.history("AAPL", AFTER_CLOSE)
    monday = source.history("AAPL", NEXT_EVENING)
    tuesday = source.history("AAPL", NEXT_EVENING + timedelta(days=1))

    assert (friday.as_of, friday.stale) == (date(2024, 3, 14), True)
    assert monday.dropped == tuesday.dropped == {"missing": 1}


def test_another_process_answers_from_disk(tmp_path: Path) -> None:
    first = cached(FakeFetcher(), tmp_path).history("AAPL", NOW)
    fetcher = FakeFetcher()

    second = cached(fetcher, tmp_path).history("AAPL", later(10))

    assert fetcher.starts == []
    assert np.array_equal(second.series.bars, first.series.bars)
    assert np.array_equal(second.series.sessions, first.series.sessions)
    assert second.series.currency == "USD"


def test_file_names_are_safe_and_nothing_else_is_left(tmp_path: Path) -> None:
    cached(FakeFetcher(), tmp_path).history("^GSPC", NOW)

    assert [path.name for path in tmp_path.iterdir()] == ["%5EGSPC.json"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("AAPL", "MSFT"),
        lambda text: text.replace('"format_version":1', '"format_version":2'),
        lambda text: json.dumps({**json.loads(text), "sessions": []}),
        lambda text: json.dumps({**json.loads(text), "sessions": [], "bars": []}),
        lambda text: "\udcff",
    ],
)
def test_corrupt_document_is_discarded_and_fetched_again(
    tmp_path: Path, spoil: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    cached(FakeFetcher(), tmp_path).history("AAPL", NOW)
    path = tmp_path / "AAPL.json"
    path.write_bytes(spoil(path.read_text()).encode("utf-8", "surrogateescape"))
    fetcher = FakeFetcher()

    history = cached(fetcher, tmp_path).history("AAPL", later(1))

    assert fetcher.starts == [None]
    assert history.as_of == date(2024, 3, 14)
    assert "discarding corrupt cached prices of AAPL" in caplog.text


def test_disk_that_cannot_be_written_only_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("")
    fetcher = FakeFetcher()
    source = cached(fetcher, not_a_folder)

    source.history("AAPL", NOW)
    source.history("AAPL", later(1))

    assert len(fetcher.starts) == 1
    assert "cannot keep prices of AAPL on disk" in caplog.text


def test_write_that_fails_leaves_no_half_document(tmp_path: Path) -> None:
    (tmp_path / "AAPL.json").mkdir()  # nothing can take its place

    cached(FakeFetcher(), tmp_path).history("AAPL", NOW)

    assert [path.name for path in tmp_path.iterdir()] == ["AAPL.json"]


@pytest.mark.parametrize("error", [PricesUnreachable("down"), PricesRateLimited("slow"), PricesEmpty("none")])
def test_stale_history_is_served_while_the_fetcher_is_unavailable(tmp_path: Path, error: AppError) -> None:
    fetcher = FakeFetcher()
    source = cached(fetcher, tmp_path)
    source.history("AAPL", NOW)
    fetcher.error = error

    history = source.history("AAPL", NEXT_EVENING)

    assert (history.as_of, history.stale) == (date(2024, 3, 14), True)


def test_the_meter_hears_of_hits_misses_and_stale_answers(tmp_path: Path) -> None:
    fetcher, meter = FakeFetcher(), RecordingMeter()
    source = CachedSource(fetcher, tmp_path, TTL_S, meter)

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


def test_history_too_bad_to_use_is_not_fetched_again_at_once(tmp_path: Path) -> None:
    def spoil(raw: RawBars) -> RawBars:
        raw.bars[::2] = np.nan
        return raw

    fetcher = FakeFetcher(alter=spoil)
    source = cached(fetcher, tmp_path)

    for seconds in (0, 1):
        with pytest.raises(PricesInvalid):
            source.history("AAPL", later(seconds))

    assert len(fetcher.starts) == 1


@pytest.mark.parametrize(("ticker", "error"), [("../AAPL", TickerNotFound), ("AAPL.QQ", UnknownExchange)])
def test_impossible_ticker_is_never_fetched(tmp_path: Path, ticker: str, error: type[AppError]) -> None:
    fetcher = FakeFetcher()

    with pytest.raises(error):
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


def test_locks_are_gone_once_nobody_uses_them() -> None:
    locks = _KeyedLocks()

    with locks.hold("AAPL"), locks.hold("MSFT"):
        held = len(locks._in_use)

    assert held == 2
    assert locks._in_use == {}
