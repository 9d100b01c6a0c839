import os
import tempfile
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import AppError, PricesInvalid, PricesUnreachable, TickerNotFound, UnknownExchange
from services.prices.calendars import local_date
from services.prices.csv.formats import MAX_ROWS
from services.prices.csv.rows import MAX_LINE
from services.prices.csv.source import MAX_FILE_BYTES, CsvSource, read_bars
from services.prices.series import PriceHistory
from tests.services.prices.csv.dialects import DIALECTS, Bar, Bars

NOW = datetime(2024, 3, 16, tzinfo=UTC)
TIDY = """Date,Open,High,Low,Close,Volume
2024-03-13,10,11,9,10.5,100
2024-03-14,10.5,12,10,11,200
2024-03-15,11,11.5,10.5,11.2,300
"""


def read(folder: Path, text: str | bytes, ticker: str = "AAPL", now: datetime = NOW) -> PriceHistory:
    (folder / f"{ticker}.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return CsvSource(folder).history(ticker, now)


def days_of(history: PriceHistory) -> list[str]:
    return [str(session) for session in history.series.sessions]


def closes_on(folder: Path, *days: str, ticker: str = "AAPL") -> list[str]:
    """The days that are read from a file with these dates."""
    rows = "".join(f'"{day}",{10 + number}\n' for number, day in enumerate(days))
    return days_of(read(folder, f"Date,Close\n{rows}", ticker, datetime(2027, 1, 1, tzinfo=UTC)))


def test_tidy_file_is_read_as_it_stands(tmp_path: Path) -> None:
    history = read(tmp_path, TIDY)

    assert history.series.close.tolist() == [10.5, 11.0, 11.2]
    assert history.as_of == date(2024, 3, 15)
    assert history.source == "csv"
    assert not history.stale


def test_a_batch_of_files_stays_in_memory(tmp_path: Path) -> None:
    source, tickers = CsvSource(tmp_path), [f"T{number}" for number in range(300)]
    for ticker in tickers:
        (tmp_path / f"{ticker}.csv").write_text(TIDY)
    first = [source.history(ticker, NOW) for ticker in tickers]

    again = [source.history(ticker, NOW) for ticker in tickers]

    assert all(np.shares_memory(one.series.bars, other.series.bars) for one, other in zip(first, again, strict=True))


def test_an_unchanged_file_is_parsed_once_and_a_changed_or_replaced_one_again(tmp_path: Path) -> None:
    source, path = CsvSource(tmp_path), tmp_path / "AAPL.csv"
    path.write_text(TIDY)

    first = source.history("AAPL", NOW)
    again = source.history("AAPL", NOW)
    path.write_text(TIDY.replace("11.2,300", "11.3,300"))  # the same size
    os.utime(path, ns=(0, 1))
    edited = source.history("AAPL", NOW)
    path.unlink()
    path.symlink_to(tmp_path.parent / "elsewhere.csv")

    assert again is first
    assert [one.series.close[-1] for one in (first, edited)] == [11.2, 11.3]
    with pytest.raises(TickerNotFound, match="leads out of the price folder"):
        source.history("AAPL", NOW)


def test_rows_with_missing_values_are_dropped_and_reported(tmp_path: Path) -> None:
    rows = "".join(f"2024-02-{day:02},10,11,9,10,1\n" for day in range(1, 20))

    history = read(tmp_path, TIDY + rows + "2024-02-20,10,11,9,null,1\n2024-02-21,,,,,\n")

    assert history.dropped["missing"] == 2
    assert history.repaired == {"order": 1}


def test_row_without_a_date_is_dropped_and_reported(tmp_path: Path) -> None:
    assert read(tmp_path, TIDY + ",10,11,9,10,1\n").dropped == {"undated": 1}


def test_rows_of_one_day_are_kept_once_and_left_out_where_they_contradict(tmp_path: Path) -> None:
    history = read(tmp_path, TIDY + "2024-03-14,10.5,12,10,11,200\n2024-03-15,11,11.5,10.5,11.4,300\n")

    assert days_of(history) == ["2024-03-13", "2024-03-14"]
    assert history.dropped == {"duplicate": 1, "contradictory": 2}


@pytest.mark.parametrize("row", ["", "  ", ",,,,,", " , ,\t,,,", ",,,,,,,,,"])
def test_rows_without_text_are_skipped(tmp_path: Path, row: str) -> None:
    history = read(tmp_path, f"\n{TIDY}{row}\n\n")

    assert (len(history.series), history.dropped) == (3, {})


@pytest.mark.parametrize("cell", ["null", "NaN", "None", "n/a", "-", "", "R$ -"])
def test_cell_that_stands_for_nothing_is_unknown(tmp_path: Path, cell: str) -> None:
    history = read(tmp_path, TIDY.replace("10.5,12", f"{cell},12"))

    assert np.isnan(history.series.bars[1, 0])
    assert history.series.close.tolist() == [10.5, 11.0, 11.2]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_format_has_the_same_bars(tmp_path: Path, dialect: str) -> None:
    bars = [Bar(date(2024, 3, day), 1010.5, 1020.25, 1000.75, 1000 + day, 1_230_000) for day in (8, 11, 12, 13, 14, 15)]

    history = read(tmp_path, DIALECTS[dialect](bars))

    assert days_of(history) == [str(bar.day) for bar in bars]
    assert history.series.bars.tolist() == [[*bar.prices, bar.volume] for bar in bars]
    assert (history.dropped, history.repaired) == ({}, {})


@st.composite
def some_bars(draw: st.DrawFn) -> Bars:
    """Bars of up to ten days, of which one is past the 12th of its month; prices have cents, volumes ten thousands."""
    days = draw(st.sets(st.dates(date(1990, 1, 1), date(2030, 12, 31)), max_size=9))
    days.add(draw(st.dates(date(1990, 1, 1), date(2030, 12, 31)).filter(lambda day: day.day > 12)))
    cents, myriads = st.integers(1, 10_000_000), st.integers(0, 10**6)
    return [
        Bar(day, draw(cents) / 100, draw(cents) / 100, draw(cents) / 100, draw(cents) / 100, draw(myriads) * 10_000)
        for day in sorted(days)
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
@given(bars=some_bars())
@settings(max_examples=10, deadline=None)
def test_what_a_dialect_writes_is_read_back(dialect: str, bars: Bars) -> None:
    lines = _text(DIALECTS[dialect](bars)).splitlines(keepends=True)

    raw = read_bars(lines, "AAPL.csv", ticker="AAPL", local_date=partial(local_date, "XNYS"))

    order = np.argsort(raw.sessions)
    assert raw.sessions[order].tolist() == [bar.day for bar in bars]
    assert raw.bars[order].tolist() == [[*bar.prices, bar.volume] for bar in bars]


def _text(content: bytes) -> str:
    for encoding in ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise AssertionError(content)


@pytest.mark.parametrize(
    ("text", "bars"),
    [
        ("date;close\n2024-03-14;10.5\n2024-03-15;10.75\n", [[np.nan] * 3 + [10.5, 0], [np.nan] * 3 + [10.75, 0]]),
        ("Date,Open,High,Low,Close,Adj Close,Volume\n2024-03-15,98,104,96,100,50,7\n", [[49, 52, 48, 50, 7]]),
        ("Date,Open,Close,Adj Close\n2024-03-15,98,null,50\n", [[np.nan, np.nan, np.nan, 50, 0]]),
        ("Date,Close,Adj Close\n2024-03-14,100,\n2024-03-15,101,null\n", [[np.nan] * 3 + [c, 0] for c in (100, 101)]),
    ],
    ids=["closes alone", "adjusted", "adjusted without a raw close", "no number among the adjusted closes"],
)
def test_adjusted_closes_scale_the_bar_and_what_is_missing_is_unknown(
    tmp_path: Path, text: str, bars: list[list[float]]
) -> None:
    np.testing.assert_equal(read(tmp_path, text).series.bars, bars)


@pytest.mark.parametrize(("cell", "reason"), [("null", "missing"), ("0", "not_positive"), ("-1", "not_positive")])
def test_close_without_its_adjusted_one_is_on_another_scale_and_dropped(tmp_path: Path, cell: str, reason: str) -> None:
    history = read(tmp_path, f"Date,Close,Adj Close\n2024-03-14,100,50\n2024-03-15,100,{cell}\n")

    assert history.series.close.tolist() == [50.0]
    assert history.dropped == {reason: 1}


def test_download_of_two_tickers_skips_the_days_of_the_other(tmp_path: Path) -> None:
    text = "Price,Close,Close\nTicker,AAPL,BTC-USD\nDate,,\n2024-03-15,10,100\n2024-03-16,,101\n"

    assert read(tmp_path, text).dropped == {}


@pytest.mark.parametrize(
    "text",
    [
        "Price,Close,Close\nTicker,MSFT,^GSPC\nDate,,\n2024-03-15,10,11\n",
        "date,close,Name\n2024-03-15,10,MSFT\n2024-03-15,11,^GSPC\n",
        "Symbol;date;close\n^GSPC;2024-03-15;10\nMSFT;2024-03-15;10\n",
    ],
)
def test_file_of_other_tickers_does_not_know_this_one(tmp_path: Path, text: str) -> None:
    with pytest.raises(TickerNotFound, match=r"AAPL.csv has prices of 'MSFT', '\^GSPC' and none of AAPL"):
        read(tmp_path, text)


def test_column_name_may_hold_the_name_of_a_company(tmp_path: Path) -> None:
    assert len(read(tmp_path, "name,date,close\nApple Inc.,2024-03-15,10\n").series) == 1


def test_metatrader_volume_counts_where_it_is_known(tmp_path: Path) -> None:
    header = "<DATE>\t<CLOSE>\t<TICKVOL>\t<VOL>\n"

    assert read(tmp_path, header + "2024.03.15\t10\t7\t900\n").series.bars[0, 4] == 900
    assert read(tmp_path, header + "2024.03.15\t10\t7\t0\n").series.bars[0, 4] == 7
    assert read(tmp_path, "<DATE>\t<CLOSE>\t<TICKVOL>\n2024.03.15\t10\t7\n").series.bars[0, 4] == 7


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,234", "1,234.5"], [1234.0, 1234.5]),
        (["1.234", "1.234,5"], [1234.0, 1234.5]),
        (["1.234", "1.235"], [1.234, 1.235]),
        (["0,123", "1,234"], [0.123, 1.234]),
        (["1.234.567", "1.234"], [1234567.0, 1234.0]),
        (["1,23,456.5", "1,200"], [123456.5, 1200.0]),
        (["1 234,5", "1\u00a0200,0"], [1234.5, 1200.0]),
        (["1'234.5", "1’200.0"], [1234.5, 1200.0]),
        (["$1,234.50", "€ 12.5"], [1234.5, 12.5]),
        (["12,5 €", "R$ 1.000,00"], [12.5, 1000.0]),
        (["1.5e1", "+2E+1"], [15.0, 20.0]),
        (["1,5E1", "12,25"], [15.0, 12.25]),
        ([".5", "5."], [0.5, 5.0]),
    ],
)
def test_numbers_as_people_write_them(tmp_path: Path, cells: list[str], values: list[float]) -> None:
    rows = "".join(f"2024-03-{14 + number}\t{cell}\n" for number, cell in enumerate(cells))

    assert read(tmp_path, f"date\tclose\n{rows}").series.close.tolist() == values


