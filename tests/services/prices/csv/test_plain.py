"""The quick reader of plain files gives what the thorough one gives, or leaves the file to it."""

from datetime import date, datetime

import numpy as np
import pytest

from errors import AppError
from services.prices.csv.plain import MAX_PLAIN_BYTES, read_plain
from services.prices.csv.source import read_bars
from services.prices.series import COLUMNS, RawBars
from tests.fakes import random_walk, walk_history

HEADER = "Date,Open,High,Low,Close,Volume"
ROWS = ("2024-01-02,10.5,11.25,10,10.75,1000", "2024-01-03,10.7,11,10.1,10.9,0", "2024-01-04,-1,11,10.1,10.9,12")
MUTATIONS = 400


def text_of(*rows: str, header: str = HEADER) -> str:
    return "\n".join([header, *rows, ""])


def thoroughly(text: str) -> RawBars:
    return read_bars(text.splitlines(keepends=True), "X.csv", ticker="X", local_date=local_date)


def local_date(moment: datetime) -> date:
    return moment.date()


@pytest.mark.parametrize(
    "text",
    [
        text_of(*ROWS),
        text_of(*ROWS).removesuffix("\n"),
        text_of(*ROWS).replace("\n", "\r\n"),
        text_of(*reversed(ROWS)),
        text_of("2024-01-02,10.5,,null,10.75,", "2024-01-03,,,,,"),
        text_of("2024-01-02,7,10.5", "2024-01-03,null,10.75", header="Data,Unknown,Fechamento"),
        text_of("2024-01-02,10,9.5", header="Date,Close,Adj Close"),
        text_of(f"2024-01-02,{'9' * 30},1,1,1,0.{'1' * 40}"),
    ],
)
def test_a_plain_file_is_read_as_the_thorough_reader_reads_it(text: str) -> None:
    found, expected = read_plain(text.encode()), thoroughly(text)

    assert found is not None
    days, values = found
    np.testing.assert_array_equal(days, expected.sessions)
    for title, column in values.items():
        if title in COLUMNS and "Adj Close" not in values:
            np.testing.assert_array_equal(column, expected.bars[:, COLUMNS.index(title)])
    if "Adj Close" in values:
        np.testing.assert_array_equal(values["Adj Close"], expected.bars[:, COLUMNS.index("Close")])


def test_every_digit_of_a_price_counts() -> None:
    bars = random_walk(2000, seed=3)
    days = walk_history(n_sessions=2000).series.sessions.astype(str)
    text = text_of(*(",".join([day, *map(repr, row)]) for day, row in zip(days, bars.tolist(), strict=True)))

    found = read_plain(text.encode())

    assert found is not None
    np.testing.assert_array_equal(np.column_stack([found[1][title] for title in COLUMNS]), bars)


def test_a_mark_before_utf_8_is_no_part_of_the_header() -> None:
    assert read_plain(b"\xef\xbb\xbf" + text_of(*ROWS).encode()) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADER,
        text_of(),
        text_of(ROWS[0], "", ROWS[1]),
        text_of(ROWS[0] + ",1"),
        text_of(ROWS[0] + ",2024-01-03,1,2,3", "4,5"),  # twelve cells, but not six in each row
        text_of("2024-01-02;10.5;11.25;10;10.75;1000", header=HEADER.replace(",", ";")),
        text_of('2024-01-02,"10,5",11,10,10,1'),
        text_of("2024-01-02,1.05e1,11,10,10,1"),
        text_of("2024-01-02,1.0.5,11,10,10,1"),
        text_of("2024-01-02,1-2,11,10,10,1"),
        text_of(f"2024-01-02,{'9' * 400},11,10,10,1"),
        text_of(f"2024-01-02,{'0.1' + '1' * 1000},11,10,10,1"),
        text_of("01/02/2024,10,11,10,10,1"),
        text_of("2024-13-02,10,11,10,10,1"),
        text_of("2024-1-002,10,11,10,10,1"),
        text_of("-024-01-02,10,11,10,10,1"),
        text_of("2300-01-02,10,11,10,10,1"),
        text_of("20240102,10,11,10,10,1"),
        text_of("null,10,11,10,10,1"),
        text_of("10,2024-01-02,11,10,10,1", header="Open,Date,High,Low,Close,Volume"),
        text_of(*ROWS, header="Date,Open,High,Low,Last trade,Volume"),
        text_of(*ROWS, header="Date,Open,High,Close,Close,Volume"),
        text_of("2024-01-02,1,10", header="Date,Symbol,Close"),
        text_of("2024-01-02,10", header='"Date",Close'),
        text_of("2024-01-02,10", header="Date,Close\rPrice"),
    ],
)
def test_a_file_that_is_not_plain_is_left_to_the_thorough_reader(text: str) -> None:
    assert read_plain(text.encode()) is None


def test_a_large_file_is_left_to_the_reader_of_lines() -> None:
    rows = [ROWS[0]] * (MAX_PLAIN_BYTES // len(ROWS[0]))

    assert read_plain(text_of(*rows).encode()) is None


def test_no_damage_makes_the_two_readers_disagree() -> None:
    rng = np.random.default_rng(0)
    text = text_of(*ROWS)
    n_plain = 0
    for _ in range(MUTATIONS):
        damaged = list(text)
        for place in rng.integers(0, len(text), rng.integers(1, 3)):
            damaged[place] = str(rng.choice(list('0123456789.,-\n;"eEnul /')))
        found = read_plain("".join(damaged).encode())
        if found is None:
            continue
        n_plain += 1
        try:
            expected = thoroughly("".join(damaged))
        except AppError as error:
            raise AssertionError(f"only the quick reader reads {damaged!r}") from error
        np.testing.assert_array_equal(found[0], expected.sessions)
        for title in set(COLUMNS) & found[1].keys():
            np.testing.assert_array_equal(found[1][title], expected.bars[:, COLUMNS.index(title)])
    assert n_plain > MUTATIONS // 10
