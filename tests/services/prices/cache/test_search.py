"""The search for symbols: what is kept, for how long, and what a failing server costs."""

from datetime import UTC, datetime, timedelta

import pytest

from errors import AppError, PricesUnreachable
from services.prices.cache.breaker import FAILURES_TO_OPEN
from services.prices.cache.search import PAUSE_S, CachedSearch
from services.prices.names import Symbol

NOW = datetime(2024, 3, 15, 14, tzinfo=UTC)
APPLE = Symbol("AAPL", "Apple Inc.", "NASDAQ", "USD")


class FakeSearcher:
    name = "fake"

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.error: AppError | None = None

    def search(self, query: str, now: datetime) -> list[Symbol]:
        self.queries.append(query)
        if self.error is not None:
            raise self.error
        return [APPLE]


@pytest.fixture
def searcher() -> FakeSearcher:
    return FakeSearcher()


@pytest.fixture
def search(searcher: FakeSearcher) -> CachedSearch:
    return CachedSearch(searcher)


def test_a_query_in_any_case_and_spacing_is_requested_once(search: CachedSearch, searcher: FakeSearcher) -> None:
    answers = [search.search(query, NOW) for query in ("Apple Inc", "  apple   inc ", "APPLE INC")]

    assert answers == [[APPLE]] * 3
    assert searcher.queries == ["apple inc"]


@pytest.mark.parametrize(("age", "n_requests"), [(timedelta(hours=24, seconds=-1), 1), (timedelta(days=1), 2)])
@pytest.mark.parametrize("direction", [1, -1], ids=["later", "a clock set back"])
def test_an_answer_is_kept_for_a_day(
    search: CachedSearch, searcher: FakeSearcher, age: timedelta, n_requests: int, direction: int
) -> None:
    search.search("apple", NOW)
    search.search("apple", NOW + direction * age)

    assert len(searcher.queries) == n_requests


def test_after_failures_in_a_row_only_known_answers_are_given_for_a_while(
    search: CachedSearch, searcher: FakeSearcher
) -> None:
    search.search("apple", NOW)
    searcher.error = PricesUnreachable("down")
    for number in range(FAILURES_TO_OPEN + 2):
        with pytest.raises(PricesUnreachable):
            search.search(f"query {number}", NOW)
    n_requests = len(searcher.queries)
    searcher.error = None

    assert n_requests == 1 + FAILURES_TO_OPEN
    assert search.search("apple", NOW) == [APPLE]
    with pytest.raises(PricesUnreachable, match="the search of fake failed 3 times in a row"):
        search.search("query 0", NOW + timedelta(seconds=PAUSE_S - 1))
    assert search.search("query 0", NOW + timedelta(seconds=PAUSE_S)) == [APPLE]