def test_decimal_comma_of_one_column_holds_for_all(tmp_path: Path) -> None:
    history = read(tmp_path, "Date;High;Close;Volume\n2024-03-15;1.300;1.234,5;1,5K\n")

    assert history.series.bars[0, [1, 3, 4]].tolist() == [1300.0, 1234.5, 1500.0]


@pytest.mark.parametrize(
    ("cell", "value"), [("1.2M", 1.2e6), ("3K", 3e3), ("0.5B", 5e8), ("1.13 m", 1.13e6), ("1,234", 1234)]
)
def test_volume_may_be_short(tmp_path: Path, cell: str, value: float) -> None:
    history = read(tmp_path, f'Date,Close,Vol.\n2024-03-15,10,"{cell}"\n')

    assert history.series.bars[0, 4] == value


@pytest.mark.parametrize(
    "cell",
    ["ten", "1.2M", "12%", "1_000", "0x10", "1,2,3", "12 34", "1-2", "--5", "\uff11", "1e5e5", "infinity", "1.2.3"],
)
def test_cell_that_is_no_number_is_named(tmp_path: Path, cell: str) -> None:
    with pytest.raises(PricesInvalid, match=r"AAPL.csv, line 3: cannot read '.*' as Último"):
        read(tmp_path, f"Data;Último\n2024-03-14;10\n2024-03-15;{cell}\n")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1,234", "1,300"], "line 2: cannot read '1,234' as Close: nothing in the file says whether the comma"),
        (
            ["10.5", "10,5"],
            "line 3: cannot read '10,5' as Close: the file writes decimals with a comma and with a point",
        ),
    ],
)
def test_comma_that_can_mean_two_things_is_refused(tmp_path: Path, cells: list[str], message: str) -> None:
    rows = "".join(f"2024-03-{14 + number};{cell}\n" for number, cell in enumerate(cells))

    with pytest.raises(PricesInvalid, match=message):
        read(tmp_path, f"Date;Close\n{rows}")


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        (["01/02/2024", "13/02/2024"], ["2024-02-01", "2024-02-13"]),
        (["01/02/2024", "02/13/2024"], ["2024-01-02", "2024-02-13"]),
        (["1.2.2024", "13.2.2024"], ["2024-02-01", "2024-02-13"]),
        (["05/05/2023", "06/06/2023"], ["2023-05-05", "2023-06-06"]),  # the same in both orders
        (["01/30/2024", "2/1/2024 16:00:00"], ["2024-01-30", "2024-02-01"]),
        (["2/1/2024 4:00 PM", "1/30/2024 12:00 am"], ["2024-01-30", "2024-02-01"]),
        (["2024/2/1", "2024/02/02"], ["2024-02-01", "2024-02-02"]),
        (["20240201", "20240202"], ["2024-02-01", "2024-02-02"]),
        (["Nov 26, 2026", "November 27, 2026"], ["2026-11-26", "2026-11-27"]),
        (["26-Nov-2026", "27 Nov 2026"], ["2026-11-26", "2026-11-27"]),
        (["26 de nov. de 2026", "27 novembro 2026"], ["2026-11-26", "2026-11-27"]),
        (["26 fev 2026", "02 mar 2026", "3 março 2026"], ["2026-02-26", "2026-03-02", "2026-03-03"]),
        (["26-Nov-24", "27-Nov-24"], ["2024-11-26", "2024-11-27"]),
        (["30/04/99", "03/05/99"], ["1999-04-30", "1999-05-03"]),
        (["04/30/24", "05/01/24"], ["2024-04-30", "2024-05-01"]),
        (["1711978200", "1712064600"], ["2024-04-01", "2024-04-02"]),
        (["1711978200000", "1712064600000"], ["2024-04-01", "2024-04-02"]),
        (["-3600000000", "-3599913600", "1711978200"], ["1855-12-03", "1855-12-04", "2024-04-01"]),
        (["1711929600", "1712016000"], ["2024-04-01", "2024-04-02"]),  # midnight in UTC
    ],
)
def test_dates_as_people_write_them(tmp_path: Path, cells: list[str], days: list[str]) -> None:
    assert closes_on(tmp_path, *cells) == days


