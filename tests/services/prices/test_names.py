"""Symbols are found by name, in any spelling that people use."""

import pytest

from schemas.common import TICKER_PATTERN
from services.prices.exchanges import exchange_of
from services.prices.names import Symbol, best_matches, merged, named, nearest, well_known


def found(query: str) -> list[str]:
    return [one.symbol for one in best_matches(query, well_known().values())]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("S&P 500", "^GSPC"),
        ("sp500", "^GSPC"),
        ("Petrobras", "PETR4.SA"),
        ("petr4", "PETR4.SA"),
        ("PETR4.SA", "PETR4.SA"),
        ("ITAU", "ITUB4.SA"),
        ("itaú unib", "ITUB4.SA"),
        ("google", "GOOGL"),
        ("IBOV", "^BVSP"),
        ("nasdaq", "^IXIC"),
        ("banco do b", "BBAS3.SA"),
        ("brk.b", "BRK-B"),
    ],
)
def test_a_name_or_a_symbol_finds_what_it_means(query: str, first: str) -> None:
    assert found(query)[0] == first


@pytest.mark.parametrize("query", ["xyzzy", "&", "", "   ", "\0", "💥", "'; DROP TABLE"])
def test_what_is_no_name_finds_nothing(query: str) -> None:
    assert found(query) == []


def test_a_misspelling_is_near_its_name() -> None:
    assert [one.symbol for one in nearest("appel", well_known().values())] == ["AAPL"]
    assert nearest("xyzzy", well_known().values()) == []


def test_every_well_known_symbol_is_a_ticker_with_a_calendar() -> None:
    for symbol in well_known().values():
        assert TICKER_PATTERN.fullmatch(symbol.symbol)
        assert exchange_of(symbol.symbol)
        assert symbol.name
        assert symbol.exchange


def test_tickers_are_named_and_the_well_known_come_first() -> None:
    assert [(one.symbol, one.name) for one in named(["ZZZ", "PETR4.SA", "AAA", "^GSPC"])] == [
        ("^GSPC", "S&P 500"),
        ("PETR4.SA", "Petrobras PN"),
        ("AAA", None),
        ("ZZZ", None),
    ]


def test_two_lists_become_one_without_repetitions() -> None:
    one, other = Symbol("A", "Alpha"), Symbol("A", "Another", "NYSE", "USD")

    assert merged([one], [other, Symbol("B")]) == [Symbol("A", "Alpha", "NYSE", "USD"), Symbol("B")]
