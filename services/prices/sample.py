"""Real daily history of two American indices from the ``arch`` package; needs no network."""

import gzip
from dataclasses import replace
from datetime import datetime
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path

from at_once import may_take_long
from errors import PricesUnreachable, TickerNotFound
from services.prices.calendars import history_at, local_date
from services.prices.cleaning import clean_raw
from services.prices.csv.source import read_bars
from services.prices.exchanges import exchange_of
from services.prices.series import SAMPLE, Defects, PriceHistory, PriceSeries

_FILES = {"^GSPC": "data/sp500/sp500.csv.gz", "^IXIC": "data/nasdaq/nasdaq.csv.gz"}


class SampleSource:
    """The S&P 500 and the Nasdaq Composite, 1999 to 2018, in US dollars.

    Index levels carry no splits or dividends: the file's Close and Adj Close agree.
    """

    name = SAMPLE
    tickers = frozenset(_FILES)

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:  # noqa: ARG002  in memory
        if ticker not in self.tickers:
            known = ", ".join(sorted(self.tickers))
            raise TickerNotFound(f"the sample prices have {known}, not {ticker}", ticker=ticker)
        series, defects = _load(ticker)
        return history_at(series, now, source=self.name, defects=defects)


@lru_cache(maxsize=len(_FILES))
def _load(ticker: str) -> tuple[PriceSeries, Defects]:
    may_take_long()
    path = _package_folder() / _FILES[ticker]
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            raw = read_bars(lines, path.name, ticker=ticker, local_date=partial(local_date, exchange_of(ticker)))
    except OSError as error:
        raise PricesUnreachable(f"cannot read the sample {path.name}: {error}") from error
    return clean_raw(ticker, replace(raw, currency="USD"))


def _package_folder() -> Path:
    """Where ``arch`` is installed; found without importing it, because that would import pandas and scipy."""
    spec = find_spec("arch")
    if spec is None or spec.origin is None:
        raise PricesUnreachable("the sample prices need the package arch, which is not installed")
    return Path(spec.origin).parent
