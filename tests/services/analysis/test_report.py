"""The analysis as a whole: its errors, its metadata, and finite numbers throughout."""

import json
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from errors import AnalysisUnavailable, InsufficientHistory, PricesInvalid, ZeroVariance
from schemas.analysis import Analysis, AnalysisRequest
from services.analysis.report import MIN_SESSIONS, analyse, analysis_page
from services.prices.sample import SampleSource
from tests.fakes import FakePriceSource, history_of, new_york_sessions, random_walk, walk_history
from tests.services.analysis.conftest import NOW


def _numbers(document: Any) -> list[float]:
    """Every number in a JSON document."""
    if isinstance(document, dict):
        return [x for value in document.values() for x in _numbers(value)]
    if isinstance(document, list):
        return [x for value in document for x in _numbers(value)]
    return [float(document)] if isinstance(document, int | float) else []


def _refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is not JSON")


def _analysis(bars: np.ndarray) -> Analysis:
    return analyse("WALK", AnalysisRequest(), FakePriceSource(history_of(bars)), NOW)


def _flat(closes: np.ndarray) -> np.ndarray:
    """Bars with closes only."""
    return np.column_stack([closes, closes, closes, closes, np.zeros(closes.size)])


def test_an_analysis_names_its_ticker_dates_and_source(of_sample: Analysis) -> None:
    assert (of_sample.ticker, of_sample.currency, of_sample.source) == ("^GSPC", "USD", "sample")
    assert (of_sample.first_session, of_sample.last_session) == (date(1999, 1, 4), date(2018, 12, 31))
    assert of_sample.n_sessions == of_sample.summary.closes.n == of_sample.summary.log_returns.n + 1 == 5031
    assert of_sample.stale
    assert of_sample.demo
    assert of_sample.warnings[0] == "prices end on 2018-12-31; newer ones are not available"
    assert of_sample.sessions_per_year == pytest.approx(251.5, abs=0.3)


def test_the_deepest_drawdown_of_the_index_is_found(of_sample: Analysis) -> None:
    deepest = of_sample.drawdowns.deepest[0]

    assert (deepest.peak, deepest.trough, deepest.recovery) == (date(2007, 10, 9), date(2009, 3, 9), date(2013, 3, 28))
    assert deepest.depth == pytest.approx(-0.568, abs=0.001)


def test_too_short_a_history_is_refused_with_both_numbers() -> None:
    short = FakePriceSource(walk_history(n_sessions=MIN_SESSIONS - 1))

    with pytest.raises(InsufficientHistory) as refusal:
        analyse("WALK", AnalysisRequest(), short, NOW)

    assert refusal.value.context == {"needed": MIN_SESSIONS, "found": MIN_SESSIONS - 1}


def test_no_session_between_the_dates_is_too_short_as_well() -> None:
    weekend = AnalysisRequest(start=date(2010, 1, 9), end=date(2010, 1, 10))

    with pytest.raises(InsufficientHistory):
        analyse("WALK", weekend, FakePriceSource(walk_history()), NOW)


def test_the_shortest_history_is_enough() -> None:
    found = analyse("WALK", AnalysisRequest(), FakePriceSource(walk_history(n_sessions=MIN_SESSIONS)), NOW)

    assert found.n_sessions == MIN_SESSIONS


@pytest.mark.parametrize("growth", [1.0, 1.01])
def test_closes_with_equal_returns_are_refused(growth: float) -> None:
    with pytest.raises(ZeroVariance):
        _analysis(_flat(growth ** np.arange(200.0)))