def test_order_of_the_rows_tells_day_and_month_apart_where_only_one_is_sorted(tmp_path: Path) -> None:
    by_month = [f"{month:02}/{day:02}/2024" for month in (1, 2, 3) for day in (2, 5, 8, 9, 12)]

    assert closes_on(tmp_path, *by_month)[:6] == [
        "2024-01-02", "2024-01-05", "2024-01-08", "2024-01-09", "2024-01-12", "2024-02-02",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["05/05/2024", "01/02/2024"],
            "line 3: cannot read '01/02/2024' as Date: it can be 2024-02-01 or 2024-01-02; write dates",
        ),
        (["01/02/2024"], "line 2: .* write dates as YYYY-MM-DD"),
        (["15/03/24", "18/03/24"], "line 2: .* the year has two digits"),
        (["27-Nov-24", "26-Nov-24", "28-Nov-24"], "line 2: .* the year has two digits"),
        (["13/01/2024", "01/13/2024"], "line 3: cannot read '01/13/2024' as Date"),
        (["2024-03-14", "14/03/2024"], "line 3: cannot read '14/03/2024' as Date"),
        (["2024-03-14", "2024-02-30"], "line 3: cannot read '2024-02-30' as Date"),
        (["2024-03-14", "2024-03/15"], "line 3: cannot read"),
        (["2024-03-14", "0024-03-15"], "line 3: cannot read"),
        (["2024-03-14", "2024-03-15 25:00"], "line 3: cannot read"),
        (["2024-03-14", "2024-03-15 10:00+99:00"], "line 3: cannot read"),
        (["2024-03-14", "2024-03-15 EST"], "line 3: cannot read"),
        (["20240314", "202403155"], "line 3: cannot read"),
        (["1711978200", "17120646000000"], "line 3: cannot read"),
        (["1711978200", "171206460000"], "line 3: cannot read"),
        (["45000", "45001"], "line 2: cannot read '45000' as Date"),
        (["26-Foo-2024"], "line 2: cannot read '26-Foo-2024' as Date"),
        (["9999-12-31 23:00-12:00"], "line 2: cannot read"),
        (["today"], "line 2: cannot read 'today' as Date"),
    ],
)
def test_date_that_can_be_misread_is_refused(tmp_path: Path, cells: list[str], message: str) -> None:
    with pytest.raises(PricesInvalid, match=f"AAPL.csv, {message}"):
        closes_on(tmp_path, *cells)


