"""The rows of a ticker as the cache keeps them: the entry, its stored form, and the store it is kept in."""

import logging
import threading
import zipfile
import zlib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from io import BytesIO
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from errors import ArtifactNotFound, PricesEmpty, PricesInvalid, StoreUnavailable, UnknownExchange
from services.prices.calendars import history_at
from services.prices.cleaning import clean_raw
from services.prices.exchanges import Listing
from services.prices.keys import key_name
from services.prices.series import COLUMNS, Defects, PriceSeries, RawBars

MAX_BYTES = 16_000_000  # of a document, packed and unpacked: three centuries of sessions
STORE_PAUSE_S = 60.0  # how long a store that failed is left alone

_MEMBERS = {"metadata.npy", "sessions.npy", "bars.npy"}
_DAY = np.dtype("datetime64[D]")

# what zipfile, zlib and numpy raise when they read something else than a document of ours
_UNREADABLE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)

_log = logging.getLogger(__name__)


class PriceStore(Protocol):
    """The part of ``services.storage.store.ArtifactStore`` that the cache uses."""

    def get(self, key: str) -> bytes:
        """What is stored under the key; raises ``ArtifactNotFound`` or ``StoreUnavailable``."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Store the data whole; raises ``StoreUnavailable``."""
        ...

    def delete(self, key: str) -> None:
        """Remove what is stored under the key; raises ``StoreUnavailable``."""
        ...


@dataclass(frozen=True, eq=False)
class Entry:
    """What the cache knows of one ticker: its rows as fetched, cleaned once, and when they were fetched.

    Attributes:
        raw: the rows of completed sessions, as fetched.
        series: the clean rows.
        defects: what was wrong with the rows.
        n_sessions: how many of the rows are completed sessions.
        fetched_at: when the newest rows were fetched.
        first_fetched_at: when the oldest rows were fetched.
        first_day: the day that the oldest rows were requested from; None when the history is whole.
        not_found_since: when the fetcher first did not find the ticker any more; None while it finds it.
    """

    raw: RawBars
    series: PriceSeries
    defects: Defects
    n_sessions: int
    fetched_at: datetime
    first_fetched_at: datetime
    first_day: date | None = None
    not_found_since: datetime | None = None

    @classmethod
    def of(
        cls,
        ticker: str,
        raw: RawBars,
        *,
        fetched_at: datetime,
        first_fetched_at: datetime,
        first_day: date | None = None,
        not_found_since: datetime | None = None,
    ) -> "Entry":
        """An entry of raw rows, which are cleaned here and never again.

        Raises:
            PricesInvalid: not a single row is usable.
            UnknownExchange: nothing says which calendar the ticker follows.
            PricesEmpty: no session was completed when the rows were fetched.
        """
        series, defects = clean_raw(ticker, raw)
        n_sessions = len(history_at(series, fetched_at, source="", defects=defects).series)
        return cls(raw, series, defects, n_sessions, fetched_at, first_fetched_at, first_day, not_found_since)

    @property
    def ticker(self) -> str:
        """The ticker of the rows."""
        return self.series.ticker

    @property
    def whole(self) -> bool:
        """Whether these are all rows that the fetcher has."""
        return self.first_day is None


class Corrupt(Exception):
    """A stored document is not one of ours."""


class KeptPrices:
    """Entries in a store. A failure of the store is logged; the cache then does without it for ``STORE_PAUSE_S``."""

    def __init__(self, store: PriceStore) -> None:
        self._store = store
        self._paused_until: datetime | None = None
        self._lock = threading.Lock()

    def read(self, ticker: str, now: datetime) -> Entry | None:
        """The ticker's entry; None where there is none. A corrupt document is discarded."""
        if self._is_paused(now):
            return None
        try:
            return from_bytes(ticker, self._store.get(price_key(ticker)))
        except ArtifactNotFound:
            return None
        except StoreUnavailable as error:
            self._pause(now)
            _log.warning("cannot read cached prices of %s: %s", ticker, error.message)
        except Corrupt as error:
            _log.warning("discarding corrupt cached prices of %s: %s", ticker, error)
            self._discard(ticker, now)
        return None

    def write(self, entry: Entry, now: datetime) -> None:
        """Keep the entry in the place of the one before."""
        if self._is_paused(now):
            return
        try:
            self._store.put(price_key(entry.ticker), to_bytes(entry))
        except StoreUnavailable as error:
            self._pause(now)
            _log.warning("cannot keep prices of %s: %s", entry.ticker, error.message)

    def _discard(self, ticker: str, now: datetime) -> None:
        try:
            self._store.delete(price_key(ticker))
        except StoreUnavailable as error:
            self._pause(now)
            _log.warning("cannot discard cached prices of %s: %s", ticker, error.message)

    def _is_paused(self, now: datetime) -> bool:
        with self._lock:
            return self._paused_until is not None and now < self._paused_until

    def _pause(self, now: datetime) -> None:
        with self._lock:
            self._paused_until = now + timedelta(seconds=STORE_PAUSE_S)


