from cli import options
from schemas.common import OF_TICKER, TICKER_PATTERN


def test_names_of_tickers_and_their_aliases_are_the_apis() -> None:
    assert (options.OF_TICKER, options._TICKER.pattern) == (OF_TICKER, TICKER_PATTERN.pattern)
