"""Names of symbols, and the search among them.

``names.csv`` has 140 well-known symbols: indices, shares and funds of B3 and the American exchanges. It was written by
hand, with each company's own name and the exchange that lists it; the symbols are Yahoo Finance's.
"""

import csv
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache, lru_cache
from pathlib import Path

from services.prices.suggestions import suggestion

FILE = Path(__file__).with_name("names.csv")
NEAR = 0.72  # similarity of a symbol or a word of a name from which it counts as near


@dataclass(frozen=True)
class Symbol:
    """A ticker and what is known about it; None where the source does not say.

    Attributes:
        symbol: as the price source writes it.
        name: of the company, index or fund.
        exchange: where it is listed, for people.
        currency: ISO code of the quote currency.
        also: other names that people search by.
    """

    symbol: str
    name: str | None = None
    exchange: str | None = None
    currency: str | None = None
    also: str = ""


@cache
def well_known() -> Mapping[str, Symbol]:
    """The symbols of ``names.csv``, best known first."""
    with FILE.open(encoding="utf-8", newline="") as lines:
        rows = [Symbol(row["symbol"], row["name"], row["exchange"], row["currency"], row["also"])
                for row in csv.DictReader(lines)]  # fmt: skip
    return {row.symbol: row for row in rows}


def named(tickers: Iterable[str]) -> list[Symbol]:
    """The tickers with their names, the well-known ones first and in their order, the others by symbol."""
    given = set(tickers)
    known = [symbol for ticker, symbol in well_known().items() if ticker in given]
    return [*known, *(Symbol(ticker) for ticker in sorted(given - well_known().keys()))]


def best_matches(query: str, among: Iterable[Symbol]) -> list[Symbol]:
    """The symbols that the query may mean, best first.

    A symbol itself comes before a name that begins with the query, and that before a name with all its words.
    """
    meant = suggestion(query.strip().upper())
    ranked = [(rank, symbol) for symbol in among if (rank := _rank(query, symbol, meant)) is not None]
    return [symbol for _, symbol in sorted(ranked, key=lambda one: one[0])]


def nearest(query: str, among: Iterable[Symbol]) -> list[Symbol]:
    """The symbols whose symbol, or a word of whose name, is spelled nearly like the query, the most similar first."""
    near = [(likeness, symbol) for symbol in among if (likeness := _likeness(query, symbol)) >= NEAR]
    return [symbol for _, symbol in sorted(near, key=lambda one: -one[0])]


def merged(first: Sequence[Symbol], second: Sequence[Symbol]) -> list[Symbol]:
    """Both without repetitions; what the first does not know of a symbol comes from the second."""
    found = {symbol.symbol: symbol for symbol in first}
    for other in second:
        known = found.get(other.symbol)
        found[other.symbol] = other if known is None else _completed(known, other)
    return list(found.values())


def _completed(known: Symbol, other: Symbol) -> Symbol:
    return Symbol(
        known.symbol,
        known.name or other.name,
        known.exchange or other.exchange,
        known.currency or other.currency,
        known.also,
    )


def _rank(query: str, symbol: Symbol, meant: str | None) -> int | None:
    """0 for the symbol itself, more for less; None where it does not match."""
    words, wanted = _words(f"{symbol.name or ''} {symbol.also}"), _words(query)
    asked, own = _letters(query), _letters(symbol.symbol)
    if not asked:
        return None
    if query.strip().upper() == symbol.symbol or symbol.symbol == meant:
        return 0
    if asked in (own, _letters(symbol.symbol.partition(".")[0]), _letters(symbol.name or "")):
        return 1
    if own.startswith(asked):
        return 2
    if _letters(symbol.name or "").startswith(asked):
        return 3
    if all(any(word.startswith(part) for word in words) for part in wanted):
        return 4
    return None


def _likeness(query: str, symbol: Symbol) -> float:
    asked = _letters(query)
    texts = (_letters(symbol.symbol.partition(".")[0]), *_words(f"{symbol.name or ''} {symbol.also}"))
    return max((SequenceMatcher(None, asked, text).ratio() for text in texts), default=0.0)


@lru_cache(4096)  # queries come from callers
def _folded(text: str) -> str:
    """Lower case, without accents: "Itaú" and "itau" are the same.

    >>> _folded("Itaú")
    'itau'
    """
    return "".join(
        letter for letter in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(letter)
    )


def _words(text: str) -> list[str]:
    kept = "".join(letter if letter.isalnum() else " " for letter in _folded(text).replace("&", ""))
    return kept.split()


def _letters(text: str) -> str:
    """Letters and digits alone.

    >>> _letters("S&P 500")
    'sp500'
    """
    return "".join(letter for letter in _folded(text) if letter.isalnum())
