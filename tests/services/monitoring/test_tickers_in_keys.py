"""Tickers with ``&`` and ``_`` in the keys of records and scores, also in those of version 0.1."""

from datetime import UTC, date, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.common import TICKER_PATTERN
from schemas.keys import key_name, ticker_of
from schemas.realised import SessionScores
from services.monitoring.forecast_log import recorded
from services.monitoring.realised import scores_since, tickers_scored
from services.monitoring.scoring import keys_of_scores, scores_key
from services.storage.store import is_key
from tests.fakes import InMemoryArtifactStore

SESSION = date(2024, 7, 19)
LONG_AGO = date(2000, 1, 1)


def put_scores(store: InMemoryArtifactStore, ticker: str, key: str) -> None:
    scores = SessionScores(ticker=ticker, session=SESSION, scored_at=datetime(2024, 7, 20, tzinfo=UTC), pairs=())
    store.put(key, scores.model_dump_json().encode())


def test_scores_of_two_tickers_never_share_a_key(store: InMemoryArtifactStore) -> None:
    for ticker in ("M&M.NS", "M_M.NS", "^GSPC"):
        put_scores(store, ticker, scores_key(ticker, SESSION))

    assert tickers_scored(store) == ["M&M.NS", "M_M.NS", "^GSPC"]
    for ticker in ("M&M.NS", "M_M.NS"):
        assert [scores.ticker for scores in scores_since(store, LONG_AGO, ticker)] == [ticker]


def test_scores_of_version_0_1_belong_to_the_ticker_that_they_name(store: InMemoryArtifactStore) -> None:
    put_scores(store, "M&M.NS", f"scores/M_M.NS/{SESSION}.json")

    assert tickers_scored(store) == ["M&M.NS"]
    assert [scores.ticker for scores in scores_since(store, LONG_AGO, "M&M.NS")] == ["M&M.NS"]
    assert scores_since(store, LONG_AGO, "M_M.NS") == []


def test_scores_that_cannot_be_read_belong_to_no_ticker_of_a_shared_folder(store: InMemoryArtifactStore) -> None:
    store.put(f"scores/M_M.NS/{SESSION}.json", b"{")

    assert keys_of_scores(store, "M&M.NS") == keys_of_scores(store, "M_M.NS") == []


def test_a_record_of_version_0_1_is_found_under_its_ticker(store: InMemoryArtifactStore) -> None:
    store.put("forecasts/M_M.NS/default/2024-07-19_03.json", b"{}")
    store.put("forecasts/M_M.NS/default/2024-07-19_03_2024-07-24.json", b"{}")
    store.put("forecasts/M^M.NS/default/2024-07-19_03_2024-07-24.json", b"{}")

    assert sorted(found.ticker for found in recorded(store)) == ["M&M.NS", "M&M.NS", "M_M.NS"]


@settings(max_examples=40)
@given(ticker=st.from_regex(TICKER_PATTERN, fullmatch=True))
def test_every_ticker_has_a_key_name_that_leads_back_to_it(ticker: str) -> None:
    name = key_name(ticker)

    assert is_key(f"prices/{name}.npz")
    assert is_key(f"forecasts/{name}/x")
    assert ticker_of(name) == ticker
