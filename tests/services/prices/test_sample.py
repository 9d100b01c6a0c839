from datetime import UTC, date, datetime

import pytest

from errors import TickerNotFound
from services.prices.sample import SampleSource

TODAY = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(("ticker", "last_close"), [("^GSPC", 2506.850098), ("^IXIC", 6635.279785)])
def test_sample_is_twenty_years_of_real_closes(ticker: str, last_close: float) -> None:
    history = SampleSource().history(ticker, TODAY)

    assert (history.series.first_session, history.as_of) == (date(1999, 1, 4), date(2018, 12, 31))
    assert len(history.series) == 5031
    assert history.series.close[-1] == last_close
    assert history.series.currency == "USD"


def test_sample_has_known_bars_and_no_defects() -> None:
    history = SampleSource().history("^GSPC", TODAY, recent=5)

    assert history.series.bars[0].tolist() == [1229.22998, 1248.810059, 1219.099976, 1228.099976, 877000000.0]
    assert (history.dropped, history.repaired) == ({}, {})
    assert history.demo


def test_unknown_ticker_is_answered_with_the_known_ones() -> None:
    with pytest.raises(TickerNotFound, match=r"\^GSPC, \^IXIC, not AAPL"):
        SampleSource().history("AAPL", TODAY)
