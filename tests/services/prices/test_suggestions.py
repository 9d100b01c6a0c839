from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import AppError, PricesUnreachable, TickerNotFound, UnknownExchange
from schemas.common import TICKER_PATTERN
from services.prices.measured import InstrumentedPriceSource
from services.prices.sample import SampleSource
from services.prices.suggestions import suggestion
from telemetry.measures import NO_METER
from tests.fakes import FailingPriceSource, FakePriceSource, walk_history

NOW = datetime(2026, 6, 1, tzinfo=UTC)


MEANT = {
    "PETR4": "PETR4.SA", "VALE3": "VALE3.SA", "BOVA11": "BOVA11.SA", "AAPL34": "AAPL34.SA",
    "BRK.B": "BRK-B", "BF.A": "BF-A", "RELIANCE.NSE": "RELIANCE.NS", "VOD.LON": "VOD.L", "PETR4.BVMF": "PETR4.SA",
    "PETR4.SAO": "PETR4.SA", "7203.TYO": "7203.T", "SAP.XETRA": "SAP.DE", "SPX": "^GSPC", "SP500": "^GSPC",
    "IBOV": "^BVSP", "^IBOV": "^BVSP", "IBOVESPA": "^BVSP", "DAX": "^GDAXI", "NASDAQ": "^IXIC", "FTSE": "^FTSE",
    "N225": "^N225", "NIKKEI": "^N225", "VIX": "^VIX", "BTCUSD": "BTC-USD", "DOGEUSD": "DOGE-USD",
    "EURUSD": "EURUSD=X", "EUR-USD": "EURUSD=X",
}  # fmt: skip


@pytest.mark.parametrize(("given", "meant"), MEANT.items())
def test_what_people_type_becomes_what_yahoo_writes(given: str, meant: str) -> None:
    assert suggestion(given) == meant
    assert suggestion(given.lower()) == meant


@pytest.mark.parametrize(
    "ticker",
    ["AAPL", "BTC", "^GSPC", "PETR4.SA", "BRK-B", "BTC-USD", "EURUSD=X", "USDUSD", "VOD.L", "PETR9", "AAPL30", "X.D"],
)
def test_without_a_guess_nothing_is_suggested(ticker: str) -> None:
    assert suggestion(ticker) is None


@given(st.from_regex(TICKER_PATTERN, fullmatch=True))
def test_a_suggestion_is_another_ticker_and_leads_to_no_further_one(ticker: str) -> None:
    meant = suggestion(ticker)

    if meant is not None:
        assert meant != ticker
        assert TICKER_PATTERN.fullmatch(meant)
        assert suggestion(meant) is None


@pytest.mark.parametrize("kind", [TickerNotFound, UnknownExchange])
def test_error_for_an_unknown_ticker_carries_the_suggestion(kind: type[AppError]) -> None:
    source = InstrumentedPriceSource(FailingPriceSource(kind("PETR4 is unknown", ticker="PETR4")), NO_METER)

    with pytest.raises(kind, match=r"^PETR4 is unknown; did you mean PETR4\.SA\?$") as raised:
        source.history("PETR4", NOW)

    assert raised.value.context == {"ticker": "PETR4", "did_you_mean": "PETR4.SA"}


def test_error_without_a_guess_and_any_other_error_stay_as_they_are() -> None:
    unknown, down = TickerNotFound("NOPE is unknown"), PricesUnreachable("down")

    with pytest.raises(TickerNotFound) as raised:
        InstrumentedPriceSource(FailingPriceSource(unknown), NO_METER).history("NOPE", NOW)
    assert raised.value is unknown
    with pytest.raises(PricesUnreachable) as refused:
        InstrumentedPriceSource(FailingPriceSource(down), NO_METER).history("PETR4", NOW)
    assert refused.value is down


def test_known_ticker_is_answered_even_if_it_looks_like_another() -> None:
    history = walk_history("DAX")

    assert InstrumentedPriceSource(FakePriceSource(history), NO_METER).history("DAX", NOW) is history


def test_sample_suggests_only_what_it_has() -> None:
    source = InstrumentedPriceSource(SampleSource(), NO_METER, among=SampleSource.tickers)

    with pytest.raises(TickerNotFound, match=r"did you mean \^GSPC\?$"):
        source.history("SPX", NOW)
    with pytest.raises(TickerNotFound, match=r"not PETR4$"):
        source.history("PETR4", NOW)
