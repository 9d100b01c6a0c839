"""The prices of a chunk as one object of the store: fetched once, by the coordinator, and the same for every worker.

So there is one polite rate towards the price source whatever runs the workers, a worker needs no price source of its
own, and a ticker that is done again sees the same prices.
"""

import zipfile
import zlib
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from errors import ArtifactCorrupt, TickerNotFound
from services.prices.series import COLUMNS, Defects, PriceHistory, PriceSeries, Sessions

MAX_BYTES = 500_000_000  # unpacked: a hundred tickers of three centuries have a tenth

_DAY = np.dtype("datetime64[D]")
_UNREADABLE = (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile, zlib.error, ValidationError)


class _About(BaseModel):
    """All of a history but its arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ticker: str
    exchange: str
    currency: str | None
    source: str
    stale: bool
    dropped: dict[str, tuple[date | None, ...]]
    repaired: dict[str, tuple[date | None, ...]]


class PackedPrices:
    """A price source of exactly the histories that were packed, indices of the market among them."""

    def __init__(self, histories: Iterable[PriceHistory]) -> None:
        self._histories = {history.series.ticker: history for history in histories}

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:  # noqa: ARG002  as packed
        """The history as it was fetched.

        Raises:
            TickerNotFound: it was not.
        """
        try:
            return self._histories[ticker]
        except KeyError:
            raise TickerNotFound(f"the run has no prices of {ticker}", ticker=ticker) from None


def pack(histories: Iterable[PriceHistory]) -> bytes:
    """The histories as one compressed numpy archive, without their markets."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, history in enumerate(histories):
        series = history.series
        about = _About(
            ticker=series.ticker,
            exchange=series.exchange,
            currency=series.currency,
            source=history.source,
            stale=history.stale,
            dropped=_days(history.defects.dropped),
            repaired=_days(history.defects.repaired),
        )
        arrays[f"{number}.about"] = np.frombuffer(about.model_dump_json().encode(), dtype=np.uint8)
        arrays[f"{number}.sessions"] = series.sessions.astype(_DAY)
        arrays[f"{number}.bars"] = series.bars
    packed = BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]  # arrays by name
    return packed.getvalue()


def unpack(data: bytes) -> PackedPrices:
    """The inverse of ``pack``.

    Raises:
        ArtifactCorrupt: the data are damaged.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise ValueError(f"expected at most {MAX_BYTES} bytes")
            names = [member.filename for member in archive.infolist()]
            contents = {name.removesuffix(".npy"): archive.read(name) for name in names}
        numbers = sorted({int(name.split(".")[0]) for name in contents})
        return PackedPrices([_history(contents, number) for number in numbers])
    except _UNREADABLE as error:
        raise ArtifactCorrupt(f"the prices of a run are not readable: {str(error)[:200]}") from error


def _history(contents: Mapping[str, bytes], number: int) -> PriceHistory:
    about = _About.model_validate_json(_array(contents[f"{number}.about"]).tobytes())
    sessions, bars = _array(contents[f"{number}.sessions"]), _array(contents[f"{number}.bars"])
    if sessions.dtype != _DAY or sessions.ndim != 1 or not sessions.size:
        raise ValueError(f"expected one day per row, found {sessions.dtype} of shape {sessions.shape}")
    if bars.dtype != np.float64 or bars.shape != (sessions.size, len(COLUMNS)):
        raise ValueError(f"expected five prices for each of {sessions.size} rows, found {bars.dtype} of {bars.shape}")
    for array in (sessions, bars):
        array.setflags(write=False)
    series = PriceSeries(about.ticker, about.exchange, sessions, bars, about.currency)
    defects = Defects(_arrays(about.dropped), _arrays(about.repaired))
    return PriceHistory(series, about.source, stale=about.stale, defects=defects)


def _array(content: bytes) -> NDArray[Any]:
    array = np.load(BytesIO(content), allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"expected an array, found {type(array).__name__}")  # noqa: TRY004 - damaged data, no mistake
    return array


def _days(found: Mapping[str, Sessions]) -> dict[str, tuple[date | None, ...]]:
    return {reason: tuple(days.astype(_DAY).tolist()) for reason, days in found.items()}


def _arrays(found: Mapping[str, tuple[date | None, ...]]) -> dict[str, Sessions]:
    return {reason: np.array(days, dtype=_DAY) for reason, days in found.items()}
