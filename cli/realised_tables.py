"""What is shown of forecasts that came true or did not: errors beside persistence, drift, evaluations."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table

from cli.layout import columns, counted, format_skill, line, more, notes, price
from cli.tables import job_table
from schemas.challenge import ChallengerEvaluation, ContestPage
from schemas.realised import AccuracyOverTime, DriftOverview, DriftReport, RealisedAccuracy, ScoreReport
from schemas.retrain import RetrainAnswer


def score_table(report: ScoreReport) -> RenderableType:
    """How much has come true since the last scoring."""
    found = (
        f"scored {counted(report.n_pairs, 'forecast')} of {counted(report.n_sessions, 'session')} closed since"
        if report.n_sessions
        else "no session that was forecast has closed since the last scoring"
    )
    unscored = [
        f"{one.ticker} was not scored{f' for {one.session}' if one.session else ''}: {one.code}: {one.detail}"
        for one in report.unscored
    ]
    return Group(line(found), *notes(unscored))


def accuracy_table(answer: AccuracyOverTime) -> RenderableType:
    """For each ticker and model, the errors of every step with persistence beside them."""
    if not answer.accuracy:
        return line(f"no forecast of a session since {answer.since} was scored; `score` does it once they have closed")
    groups = groupby(answer.accuracy, key=lambda one: (one.ticker, one.model_id))
    return Group(*[part for _, found in groups for part in _accuracy_of(tuple(found))])


def drift_table(overview: DriftOverview) -> RenderableType:
    """The drift status of each ticker, and what it rests on."""
    if not overview.reports and not overview.unjudged:
        return line("no ticker was scored yet: name one, or see `score`")
    unjudged = [f"{one.ticker} could not be judged: {one.code}: {one.detail}" for one in overview.unjudged]
    if not overview.reports:
        return Group(*notes(unjudged))
    table = columns("ticker", "status", "as of", "ranges", "past beyond", "scored", "held")
    for one in overview.reports:
        table.add_row(*_drift_row(one))
    meaning = (
        f"ranges: of the last {overview.reports[0].inputs.recent_sessions} sessions, against the "
        f"{overview.reports[0].inputs.earlier_sessions} before; past beyond: share of the past with larger ones; "
        "scored: one-step forecasts of the last year, and the share of them whose interval held"
    )
    reasons = [line(f"{one.ticker}: {reason}") for one in overview.reports for reason in one.reasons]
    head = line(f"does {overview.reports[0].model_id} still fit?")
    return Group(head, table, line(meaning), *reasons, *notes(unjudged))


def retrain_table(answer: RetrainAnswer) -> RenderableType:
    """The drift status, and the job of the challenger where there is one."""
    status = f"status: {'; '.join([answer.status, *answer.reasons])}"
    trained = line("nothing was trained") if answer.job is None else job_table(answer.job)
    return Group(line(status), trained)


def contest_table(page: ContestPage) -> RenderableType:
    """Who challenged an alias: both scores with persistence's beside them, and why it ended so."""
    if not page.contests:
        return line("nobody has challenged this alias; see `retrain`, and `train --challenges`")
    shown = [part for one in page.contests for part in _contest(one)]
    return Group(*shown, *more(page.next_after))


def _accuracy_of(steps: Sequence[RealisedAccuracy]) -> Iterator[RenderableType]:
    one = steps[0]
    first, last = min(step.first_session for step in steps), max(step.last_session for step in steps)
    yield line(f"{one.ticker} by {one.model} {one.model_id}, sessions {first} to {last}")
    yield _errors_of(steps)
    yield _held_of(steps)


def _errors_of(steps: Sequence[RealisedAccuracy]) -> Table:
    table = columns("step", "n", "MAPE", "persistence", "saved", "CRPS", "persistence", "saved")
    for one in steps:
        own, theirs, skill = one.errors, one.persistence, one.skill
        mape = (f"{own.mape:.3%}", f"{theirs.mape:.3%}", format_skill(skill.mape))
        table.add_row(str(one.step), str(one.n), *mape, price(own.crps), price(theirs.crps), format_skill(skill.crps))
    return table


def _held_of(steps: Sequence[RealisedAccuracy]) -> Table:
    levels = sorted({interval.level for one in steps for interval in one.intervals})
    table = columns("step", *[f"{level:.0%} held" for level in levels])
    for one in steps:
        held = {interval.level: f"{interval.coverage:.1%}" for interval in one.intervals}
        table.add_row(str(one.step), *[held.get(level, "") for level in levels])
    return table


def _drift_row(one: DriftReport) -> list[str]:
    return [
        one.ticker,
        one.status,
        str(one.as_of),
        f"{one.inputs.ratio:.2f} times",
        f"{one.inputs.upper_tail_probability:.1%}",
        "none" if one.errors is None else str(one.errors.n),
        "" if one.errors is None else f"{one.errors.coverage:.1%} of {one.errors.level:.0%}",
    ]


def _contest(contest: ChallengerEvaluation) -> Iterator[RenderableType]:
    outcome = "won" if contest.won else "lost"
    yield line(f"{contest.at:%Y-%m-%d} {contest.challenger_id} {outcome}: {contest.reason}")
    if contest.n_origins:
        yield _scores(contest)
    yield from notes(contest.warnings)


def _scores(contest: ChallengerEvaluation) -> Table:
    table = columns(f"CRPS of {contest.ticker}'s log return, {contest.n_origins} origins", "score")
    for name, score in (
        (f"challenger {contest.challenger_id}", contest.challenger_score),
        (f"champion {contest.champion_id}", contest.champion_score),
        ("persistence", contest.persistence_score),
    ):
        table.add_row(name, "" if score is None else f"{score:.5f}")
    return table
