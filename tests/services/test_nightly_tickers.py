"""The setting that names the tickers of the nightly run."""

from pathlib import Path

import pytest

from errors import InvalidRequest, UniverseNotFound
from services import nightly
from services.nightly import nightly_tickers
from services.nightly_tickers import parse_tickers
from services.training.universe import NO_UNIVERSES, Universes
from tests.fakes import walk_history, write_prices

NO_LIST: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("AAPL", ("AAPL",)),
        (" aapl, ^gspc\tPETR4.SA,,AAPL ", ("AAPL", "^GSPC", "PETR4.SA")),
        ("all", ("all",)),
        ("universe:world", ("universe:world",)),
        ("ALL", ("ALL",)),  # Allstate
    ],
)
def test_a_list_has_each_ticker_once_in_its_order(text: str, found: tuple[str, ...]) -> None:
    assert parse_tickers(text) == found


@pytest.mark.parametrize(
    "text", ["", " ", ",", "A/B", "universe:", "universe:../etc", "A" * 30, "../x", ",".join(map(str, range(5001)))]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_tickers(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of prices, with an implied volatility, which is no price."""
    for ticker in ("BBB", "AAA", "^VIX"):
        write_prices(tmp_path, walk_history(ticker, n_sessions=3))
    return tmp_path


def test_all_is_what_a_folder_or_the_sample_has(folder: Path) -> None:
    assert nightly_tickers("all", folder, NO_LIST, lambda: NO_UNIVERSES) == ("AAA", "BBB")
    assert nightly_tickers(None, folder, NO_LIST, lambda: NO_UNIVERSES) == ("AAA", "BBB")
    assert nightly_tickers("all", None, frozenset({"^IXIC", "^GSPC"}), lambda: NO_UNIVERSES) == ("^GSPC", "^IXIC")
    assert nightly_tickers(None, folder / "none", NO_LIST, lambda: NO_UNIVERSES) == ()


def test_a_source_without_a_list_has_no_tickers_by_default_and_cannot_have_all() -> None:
    assert nightly_tickers(None, None, NO_LIST, lambda: NO_UNIVERSES) == ()
    with pytest.raises(InvalidRequest, match="NIGHTLY_TICKERS: all needs"):
        nightly_tickers("all", None, NO_LIST, lambda: NO_UNIVERSES)


def test_a_universe_names_its_tickers(folder: Path) -> None:
    universes = Universes(folder.parent)

    assert nightly_tickers(f"universe:{_name(folder)}", None, NO_LIST, lambda: universes) == ("AAA", "BBB")
    with pytest.raises(UniverseNotFound):
        nightly_tickers("universe:none", None, NO_LIST, lambda: universes)


def _name(folder: Path) -> str:
    """The folder under a name that a universe may have."""
    link = folder.parent / "named"
    folder.rename(link)
    return link.name


def test_a_folder_of_more_tickers_than_a_publication_may_have_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nightly, "MAX_TICKERS", 1)

    with pytest.raises(InvalidRequest, match="at most 1 tickers, found 2"):
        nightly_tickers("all", folder, NO_LIST, lambda: NO_UNIVERSES)
