"""The comparison with other libraries: what a method sees, and how it is scored. No other library is needed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.methods import METHODS, REFERENCE
from benchmarks.peers.ours import Baseline
from benchmarks.peers.report import report
from benchmarks.peers.scores import STEPS, accuracy, judge
from benchmarks.peers.task import CLOSE, HORIZON, LEVELS, Known, Past, Task, Values, forecasts
from models.base import N_INPUTS, with_columns
from tests.fakes import new_york_sessions, random_walk

N_SESSIONS, N_KNOWN = 700, 500
SESSIONS = new_york_sessions(N_SESSIONS)


def _past(seed: int) -> Past:
    return Past(f"T{seed}", SESSIONS, with_columns(random_walk(N_SESSIONS, seed=seed), N_INPUTS))


@pytest.fixture
def task() -> Task:
    origins = SESSIONS[N_KNOWN:-1:HORIZON]
    return Task((_past(1), _past(2)), (_past(3),), SESSIONS[N_KNOWN - 100], SESSIONS[N_KNOWN], origins)


class Reader:
    """Forecasts from everything that it can reach of a history, also behind the arrays that it receives."""

    def fit(self, known: Known, folder: Path) -> None:
        self.seen = [*known.tested, *known.others]

    def load(self, folder: Path) -> None: ...

    def forecast(self, pasts: Sequence[Past]) -> Values:
        reached = [past.bars if past.bars.base is None else past.bars.base for past in pasts]
        return np.array([np.full((HORIZON, LEVELS.size), np.nansum(bars)) for bars in reached])


def _with_another_future(task: Task, origin: np.datetime64) -> Task:
    def changed(past: Past) -> Past:
        bars = past.bars.copy()
        bars[past.sessions > origin] *= 1.5
        return replace(past, bars=bars)

    return replace(task, tested=tuple(map(changed, task.tested)), others=tuple(map(changed, task.others)))


def test_a_method_sees_nothing_after_the_origin(task: Task) -> None:
    last_origin = task.origins[-1]
    before, after = forecasts(Reader(), task), forecasts(Reader(), _with_another_future(task, last_origin))

    for ticker, quantiles in before.items():
        np.testing.assert_array_equal(quantiles, after[ticker])


def test_a_change_up_to_the_origin_is_seen(task: Task) -> None:
    earlier = task.origins[-1] - np.timedelta64(1, "D")
    before, after = forecasts(Reader(), task), forecasts(Reader(), _with_another_future(task, earlier))

    for ticker, quantiles in before.items():
        np.testing.assert_array_equal(quantiles[:-1], after[ticker][:-1])
        assert (quantiles[-1] != after[ticker][-1]).all()


def test_a_fit_sees_nothing_of_the_test(task: Task, tmp_path: Path) -> None:
    method = Reader()

    method.fit(task.known, tmp_path)

    assert [past.ticker for past in method.seen] == ["T1", "T2", "T3"]
    for past in method.seen:
        assert past.sessions[-1] < task.test_from
        assert past.bars.base is None
        assert len(past.bars) == N_KNOWN


def test_our_baselines_ignore_the_future(task: Task, tmp_path: Path) -> None:
    method = Baseline(REFERENCE)
    method.fit(task.known, tmp_path)
    method.load(tmp_path)

    before, after = forecasts(method, task), forecasts(method, _with_another_future(task, task.origins[-1]))

    for ticker, quantiles in before.items():
        np.testing.assert_array_equal(quantiles, after[ticker])


def test_a_task_survives_its_file(task: Task, tmp_path: Path) -> None:
    task.save(tmp_path / "task.npz")

    found = Task.load(tmp_path / "task.npz")

    assert [past.ticker for past in found.tested] == ["T1", "T2"]
    assert [past.ticker for past in found.others] == ["T3"]
    np.testing.assert_array_equal(found.tested[1].bars, task.tested[1].bars)
    np.testing.assert_array_equal(found.origins, task.origins)
    assert (found.stop_from, found.test_from) == (task.stop_from, task.test_from)


def test_questions_end_at_the_first_origin(task: Task) -> None:
    assert {past.sessions[-1] for past in task.questions.tested} == {task.origins[0]}
    assert task.questions.others == ()


def _points(task: Task, factor: float) -> dict[str, Values]:
    """Every quantile is the last close times a factor."""
    return {
        past.ticker: np.tile(factor * past.bars[task.rows(past), CLOSE][:, None, None], (1, HORIZON, LEVELS.size))
        for past in task.tested
    }


def test_a_point_scores_its_absolute_error_in_log_returns(task: Task) -> None:
    judged = judge(task, _points(task, 1.01))

    past = task.tested[0]
    row = task.rows(past)[3]
    closes = past.bars[:, CLOSE]
    error = abs(np.log(closes[row + 5] / closes[row]) - np.log(1.01))
    assert judged.scores[past.ticker].crps[3, 1] == pytest.approx(error, rel=1e-9)
    assert judged.errors[past.ticker][3, 1] == pytest.approx(abs(closes[row + 5] / closes[row] - 1.01))


def test_no_change_has_ratio_one_and_no_skill_against_itself(task: Task) -> None:
    unchanged = judge(task, _points(task, 1.0))

    found = accuracy(unchanged, unchanged, unchanged)

    assert [one.value for one in found.mae_ratio] == [1.0] * len(STEPS)
    assert [one.value for one in found.skill] == [0.0] * len(STEPS)
    assert [one.error for one in found.behind_ours] == [0.0] * len(STEPS)


def test_half_the_error_is_half_the_skill(task: Task) -> None:
    def blend(weight: float) -> dict[str, Values]:
        """Points that lie between the last close and the outcome on the log scale; unknown outcomes repeat the last."""
        found = _points(task, 1.0)
        for past in task.tested:
            rows = task.rows(past)[:, None] + np.arange(1, HORIZON + 1)
            moves = np.log(past.bars[np.minimum(rows, N_SESSIONS - 1), CLOSE][..., None] / found[past.ticker])
            found[past.ticker] = found[past.ticker] * np.exp(weight * moves)
        return found

    unchanged, halfway, right = (judge(task, blend(weight)) for weight in (0.0, 0.5, 1.0))

    half = accuracy(halfway, unchanged, right)
    assert [one.value for one in half.skill] == pytest.approx([50.0] * len(STEPS))
    assert [one.value for one in half.behind_ours] == pytest.approx([50.0] * len(STEPS))
    assert half.ours_better == (100.0,) * len(STEPS)


def test_coverage_counts_the_outcomes_inside(task: Task) -> None:
    wide = {ticker: points * np.exp(20 * (LEVELS - 0.5)) for ticker, points in _points(task, 1.0).items()}

    found = accuracy(judge(task, wide), judge(task, wide), judge(task, _points(task, 1.0)))

    assert [[one.value for one in of_step] for of_step in found.coverage] == [[100.0, 100.0]] * len(STEPS)


def test_the_report_has_a_row_for_every_method_and_no_coverage_of_points(task: Task) -> None:
    names = (REFERENCE, "universal", "prophet", "original_first")
    judged = judge(task, _points(task, 1.0))
    figures = {name: accuracy(judged, judged, judged) for name in names}
    cost = dict.fromkeys(("fit_s", "answer_s", "first_answer_s", "answer_peak_mb"), 2.0)

    tables = report(task, figures, dict.fromkeys(names, cost)).split("### ")

    first = METHODS["original_first"].title
    assert [METHODS[name].title in tables[-1] for name in names] == [True] * len(names)
    assert f"| {first} | 0.00 ± 0.00 | – | – |" in tables[1]
    assert first not in tables[3]
    assert f"| {first} | 1.0 s | each ticker | 2.0 s | 2.0 s | 2 MB |" in tables[-1]
