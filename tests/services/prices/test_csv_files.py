from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from errors import PricesInvalid, PricesUnreachable, TickerNotFound, UnknownExchange
from services.prices.csv_files import CsvSource
from services.prices.series import PriceHistory

NOW = datetime(2024, 3, 16, tzinfo=UTC)
TIDY = """Date,Open,High,Low,Close,Volume
2024-03-13,10,11,9,10.5,100
2024-03-14,10.5,12,10,11,200
2024-03-15,11,11.5,10.5,11.2,300
"""


def read(folder: Path, text: str, ticker: str = "AAPL") -> PriceHistory:
    (folder / f"{ticker}.csv").write_text(text, encoding="utf-8")
    return CsvSource(folder).history(ticker, NOW)


def test_tidy_file_is_read_as_it_stands(tmp_path: Path) -> None:
    history = read(tmp_path, TIDY)

    assert history.series.close.tolist() == [10.5, 11.0, 11.2]
    assert history.as_of == date(2024, 3, 15)
    assert history.source == "csv"
    assert not history.stale


def test_columns_may_come_in_any_order_and_case_beside_others(tmp_path: Path) -> None:
    history = read(
        tmp_path, "\ufeffvolume,CLOSE,Adj Close,low,High,open, date \n300,11.2,9.9,10.5,11.5,11,2024-03-15\n"
    )

    assert history.series.bars.tolist() == [[11.0, 11.5, 10.5, 11.2, 300.0]]


@pytest.mark.parametrize("day", ["2024-03-15 00:00:00-03:00", "2024-03-15T21:00:00Z", "2024-03-15 00:00:00"])
def test_dates_may_carry_a_time(tmp_path: Path, day: str) -> None:
    history = read(tmp_path, TIDY.replace("2024-03-15", day))

    assert history.as_of == date(2024, 3, 15)


def test_unfinished_session_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "AAPL.csv").write_text(TIDY)

    history = CsvSource(tmp_path).history("AAPL", datetime(2024, 3, 15, 18, tzinfo=UTC))

    assert history.as_of == date(2024, 3, 14)


def test_rows_with_missing_values_are_dropped_and_reported(tmp_path: Path) -> None:
    rows = "".join(f"2024-02-{day:02},10,11,9,10,1\n" for day in range(1, 20))

    history = read(tmp_path, TIDY + rows + "2024-02-20,10,11,9,null,1\n2024-02-21,,,,,\n")

    assert history.dropped == {"missing": 2, "unsorted": 1}


def test_blank_lines_are_skipped(tmp_path: Path) -> None:
    assert len(read(tmp_path, TIDY + "\n\n").series) == 3


def test_file_that_is_not_there_is_an_unknown_ticker(tmp_path: Path) -> None:
    with pytest.raises(TickerNotFound, match="MSFT"):
        CsvSource(tmp_path).history("MSFT", NOW)


def test_ticker_cannot_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text(TIDY)
    folder = tmp_path / "prices"
    folder.mkdir()

    with pytest.raises(TickerNotFound):
        CsvSource(folder).history("../secret", NOW)


def test_unknown_suffix_is_an_unknown_exchange(tmp_path: Path) -> None:
    with pytest.raises(UnknownExchange):
        read(tmp_path, TIDY, ticker="AAPL.QQ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: need a column Date, found no header"),
        (TIDY.replace("Volume", "Vol"), "line 1: need a column Volume, found date, open"),
        (TIDY.replace("10.5,12", "ten,12"), "line 3: cannot read 'ten' as Open"),
        (TIDY.replace("2024-03-14", "14/03/2024"), "line 3: cannot read '14/03/2024' as Date"),
        (TIDY.replace(",11,200", ""), "line 3: the row ends before column Close"),
        (TIDY.replace("Date", "\x00"), "need a column Date"),
        ("Date,Open,High,Low,Close,Volume\n", "no rows at all"),
    ],
)
def test_message_names_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PricesInvalid, match=message):
        read(tmp_path, text)


def test_file_that_is_no_text_is_invalid(tmp_path: Path) -> None:
    (tmp_path / "AAPL.csv").write_bytes(b"\xff\xfe\x00\x81")

    with pytest.raises(PricesInvalid, match="UTF-8"):
        CsvSource(tmp_path).history("AAPL", NOW)


def test_file_that_cannot_be_opened_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "AAPL.csv").mkdir()

    with pytest.raises(PricesUnreachable, match=r"AAPL\.csv"):
        CsvSource(tmp_path).history("AAPL", NOW)
