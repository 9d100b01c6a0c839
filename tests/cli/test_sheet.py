"""A sheet at several widths: what is left out first, when it is turned, and that nothing is ever cut."""

from datetime import date

import pytest
from rich.cells import cell_len
from rich.console import Group

from cli.as_csv import csv_of
from cli.layout import Facts, console, figure, more, notes, percent, price, share, signed_share
from cli.sheet import Column, Sheet
from stock_forecast_client.models import SymbolsFound
from tests.cli.conftest import rendered

NOTHING = SymbolsFound(query="a, b", source="csv", symbols=[], matched=False, incomplete=None)


def sheet() -> Sheet:
    found = Sheet(
        "forecasts",
        [
            Column("ticker", left=True),
            Column("session"),
            Column("price", price),
            Column("skill", signed_share, ("skill_mae",), rank=1, meaning="against no change"),
            Column("p-value", figure, rank=1),
            Column("80% range", lambda both: f"{both[0]:.2f} – {both[1]:.2f}", ("lower_0.8", "upper_0.8"), rank=2),
            Column("reason", only_csv=True),
        ],
    )
    found.add("^GSPC", date(2018, 12, 31), 2506.8501, 0.0123456, 0.25, (2400.125, 2600.5), "a, b")
    found.add("PETR4.SA", date(2018, 12, 28), 22.68, None, 0.5, (21.0, 24.0), None)
    return found


def test_a_wide_terminal_shows_every_column() -> None:
    first, _, second, meaning = rendered(sheet(), 100).splitlines()

    assert first.split() == ["ticker", "session", "price", "skill", "p-value", "80%", "range"]
    assert second.split() == ["PETR4.SA", "2018-12-28", "22.68", "–", "0.5000", "21.00", "–", "24.00"]
    assert meaning == "skill: against no change"


def test_columns_of_the_highest_rank_are_left_out_together_and_named() -> None:
    narrower, narrow = rendered(sheet(), 54), rendered(sheet(), 40)

    assert "+1.235%" in narrower
    assert "Not shown: 80% range. Use a terminal of 67 columns, --csv or" in " ".join(narrower.split())
    assert rendered(sheet(), 67).count("Not shown") == 0
    assert "Not shown: skill, p-value, 80% range." in " ".join(narrow.split())
    assert "against no change" not in narrow


def test_a_table_whose_essential_columns_do_not_fit_is_turned_and_complete() -> None:
    text = rendered(sheet(), 24)

    assert text.splitlines()[:6] == [
        "ticker     ^GSPC",
        "session    2018-12-31",
        "price      2,506.85",
        "skill      +1.235%",
        "p-value    0.2500",
        "80% range",
    ]
    assert "2400.12 – 2600.50" in text
    assert "Not shown" not in text
    assert "a, b" not in text


@pytest.mark.parametrize("width", range(1, 70))
def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost(width: int) -> None:
    text = rendered(sheet(), width)

    assert max(map(cell_len, text.splitlines())) <= width
    assert "…" not in text
    assert "2,506.85" in "".join(text.split())


def test_signs_of_two_columns_are_counted_and_names_are_broken_between_words() -> None:
    found = Sheet("symbols", [Column("symbol"), Column("name", left=True, wraps=True)])
    found.add("7203.T", "トヨタ自動車 株式会社")

    wide, narrow = rendered(found, 40), rendered(found, 22)

    assert "7203.T  トヨタ自動車 株式会社" in wide
    assert [line.strip() for line in narrow.splitlines()[1:]] == ["7203.T  トヨタ自動車", "株式会社"]


def test_a_text_from_elsewhere_cannot_obey_a_terminal() -> None:
    found = Sheet("symbols", [Column("name", left=True)])
    found.add("[red]\x1b[31mEvil\nInc")

    assert "[red] [31mEvil Inc" in rendered(found, 80)
    assert "\x1b" not in csv_of(NOTHING, found)


def test_a_row_has_one_value_for_each_column() -> None:
    with pytest.raises(ValueError, match="expected 7 values, found 1"):
        sheet().add("^GSPC")


def test_csv_has_names_of_the_machine_all_columns_and_unrounded_figures() -> None:
    assert csv_of(NOTHING, sheet()).splitlines() == [
        "ticker,session,price,skill_mae,p_value,lower_0.8,upper_0.8,reason",
        '^GSPC,2018-12-31,2506.8501,0.0123456,0.25,2400.125,2600.5,"a, b"',
        "PETR4.SA,2018-12-28,22.68,,0.5,21.0,24.0,",
    ]


def test_csv_of_several_tables_names_the_table_of_each_row() -> None:
    other = Sheet("exchanges", [Column("ticker"), Column("exchange")])
    other.add("^GSPC", "XNYS")
    rows = csv_of(NOTHING, Group(sheet(), other)).splitlines()

    assert rows[0].startswith("table,ticker,session,")
    assert rows[0].endswith(",reason,exchange")
    assert rows[3] == "exchanges,^GSPC,,,,,,,,XNYS"


def test_csv_without_a_table_is_one_row_with_its_fields_and_plain_lists() -> None:
    assert csv_of(NOTHING, Facts()).splitlines() == [
        "query,source,symbols,matched,incomplete",
        '"a, b",csv,[],false,',
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (figure(1234.5), "1,234"),
        (figure(0.99996), "1.000"),
        (figure(-0.000123456), "-0.0001235"),
        (figure(float("nan")), "nan"),
        (share(0.7966), "79.66%"),
        (percent(None), "–"),
        (signed_share(-0.5), "-50.00%"),
    ],
)
def test_a_figure_has_four_significant_digits(written: str, expected: str) -> None:
    assert written == expected


def test_the_next_page_can_be_pasted() -> None:
    assert [str(part) for part in more("^GSPC")] == ["more: --after '^GSPC'"]


def test_colours_are_those_of_the_page_and_no_color_switches_them_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def printed() -> str:
        page = console()
        with page.capture() as shown:
            page.print(*notes(["late"]))
        return shown.get()

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLORTERM", "truecolor")
    plain = printed()
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = printed()
    monkeypatch.setenv("NO_COLOR", "1")

    assert plain == "note: late\n"
    assert "38;2;200;99;42" in coloured
    assert "38;2" not in printed()


def test_a_pipe_is_100_columns_wide_or_as_wide_as_columns_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console().width == 100

    monkeypatch.setenv("COLUMNS", "61")
    assert console().width == 61
