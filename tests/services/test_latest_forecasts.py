"""Answers from a publication: rows, order, pages, age, and what they cost."""

import gzip
import json
from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from errors import ForecastNotPublished, InvalidRequest, StoreUnavailable
from schemas.latest import LatestForecasts, LatestQuery
from schemas.predict import Explanation
from services.latest_forecasts import LatestForecastsReader
from services.publication import publish
from telemetry.measures import FORECASTS_PUBLISHED_AT
from tests.fakes import InMemoryArtifactStore, RecordingMeter, UnreliableStore
from tests.services.publications import AS_OF, MADE_AT, publication, stored

NIGHT = MADE_AT + timedelta(hours=1)
NEXT_EVENING = MADE_AT + timedelta(days=1)


def moves(expected: float, usual: float | None) -> Explanation:
    return Explanation(expected_move_pct=expected, usual_move_pct=usual, parts=None, sentence="")


def page(reader: LatestForecastsReader, now: datetime = NIGHT, **query: object) -> LatestForecasts:
    return LatestForecasts.model_validate_json(reader.page(LatestQuery.model_validate(query), now).body)


def reading(store: InMemoryArtifactStore, *forecasts: Any, fails: tuple[str, ...] = ()) -> LatestForecastsReader:
    publish(store, publication(*forecasts, fails=fails))
    return LatestForecastsReader(store)


def test_a_row_has_the_next_session_with_ranges_and_no_change(store: InMemoryArtifactStore) -> None:
    answer = page(reading(store, stored("AAA")))

    (row,) = answer.forecasts
    assert (row.session, row.price, row.persistence) == (date(2024, 7, 19), 101.0, 100.0)
    assert row.change_pct == pytest.approx(1.0)
    assert [(one.level, one.lower, one.upper) for one in row.intervals] == [(0.8, 98.0, 104.0), (0.95, 96.0, 106.0)]
    assert (row.expected_move_pct, row.usual_move_pct, row.drift, row.closes) == (2.0, 1.0, "ok", (99.0, 100.0))
    assert (answer.made_at, answer.as_of, answer.session) == (MADE_AT, AS_OF, date(2024, 7, 19))
    assert (answer.n_tickers, answer.n_failed, answer.n_models, answer.models[0].n_tickers) == (1, 0, 1, 1)


def test_a_ticker_has_all_steps(store: InMemoryArtifactStore) -> None:
    answer = json.loads(reading(store, stored("AAA")).ticker("AAA", NIGHT).body)

    assert [(step["session"], step["price"], step["persistence"]) for step in answer["forecast"]] == [
        ("2024-07-19", 101.0, 100.0),
        ("2024-07-22", 102.0, 100.0),
    ]
    assert answer["forecast"][1]["intervals"][0] == {"level": 0.8, "lower": 97.0, "upper": 105.0}
    assert answer["explanation"]["sentence"] == "Twice the usual."


def test_forecasts_grow_stale_when_the_next_session_of_their_exchange_has_closed(
    store: InMemoryArtifactStore,
) -> None:
    reader = reading(store, stored("AAA"), stored("BTC-USD", exchange="24/7"))

    night, evening = page(reader), page(reader, NEXT_EVENING)

    assert [row.stale for row in night.forecasts] == [False, False]
    assert (night.stale, night.n_stale) == (False, 0)
    assert [row.stale for row in evening.forecasts] == [True, False]
    assert (evening.stale, evening.n_stale) == (True, 1)


def test_one_ticker_without_the_newest_prices_makes_its_row_stale_and_not_the_run(
    store: InMemoryArtifactStore,
) -> None:
    answer = page(reading(store, stored("AAA"), stored("OLD", as_of=date(2024, 7, 17))))

    assert [(row.ticker, row.stale) for row in answer.forecasts] == [("AAA", False), ("OLD", True)]
    assert (answer.stale, answer.n_stale) == (False, 1)


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("ticker", "ABC"),
        ("-ticker", "CBA"),
        ("change", "CBA"),
        ("-change", "ABC"),
        ("move", "BAC"),
        ("-relative_move", "BAC"),  # C has no usual move: last in either order
        ("relative_move", "ABC"),
        ("range", "BCA"),
        ("drift", "BAC"),  # drifted, ok, unknown
        ("-drift", "ABC"),
    ],
)
def test_rows_are_sorted_and_unknown_values_come_last(store: InMemoryArtifactStore, sort: str, order: str) -> None:
    reader = reading(
        store,
        stored("C", median=(100.0, 100.0), explanation=moves(3.0, None), drift=None),
        stored("A", median=(102.0, 100.0), explanation=moves(2.0, 4.0), lower=((90.0, 80.0), (90.0, 80.0))),
        stored("B", median=(101.0, 100.0), explanation=moves(1.0, 1.0), drift="drifted", upper=((103.0,) * 2,) * 2),
    )

    assert "".join(row.ticker for row in page(reader, sort=sort).forecasts) == order


