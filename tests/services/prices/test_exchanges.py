import pytest

from errors import UnknownExchange
from services.prices.exchanges import Listing, currency_of, exchange_of, kind_of, suffixed

NIFTY_IT = Listing(exchange="NSI", zone="Asia/Kolkata", instrument="INDEX")


EXCHANGES = {
    "AAPL": "XNYS", "BRK-B": "XNYS", "BAC-PL": "XNYS", "PETR4.SA": "BVMF", "petr4.sa": "BVMF",
    "BTC-USD": "24/7", "ETH-BTC": "24/7", "BTC-TRY": "24/7", "ETH-SGD": "24/7", "EURUSD=X": "24/5", "ES=F": "CMES",
    "DX-Y.NYB": "IEPA", "^GSPC": "XNYS", "^BVSP": "BVMF", "^FTSE": "XLON", "000001.SS": "XSHG", "BRK-B.MX": "XMEX",
    "M&M.NS": "XBOM", "OPAP.AT": "ASEX", "TLV.RO": "XBSE",
}  # fmt: skip


@pytest.mark.parametrize(("ticker", "exchange"), EXCHANGES.items())
def test_ticker_belongs_to_its_exchange(ticker: str, exchange: str) -> None:
    assert exchange_of(ticker) == exchange


@pytest.mark.parametrize(
    ("ticker", "listing", "exchange"),
    [
        ("^CNXIT", NIFTY_IT, "XBOM"),
        ("^CNXIT", Listing(zone="Asia/Kolkata"), "XBOM"),
        ("FOO.QQ", Listing(exchange="LSE"), "XLON"),
        ("FOO-BAR", Listing(instrument="CRYPTOCURRENCY"), "24/7"),
        ("FOO", Listing(instrument="CRYPTOCURRENCY", exchange="NMS"), "24/7"),
        ("AAPL", Listing(exchange="???", zone="Mars/Olympus"), "XNYS"),
        ("^GSPC", Listing(), "XNYS"),
        ("PETR4.SA", Listing(exchange="NMS", zone="America/New_York"), "BVMF"),
    ],
)
def test_the_listing_names_the_exchange_where_no_suffix_does(ticker: str, listing: Listing, exchange: str) -> None:
    assert exchange_of(ticker, listing) == exchange


@pytest.mark.parametrize(
    ("ticker", "listing"), [("FOO.QQ", None), ("^CNXIT", None), ("^NOTHING", None), ("^CNXIT", Listing(exchange="???"))]
)
def test_a_ticker_without_suffix_listing_or_table_entry_has_no_exchange(ticker: str, listing: Listing | None) -> None:
    with pytest.raises(UnknownExchange, match="no trading calendar is known"):
        exchange_of(ticker, listing)


@pytest.mark.parametrize(
    ("ticker", "suffix"),
    [("PETR4.SA", True), ("petr4.sa", True), ("BRK.B", False), ("AAPL", False), ("EURUSD=X", True)],
)
def test_a_suffix_is_known_or_part_of_the_symbol(ticker: str, suffix: bool) -> None:
    assert suffixed(ticker) is suffix


@pytest.mark.parametrize(
    ("ticker", "currency"),
    [
        ("petr4.sa", "BRL"),
        ("AAPL", "USD"),
        ("aapl", "USD"),
        ("VOD.L", "GBp"),
        ("^BVSP", "BRL"),
        ("BTC-USD", None),
        ("EURUSD=X", None),
        ("^UNKNOWN", None),
        ("FOO.QQ", None),
    ],
)
def test_a_currency_is_that_of_most_shares_of_the_exchange(ticker: str, currency: str | None) -> None:
    assert currency_of(ticker) == currency


KINDS = {
    "^GSPC": "index", "^BVSP": "index", "PETR4.SA": "share", "BTC-USD": "crypto", "EURUSD=X": "currency",
    "ES=F": "other", "DX-Y.NYB": "other",
}  # fmt: skip


@pytest.mark.parametrize(("ticker", "kind"), KINDS.items())
def test_tickers_are_of_few_kinds(ticker: str, kind: str) -> None:
    assert kind_of(ticker, exchange_of(ticker)) == kind
