"""The methods compared, by name. Each is imported when it is built, because no environment has the libraries of all."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from benchmarks.peers.task import Method

Scope = Literal["ticker", "all", "origin", "none"]
UNIVERSAL = "universal"
REFERENCE = "rolling_empirical"


@dataclass(frozen=True)
class Entry:
    """A method of the comparison.

    Attributes:
        title: its row in the tables.
        build: makes it, from the folder in which every method has a folder of its name.
        scope: what one fit is for: a ticker, all tickers, or one origin of one ticker; "none" where another's is read.
        own: whether it runs in the project's environment, else in that of the peers.
        steps: farthest step that it offers.
        has_width: whether it states a distribution, else a single price.
    """

    title: str
    build: Callable[[Path], Method]
    scope: Scope
    own: bool = False
    steps: int = 20
    has_width: bool = True


def _later(module: str, name: str, *arguments: object) -> Callable[[Path], Method]:
    def build(_: Path) -> Method:
        method: Method = getattr(import_module(f"benchmarks.peers.{module}"), name)(*arguments)
        return method

    return build


def _from_universal(name: str) -> Callable[[Path], Method]:
    def build(models: Path) -> Method:
        method: Method = getattr(import_module("benchmarks.peers.ours"), name)(models / UNIVERSAL)
        return method

    return build


METHODS = {
    REFERENCE: Entry("returns of the last 250 sessions", _later("ours", "Baseline", REFERENCE), "ticker", own=True),
    UNIVERSAL: Entry("**ours: universal network, as served**", _later("ours", "Universal"), "all", own=True),
    "static": Entry("ours: the same, intervals not adapted", _from_universal("Static"), "none", own=True),
    "continued": Entry("ours: continued on the ticker", _from_universal("Continued"), "ticker", own=True),
    "volatility_regression": Entry(
        "ours: `volatility_regression`", _later("ours", "Baseline", "volatility_regression"), "ticker", own=True
    ),
    "gjr_garch": Entry("ours: `gjr_garch`", _later("ours", "Baseline", "gjr_garch"), "ticker", own=True),
    "persistence": Entry("no change", _later("ours", "Baseline", "persistence"), "ticker", own=True, has_width=False),
    "garch": Entry("statsforecast GARCH(1,1)", _later("statistical", "Garch"), "origin"),
    "auto_ets": Entry("statsforecast AutoETS", _later("statistical", "AutoEts"), "origin"),
    "random_walk": Entry("statsforecast random walk", _later("statistical", "RandomWalk"), "origin"),
    "nhits": Entry("neuralforecast NHITS, Student-t", _later("neural", "Neural", "NHITS", False, False), "all"),
    "nhits_conformal": Entry(
        "neuralforecast NHITS, conformal", _later("neural", "Neural", "NHITS", True, False), "all"
    ),
    "lstm": Entry("neuralforecast LSTM, Student-t", _later("neural", "Neural", "LSTM", False, True), "all"),
    "lstm_conformal": Entry("neuralforecast LSTM, conformal", _later("neural", "Neural", "LSTM", True, True), "all"),
    "prophet": Entry("Prophet", _later("statistical", "Prophet"), "origin"),
    "original_first": Entry(
        "first original project", _later("originals", "First"), "ticker", own=True, steps=1, has_width=False
    ),
    "original_second": Entry(
        "second original project", _later("originals", "Second"), "ticker", own=True, has_width=False
    ),
}