class _Metadata(BaseModel):
    """The JSON part of a document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    ticker: str
    currency: str | None
    listing: Listing | None
    fetched_at: AwareDatetime
    first_fetched_at: AwareDatetime
    first_day: date | None
    not_found_since: AwareDatetime | None


def price_key(ticker: str) -> str:
    """Where the entry of a ticker is stored.

    >>> price_key("M&M.NS")
    'prices/M^M.NS.npz'
    """
    return f"prices/{key_name(ticker)}.npz"


def to_bytes(entry: Entry) -> bytes:
    """The entry as a compressed numpy archive."""
    metadata = _Metadata(
        ticker=entry.ticker,
        currency=entry.raw.currency,
        listing=entry.raw.listing,
        fetched_at=entry.fetched_at,
        first_fetched_at=entry.first_fetched_at,
        first_day=entry.first_day,
        not_found_since=entry.not_found_since,
    )
    packed = BytesIO()
    np.savez_compressed(
        packed,
        metadata=np.frombuffer(metadata.model_dump_json().encode(), dtype=np.uint8),
        sessions=entry.raw.sessions.astype(_DAY),
        bars=entry.raw.bars,
    )
    return packed.getvalue()


def from_bytes(ticker: str, data: bytes) -> Entry:
    """The inverse of ``to_bytes``.

    Raises:
        Corrupt: the data are not an entry of this ticker.
    """
    arrays = _unpacked(data)
    try:
        metadata = _Metadata.model_validate_json(arrays["metadata.npy"].tobytes())
    except ValidationError as error:
        raise Corrupt(f"its metadata have {error.error_count()} errors") from error
    if metadata.ticker != ticker:
        raise Corrupt(f"it belongs to {metadata.ticker[:40]!r}")
    sessions: NDArray[Any] = arrays["sessions.npy"]
    bars: NDArray[Any] = arrays["bars.npy"]
    if sessions.dtype != _DAY or sessions.ndim != 1:
        raise Corrupt(f"expected one day per row, found {sessions.dtype} of shape {sessions.shape}")
    if bars.dtype != np.float64 or bars.shape != (sessions.size, len(COLUMNS)):
        raise Corrupt(f"expected five prices for each of {sessions.size} rows, found {bars.dtype} of {bars.shape}")
    raw = RawBars(sessions, bars, metadata.currency, metadata.listing)
    try:
        return Entry.of(
            ticker,
            raw,
            fetched_at=metadata.fetched_at,
            first_fetched_at=metadata.first_fetched_at,
            first_day=metadata.first_day,
            not_found_since=metadata.not_found_since,
        )
    except (PricesInvalid, PricesEmpty, UnknownExchange) as error:
        raise Corrupt(error.message) from error


def _unpacked(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of a numpy archive by file name, never more than ``MAX_BYTES`` of them."""
    if len(data) > MAX_BYTES:
        raise Corrupt(f"expected at most {MAX_BYTES} bytes, found {len(data)}")
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            if set(sizes) != _MEMBERS or sum(sizes.values()) > MAX_BYTES:
                raise Corrupt(f"expected {sorted(_MEMBERS)} of at most {MAX_BYTES} bytes, found {str(sizes)[:200]}")
            # each member is read whole first: zipfile then checks its length and its checksum
            return {name: _array(archive.read(name)) for name in _MEMBERS}
    except _UNREADABLE as error:
        raise Corrupt(f"{type(error).__name__}: {str(error)[:200]}") from error


def _array(content: bytes) -> NDArray[Any]:
    array = np.load(BytesIO(content), allow_pickle=False)
    if not isinstance(array, np.ndarray):  # an archive within the archive
        raise Corrupt(f"expected an array, found {type(array).__name__}")
    return array
