from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from errors import AppError, PricesUnreachable, TickerNotFound
from services.prices.measured import FORGOTTEN_AFTER, InstrumentedFetcher, InstrumentedPriceSource
from services.prices.series import PriceHistory, RawBars
from telemetry.measures import NO_METER, PRICE_AGE, PRICE_FETCH_SECONDS, PRICE_FETCHES, PRICES_SERVED
from tests.fakes import (
    FailingPriceSource,
    FakePriceSource,
    RecordingMeter,
    new_york_sessions,
    random_walk,
    walk_history,
)

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)


class Fetcher:
    name = "somewhere"

    def __init__(self, error: AppError | None = None) -> None:
        self._error = error

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        if self._error is not None:
            raise self._error
        return RawBars(new_york_sessions(5), random_walk(5), "USD")


def test_a_fetch_is_counted_by_source_and_timed(meter: RecordingMeter) -> None:
    fetched = InstrumentedFetcher(Fetcher(), meter).fetch("WALK", None, NOW)

    assert fetched.sessions.size == 5
    assert meter.labels(PRICE_FETCHES) == [{"source": "somewhere", "outcome": "ok"}]
    assert meter.labels(PRICE_FETCH_SECONDS) == [{"source": "somewhere"}]


@pytest.mark.parametrize("error", [PricesUnreachable("down"), TickerNotFound("unheard of")])
def test_a_fetch_that_fails_is_counted_by_its_code(meter: RecordingMeter, error: AppError) -> None:
    with pytest.raises(type(error)):
        InstrumentedFetcher(Fetcher(error), meter).fetch("WALK", None, NOW)

    assert meter.labels(PRICE_FETCHES) == [{"source": "somewhere", "outcome": error.code}]


@pytest.mark.parametrize(("stale", "freshness"), [(False, "fresh"), (True, "stale")])
def test_what_is_served_is_counted_by_its_freshness(meter: RecordingMeter, stale: bool, freshness: str) -> None:
    history = replace(walk_history(), stale=stale)

    served = InstrumentedPriceSource(FakePriceSource(history), meter).history("WALK", NOW)

    assert served is history
    assert meter.labels(PRICES_SERVED) == [{"freshness": freshness}]


@pytest.mark.parametrize(("hours", "age_s"), [(1, 3_600), (-1, 0)])
def test_age_counts_from_the_end_of_the_day_of_the_newest_session(
    meter: RecordingMeter, hours: int, age_s: float
) -> None:
    history = walk_history()
    day_ended_at = datetime.combine(history.as_of, datetime.min.time(), tzinfo=UTC) + timedelta(days=1)
    source = InstrumentedPriceSource(FakePriceSource(history), meter)

    source.history("WALK", day_ended_at + timedelta(hours=hours))

    assert meter.values(PRICE_AGE) == [age_s]


def test_a_ticker_is_stale_until_it_is_served_fresh_or_long_ago() -> None:
    history = walk_history()
    later = NOW + timedelta(minutes=1)

    class Source(FakePriceSource):
        def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
            return replace(history, stale=now == NOW)

    source = InstrumentedPriceSource(Source(), NO_METER)

    source.history("WALK", NOW)
    assert source.tickers_with("prices_stale", NOW) == ("WALK",)
    assert source.tickers_with("prices_stale", NOW + FORGOTTEN_AFTER) == ()
    source.history("WALK", later)
    assert source.tickers_with("prices_stale", later) == ()


@pytest.mark.parametrize(
    ("error", "tickers_with"), [(PricesUnreachable("down"), ("WALK",)), (TickerNotFound("unheard of"), ())]
)
def test_a_ticker_is_unavailable_while_its_source_fails_but_not_where_it_does_not_exist(
    meter: RecordingMeter, error: AppError, tickers_with: tuple[str, ...]
) -> None:
    source = InstrumentedPriceSource(FailingPriceSource(error), meter)

    with pytest.raises(type(error)):
        source.history("WALK", NOW)

    assert source.tickers_with("prices_unavailable", NOW) == tickers_with