@pytest.mark.parametrize("library", ["scipy", "statsmodels"])
def test_without_its_libraries_there_is_no_analysis(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    _uninstall(monkeypatch, library)

    with pytest.raises(AnalysisUnavailable, match=f"{library} not installed"):
        analyse("^GSPC", AnalysisRequest(), SampleSource(), NOW)


@pytest.mark.parametrize("library", ["matplotlib", "jinja2"])
def test_without_its_libraries_there_are_figures_but_no_page(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    _uninstall(monkeypatch, library)

    with pytest.raises(AnalysisUnavailable, match=f"{library} not installed"):
        analysis_page("^GSPC", AnalysisRequest(), SampleSource(), NOW)
    assert analyse("^GSPC", AnalysisRequest(end=date(1999, 12, 31)), SampleSource(), NOW).n_sessions == 252


def test_sessions_without_a_range_cause_a_warning() -> None:
    found = _analysis(_flat(random_walk(200)[:, 3]))

    assert found.warnings == ("200 of 200 sessions have no daily range; range-based volatility skips them",)


@settings(deadline=None, max_examples=40)
@given(
    moves=arrays(float, st.integers(MIN_SESSIONS, 140), elements=st.floats(-0.5, 0.5)),
    quiet=st.floats(0, 1),
    unit=st.sampled_from([1e-12, 1e-3, 1.0, 1e6, 1e12]),
    ranges=st.booleans(),
    seed=st.integers(0, 100),
)
def test_every_number_of_any_answer_is_finite(
    moves: np.ndarray, quiet: float, unit: float, ranges: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    closes = unit * np.exp(np.cumsum(np.where(rng.uniform(size=moves.size) < quiet, 0.0, moves)))
    bars = _flat(closes)
    if ranges:
        bars[:, 1] *= np.exp(rng.uniform(0, 0.05, closes.size))

    try:
        text = _analysis(bars).model_dump_json()
    except (ZeroVariance, PricesInvalid, InsufficientHistory):
        return

    assert np.isfinite(_numbers(json.loads(text, parse_constant=_refuse))).all()


@pytest.mark.parametrize(
    "closes",
    [
        np.where(np.arange(200) % 2, 100.0, 101.0),
        np.where(np.arange(200) < 100, 100.0, 101.0),
        np.array([100.0, 101.0, 102.0, 103.0, 104.0])[np.arange(200) % 5],
        np.where(np.arange(200) % 2, 1e-15, 1e15),
        np.where(np.arange(200) % 3, 1e-15, 2e-15),
        np.where(np.arange(200) % 2, 9e14, 1e15),
        100 * (1 + 1e-10 * np.random.default_rng(0).normal(size=200)),
        10.0 ** np.random.default_rng(0).uniform(-15, 15, 200),
    ],
    ids=["alternating", "one step", "cycle", "jumping", "tiny", "huge", "nearly still", "any size"],
)
def test_extreme_closes_have_finite_numbers_and_a_page(closes: np.ndarray) -> None:
    from services.analysis.page.html import render

    found = _analysis(_flat(closes))

    assert np.isfinite(_numbers(json.loads(found.model_dump_json(), parse_constant=_refuse))).all()
    assert render(found).count("<svg") == 10


def test_dropped_rows_and_repaired_cells_are_counted() -> None:
    bars = random_walk(300)
    bars[5, 3] = np.nan
    bars[6:9, 0] = 0.0
    bars[9, 1] = np.nan

    found = _analysis(bars)

    assert (found.dropped, found.repaired) == ({"missing": 1}, {"open": 3, "high": 1})
    assert (found.n_sessions, found.demo, found.volatility.n_without_range) == (299, False, 1)


def test_dates_with_mostly_unusable_closes_are_refused_and_others_are_not() -> None:
    bars = random_walk(500)
    bars[100:300:3, 3] = np.nan
    bars[101:300:3, 3] = -1.0
    sessions = new_york_sessions(500)
    source = FakePriceSource(history_of(bars))

    with pytest.raises(PricesInvalid, match="132 of the 199 rows of WALK"):
        analyse("WALK", AnalysisRequest(start=sessions[100].item(), end=sessions[300].item()), source, NOW)
    assert analyse("WALK", AnalysisRequest(start=sessions[300].item()), source, NOW).n_sessions == 200


@settings(deadline=None, max_examples=10)
@given(factor=st.sampled_from([1e-4, 0.5, 8.0, 1e5]), seed=st.integers(0, 50))
def test_statistics_of_returns_do_not_depend_on_the_unit_of_the_price(factor: float, seed: int) -> None:
    bars = random_walk(300, seed)

    one, other = _analysis(bars), _analysis(bars * [factor, factor, factor, factor, 1.0])

    for part in ("distribution", "volatility", "drawdowns", "seasonality", "dependence"):
        numbers = [_numbers(getattr(found, part).model_dump(mode="json")) for found in (one, other)]
        assert numbers[1] == pytest.approx(numbers[0], rel=1e-4, abs=1e-7)


def _uninstall(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """Hide the library from ``find_spec``, even if it is imported."""
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr("services.analysis.report.find_spec", lambda name: None if name == library else find(name))
