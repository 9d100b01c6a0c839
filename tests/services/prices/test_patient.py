"""A fetcher that waits while the source limits requests."""

from datetime import UTC, date, datetime

import pytest

from errors import AppError, PricesRateLimited, PricesUnreachable, TickerNotFound
from services.prices.patient import PatientFetcher
from services.prices.series import RawBars
from tests.fakes import new_york_sessions, random_walk

NOW = datetime(2024, 3, 15, 14, tzinfo=UTC)
RAW = RawBars(new_york_sessions(3), random_walk(3))


class Failing:
    """Raises these errors in turn, then answers."""

    name = "yahoo"

    def __init__(self, *errors: AppError) -> None:
        self.errors = list(errors)

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        if self.errors:
            raise self.errors.pop(0)
        return RAW


def limits(*seconds: int | None) -> list[PricesRateLimited]:
    return [PricesRateLimited("slow down", retry_after_s=wait_s) for wait_s in seconds]


@pytest.mark.parametrize(
    ("seconds", "waits"),
    [((), []), ((10, 10), [10, 20]), ((None, None, None), [60, 120, 240]), ((900,), [900])],
)
def test_it_waits_twice_as_long_each_time(seconds: tuple[int | None, ...], waits: list[float]) -> None:
    waited: list[float] = []
    fetcher = PatientFetcher(Failing(*limits(*seconds)), waited.append)

    assert fetcher.fetch("AAPL", None, NOW) is RAW
    assert (waited, fetcher.failure, fetcher.name) == (waits, None, "yahoo")


@pytest.mark.parametrize(
    ("errors", "waits"),
    [
        (limits(10, 10, 10, 10), [10, 20, 40]),  # three waits are enough
        (limits(500, 500), [500]),  # 1,000 seconds are too many
        (limits(901), []),
        ([PricesUnreachable("down")], []),
    ],
)
def test_it_gives_up_and_keeps_the_failure_until_the_next_fetch(errors: list[AppError], waits: list[float]) -> None:
    waited: list[float] = []
    fetcher = PatientFetcher(Failing(*errors), waited.append)

    with pytest.raises(type(errors[-1])) as failure:
        fetcher.fetch("AAPL", None, NOW)

    assert fetcher.failure is failure.value is errors[-1]
    assert waited == waits
    fetcher.fetch("AAPL", None, NOW)
    assert fetcher.failure is None


def test_an_answer_that_is_no_outage_is_no_failure() -> None:
    fetcher = PatientFetcher(Failing(TickerNotFound("no such ticker")), lambda _: None)

    with pytest.raises(TickerNotFound):
        fetcher.fetch("NONE", None, NOW)

    assert fetcher.failure is None
