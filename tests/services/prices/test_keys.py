from hypothesis import given
from hypothesis import strategies as st

from schemas.common import TICKER_PATTERN
from services.prices.keys import key_name, ticker_of
from services.storage.store import is_key


@given(ticker=st.from_regex(TICKER_PATTERN, fullmatch=True))
def test_every_ticker_has_a_key_name_that_leads_back_to_it(ticker: str) -> None:
    name = key_name(ticker)

    assert is_key(f"prices/{name}.npz")
    assert is_key(f"forecasts/{name}/x")
    assert ticker_of(name) == ticker
