"""The setting ``NIGHTLY_TICKERS``; without imports that a ``--help`` would wait for."""

from schemas.common import TICKER_PATTERN, UNIVERSE_NAME

MAX_TICKERS = 5000  # a publication of so many has 12 MB
ALL, UNIVERSE = "all", "universe:"


def parse_tickers(text: str) -> tuple[str, ...]:
    """The tickers of a list with commas or blanks between, in capitals, each once; ``all`` and ``universe:NAME`` as is.

    Raises:
        ValueError: says which part is wrong.

    >>> parse_tickers("aapl, ^GSPC AAPL"), parse_tickers("universe:world")
    (('AAPL', '^GSPC'), ('universe:world',))
    """
    text = text.strip()
    if text == ALL or (text.startswith(UNIVERSE) and UNIVERSE_NAME.fullmatch(text.removeprefix(UNIVERSE))):
        return (text,)
    found = tuple(dict.fromkeys(text.upper().replace(",", " ").split()))
    wrong = next((one for one in found if not TICKER_PATTERN.fullmatch(one)), None)
    if wrong is not None:
        raise ValueError(f"expected tickers with commas between, all or universe:NAME, found {wrong[:40]!r}")
    if not found:
        raise ValueError("expected at least one ticker")
    if len(found) > MAX_TICKERS:
        raise ValueError(f"expected at most {MAX_TICKERS} tickers, found {len(found)}")
    return found