def test_pages_follow_one_another(store: InMemoryArtifactStore) -> None:
    reader = reading(store, *map(stored, ("D", "B", "A", "C", "E")))

    seen, after = [], None
    while True:
        answer = page(reader, sort="-ticker", limit=2, after=after)
        seen.append("".join(row.ticker for row in answer.forecasts))
        after = answer.next_after
        if after is None:
            break

    assert seen == ["ED", "CB", "A"]
    with pytest.raises(InvalidRequest, match="begin again"):
        page(reader, after="Z")


def test_tickers_that_are_asked_for_come_alone_and_those_without_a_forecast_are_named(
    store: InMemoryArtifactStore,
) -> None:
    reader = reading(store, stored("AAA"), stored("BBB"), fails=("BAD",))

    every, some = page(reader), page(reader, tickers="bbb,bad,none,bbb")

    assert [(one.ticker, one.code) for one in every.failed] == [("BAD", "ticker_not_found")]
    assert [row.ticker for row in some.forecasts] == ["BBB"]
    assert [(one.ticker, one.code) for one in some.failed] == [
        ("BAD", "ticker_not_found"),
        ("NONE", "forecast_not_published"),
    ]
    assert (some.n_tickers, some.n_failed) == (2, 1)


@pytest.mark.parametrize("ticker", ["BAD", "NONE"])
def test_a_ticker_without_a_forecast_is_not_found(store: InMemoryArtifactStore, ticker: str) -> None:
    reader = reading(store, fails=("BAD",))

    with pytest.raises(ForecastNotPublished, match=ticker):
        reader.ticker(ticker, NIGHT)


def test_before_the_first_run_the_answer_says_what_to_do(store: InMemoryArtifactStore) -> None:
    with pytest.raises(ForecastNotPublished, match="NIGHTLY_TICKERS"):
        page(LatestForecastsReader(store))


def test_a_run_that_was_deleted_is_no_run(store: InMemoryArtifactStore) -> None:
    store.delete(publish(store, publication()).document)

    with pytest.raises(ForecastNotPublished):
        page(LatestForecastsReader(store))


def test_the_store_is_read_once_for_many_answers_and_a_new_run_is_noticed(
    monkeypatch: pytest.MonkeyPatch, meter: RecordingMeter
) -> None:
    store = UnreliableStore()
    publish(store, publication())
    reader = LatestForecastsReader(store, meter)
    store.calls.clear()

    for _ in range(50):
        page(reader)
        reader.ticker("AAA", NIGHT)
    n_reads = len(store.calls)
    publish(store, publication(stored("NEW"), made_at=NIGHT))
    monkeypatch.setattr("services.storage.ttl_cache.time", SimpleNamespace(monotonic=lambda: 1e9))

    assert n_reads == 2  # the pointer and the run
    assert [row.ticker for row in page(reader).forecasts] == ["NEW"]
    assert meter.values(FORECASTS_PUBLISHED_AT)[-1] == NIGHT.timestamp()


def test_while_the_store_is_down_the_last_run_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    store = UnreliableStore()
    publish(store, publication())
    reader = LatestForecastsReader(store)
    page(reader)

    store.down = True
    monkeypatch.setattr("services.storage.ttl_cache.time", SimpleNamespace(monotonic=lambda: 1e9))

    assert page(reader).n_tickers == 1
    with pytest.raises(StoreUnavailable):
        page(LatestForecastsReader(store))


def test_an_answer_keeps_its_bytes_until_it_changes(store: InMemoryArtifactStore) -> None:
    reader = reading(store, *(stored(f"T{number}") for number in range(20)))
    query = LatestQuery()

    first, again, other = (reader.page(query, now) for now in (NIGHT, NIGHT + timedelta(minutes=5), NEXT_EVENING))

    assert again is first
    assert other.etag != first.etag
    assert first.compressed is not None
    assert gzip.decompress(first.compressed) == first.body
