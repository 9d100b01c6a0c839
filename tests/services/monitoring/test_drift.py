"""Ranges against their own past: what counts as a range, and sessions that did not trade."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from errors import InsufficientHistory
from models.base import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars
from schemas.realised import DriftReport, ErrorDrift, ForecastOutcome, InputDrift, SessionScores, Unjudged
from services.monitoring.drift import (
    EARLIER,
    MIN_WINDOWS,
    RECENT,
    drift,
    drift_overview,
    error_drift,
    input_drift,
    judge,
    measure_drift,
    overview_of,
    range_ratios,
)
from services.monitoring.scoring import scores_key
from services.storage.registry import ModelRegistry
from services.training.train import TrainedModel
from telemetry.measures import DRIFT
from tests.fakes import FakePriceSource, InMemoryArtifactStore, RecordingMeter, random_walk, walk_history

N = RECENT + EARLIER + MIN_WINDOWS
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def log_ranges(bars: Bars) -> list[float]:
    return [
        float(np.log(max(bar[HIGH], bar[CLOSE], before) / min(bar[LOW], bar[CLOSE], before)))
        for before, bar in zip(bars[:-1, CLOSE], bars[1:], strict=True)
    ]


def halted(bars: Bars, *rows: int) -> Bars:
    """The bars with a price that stands still, without volume, in these rows."""
    stopped = bars.copy()
    for row in sorted(rows):
        stopped[row, : CLOSE + 1], stopped[row, VOLUME] = stopped[row - 1, CLOSE], 0.0
    return stopped


def test_ratios_equal_a_naive_loop() -> None:
    bars = random_walk(200)
    ranges = log_ranges(bars)

    naive = [
        np.mean(ranges[end - RECENT : end]) / np.mean(ranges[end - RECENT - EARLIER : end - RECENT])
        for end in range(RECENT + EARLIER, len(ranges) + 1)
    ]

    assert range_ratios(bars).tolist() == pytest.approx(naive)


def test_sessions_without_trading_are_left_out_of_both_means() -> None:
    bars = halted(random_walk(1 + RECENT + EARLIER), 7, 30, 31, 63, 65)
    ranges = np.array(log_ranges(bars))
    ranges[[6, 29, 30, 62, 64]] = np.nan

    (ratio,) = range_ratios(bars)

    assert ratio == pytest.approx(np.nanmean(ranges[EARLIER:]) / np.nanmean(ranges[:EARLIER]))


def test_a_halt_does_not_read_as_calm() -> None:
    bars = random_walk(N)
    drifting = halted(bars, *range(N - 4, N))

    assert range_ratios(drifting)[-1] > 0.3


def test_a_price_that_is_traded_but_stands_still_has_a_range_of_zero() -> None:
    bars = random_walk(1 + RECENT + EARLIER)
    bars[-RECENT:, : CLOSE + 1] = bars[-RECENT - 1, CLOSE]

    assert range_ratios(bars).tolist() == [0.0]


def test_a_locked_bar_counts_its_move() -> None:
    bars = random_walk(1 + RECENT + EARLIER)
    bars[-1, : CLOSE + 1], bars[-1, VOLUME] = 1.1 * bars[-2, CLOSE], 0.0
    ranges = log_ranges(bars)

    assert ranges[-1] == pytest.approx(np.log(1.1))
    assert range_ratios(bars).tolist() == pytest.approx([np.mean(ranges[-RECENT:]) / np.mean(ranges[:EARLIER])])


def test_where_high_and_low_are_unknown_the_move_of_the_close_counts() -> None:
    bars = random_walk(1 + RECENT + EARLIER)
    bars[:, [OPEN, HIGH, LOW]] = np.nan
    moves = np.abs(np.diff(np.log(bars[:, CLOSE])))

    assert range_ratios(bars).tolist() == pytest.approx([moves[-RECENT:].mean() / moves[:EARLIER].mean()])


def test_during_a_halt_the_newest_ratio_is_that_before_it() -> None:
    bars = random_walk(N + 20)

    before = input_drift("WALK", halted(bars[: N + 14], N + 13))
    during = input_drift("WALK", halted(bars, *range(N + 9, N + 20)))
    known = range_ratios(halted(bars, *range(N + 9, N + 20)))

    assert np.isnan(known[-1])
    assert during.ratio == known[~np.isnan(known)][-1]
    assert np.isfinite(before.ratio)


def test_a_ticker_that_hardly_ever_trades_has_no_status() -> None:
    bars = halted(random_walk(N), *range(100, N))

    with pytest.raises(InsufficientHistory) as refusal:
        input_drift("WALK", bars)

    needed, found = refusal.value.context["needed"], refusal.value.context["found"]
    assert needed == N
    assert isinstance(found, int)
    assert found < N


def outcomes(*pits: float) -> list[ForecastOutcome]:
    template = {"model_id": "walk-1", "model": "persistence", "origin": date(2026, 1, 1), "step": 1, "last": 100.0}
    prices = {"actual": 100.0, "median": 100.0, "levels": (), "lower": (), "upper": (), "crps": 0.5}
    at = {"made_at": NOW, "persistence_crps": 0.5}
    return [ForecastOutcome.model_validate({**template, **prices, **at, "pit": pit}) for pit in pits]


def test_misses_add_up_above_and_below_their_expected_share() -> None:
    found = error_drift(outcomes(0.5, 0.05, 0.95, 0.5))

    assert found is not None
    assert (found.n_origins, found.level, found.empirical_coverage, found.ks_p_value) == (4, 0.8, 0.5, None)
    assert found.cusum_high == pytest.approx(0.7 + 0.7 - 0.3)
    assert found.cusum_low == pytest.approx(0.1)
    assert error_drift([]) is None


def test_thirty_outcomes_are_compared_with_the_forecast_distributions() -> None:
    pits = np.linspace(0.2, 0.7, 30)

    few, enough = error_drift(outcomes(*pits[:29])), error_drift(outcomes(*pits))

    assert few is not None
    assert few.ks_p_value is None
    assert enough is not None
    assert enough.ks_p_value == pytest.approx(stats.kstest(pits, "uniform").pvalue)


@pytest.mark.parametrize(
    ("tail", "high", "low", "p_value", "status", "reason"),
    [
        (0.04, 6.0, 6.0, 0.001, "ok", ""),
        (0.039, 0.0, 0.0, None, "warning", "ranges of the last 5 sessions are 1.50 times those of the 60 before"),
        (0.005, 0.0, 0.0, 0.5, "warning", "0.5% of past windows had a larger ratio"),
        (0.0049, 0.0, 0.0, 0.5, "drifted", "ranges of the last 5 sessions"),
        (0.5, 6.1, 1.0, None, "drifted", "outside 80% intervals more often than 20%"),
        (0.5, 1.0, 6.1, None, "drifted", "outside 80% intervals less often than 20%"),
        (0.5, 0.0, 0.0, 0.0009, "drifted", "do not follow the forecast distributions"),
    ],
)
def test_the_status_follows_from_the_figures(
    tail: float, high: float, low: float, p_value: float | None, status: str, reason: str
) -> None:
    inputs = InputDrift(recent_sessions=5, earlier_sessions=60, ratio=1.5, upper_tail_probability=tail)
    coverage = {"n_origins": 40, "level": 0.8, "empirical_coverage": 0.8}
    errors = ErrorDrift.model_validate({**coverage, "cusum_high": high, "cusum_low": low, "ks_p_value": p_value})

    found, reasons = judge(inputs, errors)

    assert found == status
    assert len(reasons) == (status != "ok")
    assert reason in "".join(reasons)


def test_an_unusual_range_is_named_after_drifted_errors() -> None:
    inputs = InputDrift(recent_sessions=5, earlier_sessions=60, ratio=1.5, upper_tail_probability=0.02)
    errors = error_drift(outcomes(*[0.99] * 40))

    assert (judge(inputs, None)[0], len(judge(inputs, errors)[1])) == ("warning", 3)


def report(ticker: str, status: str, high: float, low: float, tail: float) -> DriftReport:
    inputs = {"recent_sessions": 5, "earlier_sessions": 60, "ratio": 1.5, "upper_tail_probability": tail}
    errors = {"n_origins": 40, "level": 0.8, "empirical_coverage": 0.8, "ks_p_value": None}
    found = {"ticker": ticker, "model_id": "walk-1", "as_of": date(2026, 1, 1), "status": status, "reasons": ()}
    return DriftReport.model_validate(
        {**found, "inputs": inputs, "errors": {**errors, "cusum_high": high, "cusum_low": low}}
    )


def test_of_equal_status_forecasts_that_fail_come_before_prices_that_are_wilder() -> None:
    worst_first = [
        report("A", "drifted", 7.0, 0.0, 0.9),
        report("B", "drifted", 1.0, 6.5, 0.9),
        report("C", "drifted", 0.0, 0.0, 0.001),
        report("D", "drifted", 0.0, 0.0, 0.002),
        report("E", "warning", 5.0, 0.0, 0.03),
        report("F", "ok", 6.0, 0.0, 0.5),
        report("G", "ok", 0.0, 0.0, 0.1).model_copy(update={"errors": None}),
    ]

    found = overview_of([*worst_first[::-1], Unjudged(ticker="GONE", code="ticker_not_found", detail="")])

    assert [one.ticker for one in found.reports] == list("ABCDEFG")
    assert [one.ticker for one in found.unjudged] == ["GONE"]


def test_every_status_is_counted_also_where_no_ticker_has_it(meter: RecordingMeter) -> None:
    measure_drift(overview_of([report(ticker, "drifted", 7.0, 0.0, 0.5) for ticker in "AB"]), meter)

    counted = {labels["status"]: n for labels, n in zip(meter.labels(DRIFT), meter.values(DRIFT), strict=True)}
    assert counted == {"ok": 0, "warning": 0, "drifted": 2}


@pytest.mark.parametrize("bars", [random_walk(N - 1), halted(random_walk(N), *range(N - RECENT, N))])
def test_a_window_too_few_has_no_status(bars: Bars) -> None:
    with pytest.raises(InsufficientHistory) as refusal:
        input_drift("WALK", bars)

    assert (refusal.value.context["needed"], refusal.value.context["found"]) == (N, N - 1)
    assert 0 <= input_drift("WALK", random_walk(N)).upper_tail_probability <= 1


def test_the_tail_is_the_share_of_past_windows_with_a_ratio_as_large() -> None:
    bars = random_walk(N + 50)
    ratios = range_ratios(bars)

    found = input_drift("WALK", bars)

    assert found.ratio == ratios[-1]
    assert found.upper_tail_probability == pytest.approx(np.mean([one >= ratios[-1] for one in ratios[:-1]]))


def test_equal_ranges_are_not_unusual() -> None:
    closes = np.where(np.arange(N + 1) % 2, 100.0, 101.0)
    bars = np.column_stack([closes] * 4 + [np.ones(N + 1)])

    assert input_drift("WALK", bars).upper_tail_probability > 0.5


def test_drift_is_that_of_the_last_year_of_one_step_forecasts_of_the_model(
    store: InMemoryArtifactStore, trained: TrainedModel
) -> None:
    (outcome,) = outcomes(0.99)
    days = {0: "walk-1", 364: "walk-1", 365: "walk-1", 366: "walk-1", 3: "other-1"}
    for age, model_id in days.items():
        session = NOW.date() - timedelta(days=age)
        pairs = tuple(outcome.model_copy(update={"model_id": model_id, "step": step}) for step in (1, 2))
        scores = SessionScores(ticker="WALK", session=session, scored_at=NOW, pairs=pairs)
        store.put(scores_key("WALK", session), scores.model_dump_json().encode())
    card = trained.card.model_copy(update={"model_id": "walk-1"})

    found = drift(card, walk_history("WALK", n_sessions=N + 1), store, NOW)

    assert found.errors is not None
    assert (found.errors.n_origins, found.errors.empirical_coverage) == (3, 0.0)


def test_the_worst_come_first_and_a_ticker_without_prices_is_named(
    store: InMemoryArtifactStore, trained: TrainedModel
) -> None:
    registry, usual = ModelRegistry(store), walk_history("CALM", n_sessions=N)
    for model_id in ("all-1", "other-1"):
        registry.publish(trained.card.model_copy(update={"model_id": model_id}), trained.files)
    registry.move_alias("default", "all-1", NOW)
    bars = usual.series.bars.copy()
    bars[-RECENT:, HIGH] *= 1.5
    wild = replace(usual, series=replace(usual.series, ticker="WILD", bars=bars))
    asked = ["CALM", "GONE", "WILD"]

    found = drift_overview(registry, None, asked, FakePriceSource(usual, wild), store, NOW)
    of_another = drift_overview(registry, "other-1", asked, FakePriceSource(usual, wild), store, NOW)

    assert [(one.ticker, one.model_id) for one in found.reports] == [("WILD", "all-1"), ("CALM", "all-1")]
    assert [(one.ticker, one.code) for one in found.unjudged] == [("GONE", "ticker_not_found")]
    assert {one.model_id for one in of_another.reports} == {"other-1"}