@pytest.mark.parametrize(
    ("ticker", "moments", "days"),
    [
        ("^GDAXI", ["2026-11-25 23:00:00+00:00", "2026-11-26 23:00:00+00:00"], ["2026-11-26", "2026-11-27"]),
        ("AAPL", ["2026-11-25T01:00:00Z", "2026-11-25T21:00Z"], ["2026-11-24", "2026-11-25"]),
        ("7203.T", ["2026-11-25 15:00:00 UTC", "2026-11-26 15:00:00+0000"], ["2026-11-26", "2026-11-27"]),
        ("BTC-USD", ["2026-11-25 23:30-05", "2026-11-26 23:30-05"], ["2026-11-26", "2026-11-27"]),
        ("AAPL", ["2026-11-24 23:30", "2026-11-25 23:30"], ["2026-11-24", "2026-11-25"]),
        ("AAPL", ["2026-11-24T00:00:00.000Z", "2026-11-25T00:00:00.000Z"], ["2026-11-24", "2026-11-25"]),
    ],
)
def test_moment_is_of_the_day_at_the_exchange(tmp_path: Path, ticker: str, moments: list[str], days: list[str]) -> None:
    assert closes_on(tmp_path, *moments, ticker=ticker) == days


def test_folder_that_is_not_there_has_no_ticker(tmp_path: Path) -> None:
    with pytest.raises(TickerNotFound):
        CsvSource(tmp_path / "prices").history("MSFT", NOW)


