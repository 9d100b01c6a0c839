"""The evidence for the universal model, from a few random walks: every table and every model is there."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from benchmarks import universe
from benchmarks.universe_prices import ArraySource, read_universe
from errors import TickerNotFound
from tests.fakes import new_york_sessions, random_walk

TICKERS = ["AAA", "BBB", "CCC", "DDD", "^GSPC", "^VIX", "XXXX3.SA", "^BVSP"]


def _write(path: Path, sessions: np.ndarray, bars: np.ndarray) -> None:
    rows = [",".join([str(day), *map(repr, bar)]) for day, bar in zip(sessions, bars.tolist(), strict=True)]
    path.write_text("\n".join(["Date,Open,High,Low,Close,Volume", *rows]))


def _first_column(table: str) -> list[str]:
    """Below the head and the rule."""
    return [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")][2:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walks")
    sessions = new_york_sessions(1650, date(2013, 1, 2))
    for seed, ticker in enumerate(TICKERS):
        _write(folder / f"{ticker}.csv", sessions, random_walk(len(sessions), seed=seed))
    return folder


@pytest.mark.slow
def test_a_quick_run_prints_every_table_and_every_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    universe.main(["--universe", str(folder), "--quick", "--walk-forward-b3"])

    printed = capsys.readouterr().out
    headings = [line.removeprefix("## ") for line in printed.splitlines() if line.startswith("## ")]
    assert [heading.split()[0] for heading in headings] == [
        "Training",
        *["Skill", "Difference", "What", "Difference"],
        *["Skill", "Difference"] * 2,
        "Outcomes",
        "Share",
        *["Skill", "Difference"],
    ]
    sections = printed.split("## ")
    assert _first_column(sections[2]) == [
        "volatility regression, per ticker",
        "volatility regression, pooled",
        "volatility regression, pooled, adaptive",
        "gradient boosting, pooled",
        "gradient boosting, pooled, adaptive",
        "universal network, as served",
        "universal network, static",
        "universal network, raw",
        "universal network, LSTM off",
        "universal network, market masked",
    ]
    dates = _first_column(sections[5])
    assert dates == sorted(set(dates))
    assert len(dates) == universe.STARTS
    assert "nan" not in printed.lower()


def test_a_folder_is_divided_by_exchange_and_indices_are_left_out(folder: Path) -> None:
    found = read_universe(folder)

    assert [*found.us] == ["AAA", "BBB", "CCC", "DDD"]
    assert [*found.b3] == ["XXXX3.SA"]
    assert found.us["AAA"].inputs.shape == (1650, 10)
    assert found.us["AAA"].market is not None
    assert found.us["BBB"].market is not None
    assert found.us["AAA"].market.index is found.us["BBB"].market.index


def test_arrays_give_the_prices_of_their_tickers(tmp_path: Path) -> None:
    sessions, bars = new_york_sessions(100), random_walk(100)
    markets = tmp_path / "market"
    markets.mkdir()
    _write(markets / "^GSPC.csv", sessions, bars)
    both = np.stack([bars, 2 * bars], axis=1).astype(np.float32)
    both[:10, 1] = np.nan
    np.savez(tmp_path / "shares.npz", bars=both, sessions=sessions, tickers=np.array(["AAA", "BRK.B"]))

    source = ArraySource(tmp_path, markets)

    now = datetime(2024, 7, 19, tzinfo=UTC)
    assert source.tickers == ("AAA", "BRK-B", "^GSPC")
    np.testing.assert_allclose(source.history("BRK-B", now).series.close, 2 * bars[10:, 3], rtol=1e-6)
    assert source.history("BRK-B", now).source == source.history("^GSPC", now).source


def test_without_prices_the_error_names_what_was_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(TickerNotFound, match="--universe"):
        read_universe(None)


def test_no_model_of_several_tickers_learns_from_the_test(folder: Path) -> None:
    history, design = read_universe(folder).us["AAA"], universe.Design()

    blocks = universe._blocks(history, 60, design)

    sessions = history.series.sessions
    assert sessions[blocks.fit.stop - 1 : blocks.fit.stop + 1].astype(str).tolist() == ["2014-12-30", "2014-12-31"]
    assert len(blocks.bars) == np.searchsorted(sessions, np.datetime64("2017-01-01"))
    assert blocks.early_stopping.stop == len(blocks.bars) - 1


def test_all_tickers_are_tested_on_the_same_dates(folder: Path) -> None:
    histories, design = dict(read_universe(folder).us), universe.Design()
    histories["BBB"] = histories["BBB"].between(date(2013, 1, 10), None)

    tested = universe._Tested.of(histories, design)

    dates = {str(one.series.sessions[tested.origins[ticker]]) for ticker, one in histories.items()}
    assert len(dates) == 1
    assert histories["AAA"].series.sessions[tested.origins["AAA"]][0] == np.datetime64("2017-01-03")
