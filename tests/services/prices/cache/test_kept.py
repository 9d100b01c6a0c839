import zipfile
from datetime import UTC, date, datetime
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.prices.cache.kept import MAX_BYTES, Corrupt, Entry, Fetch, from_bytes, to_bytes
from services.prices.exchanges import Listing
from services.prices.series import RawBars
from tests.fakes import new_york_sessions, random_walk

MEMBERS = ("metadata.npy", "sessions.npy", "bars.npy")
NOW = datetime(2024, 3, 15, 14, tzinfo=UTC)
RAW = RawBars(new_york_sessions(30), random_walk(30), "USD", Listing("NMS", "America/New_York", "EQUITY"))
FETCH = Fetch(
    ticker="WALK",
    currency="USD",
    listing=RAW.listing,
    fetched_at=NOW,
    first_fetched_at=NOW,
    first_day=date(2010, 1, 4),
    not_found_since=NOW,
)
ENTRY = Entry.of(FETCH, RAW)
DOCUMENT = to_bytes(ENTRY)


def document(**members: Any) -> bytes:
    """A document with other members than the right ones; None leaves one out."""
    with np.load(BytesIO(DOCUMENT)) as right:
        arrays = {**right, **members}
    packed = BytesIO()
    np.savez_compressed(packed, **{name: array for name, array in arrays.items() if array is not None})
    return packed.getvalue()


def metadata(old: str, new: str) -> Any:
    with np.load(BytesIO(DOCUMENT)) as right:
        text = right["metadata"].tobytes().decode()
    assert old in text
    return np.frombuffer(text.replace(old, new).encode(), dtype=np.uint8)


def test_entry_comes_back_as_it_was() -> None:
    found = from_bytes("WALK", DOCUMENT)

    assert np.array_equal(found.raw.sessions, RAW.sessions)
    assert np.array_equal(found.raw.bars, RAW.bars)
    assert (found.raw.currency, found.raw.listing) == (RAW.currency, RAW.listing)
    assert np.array_equal(found.series.bars, ENTRY.series.bars)
    assert found.fetch == FETCH


def test_unknown_cells_come_back_unknown() -> None:
    bars = RAW.bars.copy()
    bars[3] = np.nan

    found = from_bytes("WALK", to_bytes(Entry.of(FETCH, RawBars(RAW.sessions, bars))))

    assert np.array_equal(found.raw.bars, bars, equal_nan=True)
    assert found.defects.n_dropped == {"missing": 1}


def packed(members: dict[str, bytes]) -> bytes:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return archive.getvalue()


def huge_header() -> bytes:
    """A few bytes that announce terabytes."""
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**13, 5)})
    return header.getvalue()


def test_document_that_unpacks_to_too_much_is_not_unpacked() -> None:
    content = packed(dict.fromkeys(MEMBERS, b"\0" * MAX_BYTES))

    assert len(content) < MAX_BYTES / 100
    with pytest.raises(Corrupt, match=f"at most {MAX_BYTES} bytes"):
        from_bytes("WALK", content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"PK",
        DOCUMENT[: len(DOCUMENT) // 2],
        b"\0" * (MAX_BYTES + 1),
        packed(dict.fromkeys(MEMBERS, huge_header())),
        packed({"../evil.npy": b""}),
        document(extra=np.zeros(3)),
        document(bars=None),
        document(bars=RAW.bars[:, :4]),
        document(bars=RAW.bars[1:]),
        document(bars=RAW.bars.astype(np.float32)),
        document(bars=np.array(["x"])),
        document(bars=np.array([{}], dtype=object)),
        document(bars=np.full_like(RAW.bars, np.nan)),
        document(sessions=RAW.sessions.astype(np.int64)),
        document(sessions=RAW.sessions.astype("datetime64[s]")),
        document(sessions=RAW.sessions[:, None]),
        document(sessions=RAW.sessions[:0], bars=RAW.bars[:0]),
        document(metadata=np.array(3.0)),
        document(metadata=metadata('"WALK"', '"MSFT"')),
        document(metadata=metadata('"format_version":1', '"format_version":2')),
        document(metadata=metadata('"currency"', '"money"')),
        document(metadata=metadata('Z"', '"')),
    ],
)
def test_document_of_another_kind_is_corrupt(content: bytes) -> None:
    with pytest.raises(Corrupt):
        from_bytes("WALK", content)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(DOCUMENT) - 1), value=st.integers(0, 255), length=st.integers(0, 20))
def test_damaged_document_is_corrupt_or_harmless(at: int, value: int, length: int) -> None:
    damaged = bytearray(DOCUMENT)
    damaged[at : at + length] = bytes([value]) * min(length, len(DOCUMENT) - at)

    try:
        found = from_bytes("WALK", bytes(damaged))
    except Corrupt:
        return

    assert np.array_equal(found.raw.bars, RAW.bars)
    assert np.array_equal(found.raw.sessions, RAW.sessions)