def test_ticker_cannot_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text(TIDY)
    folder = tmp_path / "prices"
    folder.mkdir()

    with pytest.raises(TickerNotFound):
        CsvSource(folder).history("../secret", NOW)


def test_link_cannot_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text(TIDY)
    folder = tmp_path / "prices"
    folder.mkdir()
    (folder / "AAPL.csv").symlink_to(tmp_path / "secret.csv")

    with pytest.raises(TickerNotFound, match="link that leads out"):
        CsvSource(folder).history("AAPL", NOW)


def test_link_to_a_file_that_was_read_and_moved_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "prices"
    folder.mkdir()
    (folder / "AAPL.csv").write_text(TIDY)
    source = CsvSource(folder)
    source.history("AAPL", NOW)

    (folder / "AAPL.csv").rename(tmp_path / "moved.csv")  # the same inode, size and time
    (folder / "AAPL.csv").symlink_to(tmp_path / "moved.csv")

    with pytest.raises(TickerNotFound, match="link that leads out"):
        source.history("AAPL", NOW)


def test_link_within_the_folder_is_followed_and_so_is_one_to_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "prices"
    folder.mkdir()
    (folder / "AAPL.csv").write_text(TIDY)
    (folder / "MSFT.csv").symlink_to("AAPL.csv")
    (tmp_path / "link").symlink_to(folder)

    assert len(CsvSource(tmp_path / "link").history("MSFT", NOW).series) == 3


def test_link_to_itself_is_an_unknown_ticker(tmp_path: Path) -> None:
    (tmp_path / "AAPL.csv").symlink_to("AAPL.csv")

    with pytest.raises(TickerNotFound):
        CsvSource(tmp_path).history("AAPL", NOW)


