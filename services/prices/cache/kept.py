"""The cache's entry for a ticker, its stored form, and the store that keeps it."""

import logging
import zipfile
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from errors import ArtifactNotFound, PricesEmpty, PricesInvalid, StoreUnavailable, UnknownExchange
from schemas.keys import key_name
from services.prices.calendars import history_at, last_final_day
from services.prices.cleaning import clean_raw
from services.prices.exchanges import Listing, exchange_of
from services.prices.series import COLUMNS, Defects, PriceSeries, RawBars

PRICES = "prices/"
MAX_BYTES = 16_000_000  # of a document, packed and unpacked: three centuries of sessions
STORE_PAUSE_S = 60.0  # without a request to a store that failed

_MEMBERS = {"metadata.npy", "sessions.npy", "bars.npy"}
_DAY = np.dtype("datetime64[D]")

# what zipfile, zlib and numpy raise for other data than a document of ours
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

    def get(self, key: str) -> bytes: ...

    def put(self, key: str, data: bytes) -> None: ...

    def delete(self, key: str) -> None: ...


class Fetch(BaseModel):
    """When and from where an entry's rows were fetched; the JSON part of its document.

    Attributes:
        ticker, currency, listing: as the fetcher supplied them.
        fetched_at: when the newest rows were fetched.
        first_fetched_at: when the oldest rows were fetched.
        first_day: the day that the oldest rows were requested from; None when the history is whole.
        not_found_since: when the fetcher first failed to find the ticker; None while it finds it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    ticker: str
    currency: str | None
    listing: Listing | None
    fetched_at: AwareDatetime
    first_fetched_at: AwareDatetime
    first_day: date | None = None
    not_found_since: AwareDatetime | None = None


@dataclass(frozen=True, eq=False)
class Entry:
    """The cached prices of one ticker.

    Attributes:
        fetch: when the rows were fetched.
        raw: the rows that were final then, as fetched.
        series: the clean rows.
        defects: what was wrong with the rows.
        n_sessions: how many of the rows are completed sessions.
    """

    fetch: Fetch
    raw: RawBars
    series: PriceSeries
    defects: Defects
    n_sessions: int

    @classmethod
    def of(cls, fetch: Fetch, raw: RawBars) -> "Entry":
        """An entry of raw rows, which are cleaned here and never again.

        Rows that were not final are left out: an unfinished bar would look like a rewritten history tomorrow.

        Raises:
            PricesInvalid: not a single row is usable.
            UnknownExchange: the ticker's trading calendar is unknown.
            PricesEmpty: no session was completed when the rows were fetched.
        """
        last = last_final_day(exchange_of(fetch.ticker, raw.listing), fetch.fetched_at)
        kept = ~(raw.sessions > np.datetime64(last))
        if not kept.any():
            raise PricesEmpty(f"no session of {fetch.ticker} was completed by {last}", ticker=fetch.ticker)
        raw = replace(raw, sessions=raw.sessions[kept], bars=raw.bars[kept])
        series, defects = clean_raw(fetch.ticker, raw)
        n_sessions = len(history_at(series, fetch.fetched_at, source="", defects=defects).series)
        return cls(fetch, raw, series, defects, n_sessions)


class Corrupt(Exception):
    """A stored document is not a valid entry."""


class KeptPrices:
    """Entries in a store. A failure of the store is logged; the cache then works without it for ``STORE_PAUSE_S``."""

    def __init__(self, store: PriceStore) -> None:
        self._store = store
        self._paused_until = datetime.min.replace(tzinfo=UTC)

    def read(self, ticker: str, now: datetime) -> Entry | None:
        """The ticker's entry; None where there is none. A corrupt document is discarded."""
        if now < self._paused_until:
            return None
        try:
            return self._read(price_key(ticker), ticker)
        except ArtifactNotFound:
            return None
        except StoreUnavailable as error:
            self._pause("read", ticker, error, now)
            return None

    def write(self, entry: Entry, now: datetime) -> None:
        """Replace the ticker's entry."""
        if now < self._paused_until:
            return
        ticker = entry.fetch.ticker
        try:
            self._store.put(price_key(ticker), to_bytes(entry))
        except StoreUnavailable as error:
            self._pause("write", ticker, error, now)

    def _read(self, key: str, ticker: str) -> Entry | None:
        try:
            return from_bytes(ticker, self._store.get(key))
        except Corrupt as error:
            _log.warning("discarding corrupt cached prices of %s: %s", ticker, error)
            self._store.delete(key)
            return None

    def _pause(self, operation: str, ticker: str, error: StoreUnavailable, now: datetime) -> None:
        self._paused_until = now + timedelta(seconds=STORE_PAUSE_S)
        _log.warning("cannot %s cached prices of %s: %s", operation, ticker, error.message)


def price_key(ticker: str) -> str:
    """Where the entry of a ticker is stored.

    >>> price_key("M&M.NS")
    'prices/M^M.NS.npz'
    """
    return f"{PRICES}{key_name(ticker)}.npz"


def fetched_on(data: bytes) -> date | None:
    """The day on which the newest rows of a stored entry were fetched; None where the data are not an entry."""
    try:
        return Fetch.model_validate_json(_unpacked(data)["metadata.npy"].tobytes()).fetched_at.date()
    except (Corrupt, ValidationError):
        return None


def to_bytes(entry: Entry) -> bytes:
    """The entry as a compressed numpy archive."""
    packed = BytesIO()
    np.savez_compressed(
        packed,
        metadata=np.frombuffer(entry.fetch.model_dump_json().encode(), dtype=np.uint8),
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
        fetch = Fetch.model_validate_json(arrays["metadata.npy"].tobytes())
    except ValidationError as error:
        raise Corrupt(f"its metadata have {error.error_count()} errors") from error
    if fetch.ticker != ticker:
        raise Corrupt(f"it belongs to {fetch.ticker[:40]!r}")
    sessions: NDArray[Any] = arrays["sessions.npy"]
    bars: NDArray[Any] = arrays["bars.npy"]
    if sessions.dtype != _DAY or sessions.ndim != 1:
        raise Corrupt(f"expected one day per row, found {sessions.dtype} of shape {sessions.shape}")
    if bars.dtype != np.float64 or bars.shape != (sessions.size, len(COLUMNS)):
        raise Corrupt(f"expected five prices for each of {sessions.size} rows, found {bars.dtype} of {bars.shape}")
    try:
        return Entry.of(fetch, RawBars(sessions, bars, fetch.currency, fetch.listing))
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
