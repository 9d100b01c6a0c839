from datetime import UTC, datetime

import pytest

from errors import AppError, PricesUnreachable, TickerNotFound
from services.prices.fallback import FallbackSource
from services.prices.sample import SampleSource
from services.prices.series import PriceHistory
from tests.fakes import FailingPriceSource

NOW = datetime(2018, 12, 31, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ticker", "error"), [("AAPL", PricesUnreachable("down")), ("^GSPC", TickerNotFound("unknown"))]
)
def test_other_tickers_and_other_errors_stay_errors(ticker: str, error: AppError) -> None:
    with pytest.raises(type(error)):
        FallbackSource(FailingPriceSource(error), SampleSource()).history(ticker, NOW)


def test_answer_of_the_primary_is_passed_on_and_so_is_the_number_of_sessions() -> None:
    answer = SampleSource().history("^IXIC", NOW)
    recents: list[int | None] = []

    class Primary:
        def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
            recents.append(recent)
            return answer

    assert FallbackSource(Primary(), SampleSource()).history("^IXIC", NOW, 60) is answer
    assert recents == [60]