def test_unknown_suffix_is_an_unknown_exchange(tmp_path: Path) -> None:
    with pytest.raises(UnknownExchange):
        read(tmp_path, TIDY, ticker="AAPL.QQ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: need a column Date, found no header"),
        (TIDY.replace("Close", "Shut"), "line 1: need a column Close, found date, open, high, low, shut"),
        (TIDY.replace("Open", "Close"), "line 1: column Close occurs 2 times"),
        (TIDY.partition("\n")[2], "line 1: need a column Date, found 2024-03-13"),
        (TIDY.replace("10.5,12", "ten,12"), "line 3: cannot read 'ten' as Open"),
        (TIDY.replace("10.5,12", "10\x1b[31m,12"), r"line 3: cannot read '10\\x1b\[31m' as Open"),
        (TIDY.replace(",11,200", ""), "line 3: the row ends before column Close"),
        (TIDY.replace("10.5,12", "10,5,12"), "line 3: the row has 7 cells and the header 6"),
        (TIDY + "\nPrices by Example Inc.\n", r"line 6: the row ends before column Open \(it begins with 'Prices by"),
        (TIDY.replace("2024-03-14", '"2024-03-14'), "line 3: cannot split the row into cells; check its quotes"),
        (TIDY.replace("2024-03-14", '"2024-03-14"x'), "line 3: cannot split the row into cells; check its quotes"),
        (TIDY.replace("2024-03-14", "\x00"), "line 3: the file is not text"),
        (TIDY.encode("utf-16-le").decode(), "line 1: the file is not text"),
        (TIDY + f"{'x' * (MAX_LINE + 1)}\n", "line 5: the line is longer than 1,000,000 characters"),
        (TIDY + "x" * 200_000, "line 5: cannot split the row into cells"),
        ("x" * 200_000, "line 1: cannot split the row into cells"),
        ("<html><body>Too many requests</body></html>", "line 1: need a column Date, found <html>"),
        ("Date,Open,High,Low,Close,Volume\n", "no rows at all"),
        ("Date,Close\n2024-03-15,null\n", "missing: 1"),
    ],
)
def test_message_names_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PricesInvalid, match=message):
        read(tmp_path, text)


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    text = '\r\nsep=,\r\nDate,Close\r\n\r\n2024-03-14,"10"\r\n2024-03-15,ten\r\n'

    with pytest.raises(PricesInvalid, match="line 6: cannot read 'ten'"):
        read(tmp_path, text)


@pytest.mark.parametrize("content", [b"Date,Close\n2024-03-15,\x81\n", b"\xff\xfeD\x00a", b"\xfe\xff\xd8\x00"])
def test_file_that_is_no_text_is_invalid(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(PricesInvalid, match="is not text in UTF-8, in UTF-16"):
        read(tmp_path, content)


def test_file_that_cannot_be_opened_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "AAPL.csv").mkdir()

    with pytest.raises(PricesUnreachable, match=r"AAPL\.csv"):
        CsvSource(tmp_path).history("AAPL", NOW)


def test_pipe_is_unreachable_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "AAPL.csv")

    with pytest.raises(PricesUnreachable, match="not a regular file"):
        CsvSource(tmp_path).history("AAPL", NOW)


def test_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "AAPL.csv").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse

    with pytest.raises(PricesInvalid, match=r"AAPL\.csv has 64 MB; the limit is 64 MB"):
        CsvSource(tmp_path).history("AAPL", NOW)


def test_more_rows_than_days_are_no_daily_prices(tmp_path: Path) -> None:
    with pytest.raises(PricesInvalid, match="line 100002: more than 100,000 rows are not daily prices"):
        read(tmp_path, "Date,Close\n" + "2024-03-15,1\n" * (MAX_ROWS + 1))


def outcome(content: bytes) -> PriceHistory | AppError:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return read(Path(folder), content)
        except AppError as error:
            return error


def assert_prices_or_a_readable_error(found: PriceHistory | AppError) -> None:
    assert found.message.isprintable() if isinstance(found, AppError) else len(found.series) > 0


@given(content=st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_prices_or_an_error_of_ours(content: bytes) -> None:
    assert_prices_or_a_readable_error(outcome(content))


TOKENS = [
    b"", b"null", b"-", b'"', b'""', b";", b"\t", b",", b"\r", b"\n", b"\x00", b"\xff", b"\xef\xbb\xbf", b"1e308",
    b"-1e308", b"9" * 400, b"0", b"1,5", b"1.234", b"%", b"$", b"13/13/2024", b"01/02/03", b"9999-12-31", b"Date",
    b"Close", b"Adj Close", b"Ticker", b"Price", b"Name", b"inf", b"+23:59", b"T23:00Z", b"1700000000", b"\xc3\xa9",
    b"sep=;\n",
]  # fmt: skip


@given(
    dialect=st.sampled_from(sorted(DIALECTS)),
    changes=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 12), st.one_of(st.sampled_from(TOKENS), st.binary(max_size=6))),
        min_size=1,
        max_size=5,
    ),
)
@settings(max_examples=300, deadline=None)
def test_damaged_files_are_prices_or_an_error_of_ours(dialect: str, changes: list[tuple[float, int, bytes]]) -> None:
    first = date(2024, 3, 4)
    bars = [Bar(first + timedelta(days=day), 10.5, 12.25, 9.75, 11.5 + day / 4, 10_000) for day in range(11)]
    content = DIALECTS[dialect](bars)
    for place, length, token in changes:
        start = int(place * len(content))
        content = content[:start] + token + content[start + length :]

    assert_prices_or_a_readable_error(outcome(content))
