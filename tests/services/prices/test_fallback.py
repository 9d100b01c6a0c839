from datetime import UTC, datetime

import pytest

from errors import AppError, PricesUnreachable, TickerNotFound
from services.prices.fallback import FallbackSource
from services.prices.sample import SampleSource
from services.prices.series import PriceHistory

NOW = datetime(2018, 12, 31, 23, tzinfo=UTC)


class Failing:
    def __init__(self, error: AppError) -> None:
        self._error = error

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        raise self._error


def test_unavailable_index_is_answered_from_the_sample_and_called_stale() -> None:
    source = FallbackSource(Failing(PricesUnreachable("down")), SampleSource())

    history = source.history("^GSPC", NOW)

    assert (history.source, history.stale, history.demo) == ("sample", True, True)


def test_no_other_ticker_is_answered_from_the_sample() -> None:
    source = FallbackSource(Failing(PricesUnreachable("down")), SampleSource())

    with pytest.raises(PricesUnreachable):
        source.history("AAPL", NOW)


def test_ticker_the_primary_does_not_know_stays_unknown() -> None:
    source = FallbackSource(Failing(TickerNotFound("unknown")), SampleSource())

    with pytest.raises(TickerNotFound):
        source.history("^GSPC", NOW)


def test_answer_of_the_primary_is_passed_on_and_so_is_the_number_of_sessions() -> None:
    answer = SampleSource().history("^IXIC", NOW)
    asked: list[int | None] = []

    class Primary:
        def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
            asked.append(recent)
            return answer

    assert FallbackSource(Primary(), SampleSource()).history("^IXIC", NOW, 60) is answer
    assert asked == [60]
