"""Tables of realised accuracy, drift and the evaluations of challengers."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table

from cli.layout import UNKNOWN, columns, counted, format_p, format_skill, line, more, notes, price
from cli.tables import job_table
from stock_forecast_client.models import (
    AccuracyOverTime,
    ChallengerEvaluation,
    DriftOverview,
    DriftReport,
    EvaluationPage,
    ForgetReport,
    RealisedAccuracy,
    RetrainAnswer,
    ScoreReport,
)


def score_table(report: ScoreReport) -> RenderableType:
    scored = (
        f"scored {counted(report.n_pairs, 'forecast')} of {counted(report.n_sessions, 'session')}"
        if report.n_sessions
        else "no forecast session has closed since the last scoring"
    )
    unscored = [
        f"{one.ticker} was not scored{f' for {one.session}' if one.session else ''}: {one.code}: {one.detail}"
        for one in report.unscored
    ]
    return Group(line(scored), *notes(unscored))


def forget_table(report: ForgetReport) -> RenderableType:
    if report.before is None:
        return line("nothing is ever deleted: RETENTION_DAYS is 0")
    found = ", ".join(f"{count} in {folder}" for folder, count in report.deleted.items())
    return line(f"deleted documents of before {report.before}: {found or 'none'}")


def accuracy_table(answer: AccuracyOverTime) -> RenderableType:
    """For each ticker and model, the errors of every step and those of the no-change forecast."""
    if not answer.accuracy:
        return line(f"no forecasts have been scored since {answer.since}; `score` scores those whose sessions closed")
    groups = groupby(answer.accuracy, key=lambda one: (one.ticker, one.model_id))
    return Group(*[part for _, steps in groups for part in _accuracy(tuple(steps))])


def drift_table(overview: DriftOverview) -> RenderableType:
    """The drift status of each ticker, its figures and reasons."""
    if not overview.reports and not overview.unjudged:
        return line("no ticker has scores yet: name one, or see `score`")
    unjudged = [f"{one.ticker} could not be checked: {one.code}: {one.detail}" for one in overview.unjudged]
    if not overview.reports:
        return Group(*notes(unjudged))
    table = columns("ticker", "status", "as of", "ranges", "past above", "scored", "in range")
    for one in overview.reports:
        table.add_row(*_drift_row(one))
    first = overview.reports[0]
    legend = (
        f"ranges: the last {first.inputs.recent_sessions} sessions / the {first.inputs.earlier_sessions} before; "
        "past above: share of past windows with a larger ratio; scored: scored one-step forecasts of the last year; "
        "in range: share of their closes inside the range"
    )
    reasons = [line(f"{one.ticker}: {reason}") for one in overview.reports for reason in one.reasons]
    return Group(line(f"model {first.model_id}"), table, line(legend), *reasons, *notes(unjudged))


def retrain_table(answer: RetrainAnswer) -> RenderableType:
    """The drift status, and the challenger's job if there is one."""
    status = line(f"status: {'; '.join([answer.status, *answer.reasons])}")
    return Group(status, line("nothing was trained") if answer.job is None else job_table(answer.job))


def evaluations_table(page: EvaluationPage) -> RenderableType:
    """Every evaluation with its outcome and scores."""
    if not page.evaluations:
        return line("no challenger has been evaluated for this alias; see `retrain`, and `train --promote-to`")
    return Group(*[part for one in page.evaluations for part in _evaluation(one)], *more(page.next_after))


def _accuracy(steps: Sequence[RealisedAccuracy]) -> Iterator[RenderableType]:
    one = steps[0]
    first, last = min(step.first_session for step in steps), max(step.last_session for step in steps)
    yield line(f"{one.ticker}, {one.model} model {one.model_id}, sessions {first} to {last}")
    yield _errors(steps)
    yield _coverage(steps)


def _errors(steps: Sequence[RealisedAccuracy]) -> Table:
    table = columns("step", "n", "MAPE", "no change", "skill", "p-value", "CRPS", "no change", "skill", "p-value")
    for found in steps:
        one = found.report
        mape = (f"{one.model.mape:.3%}", f"{one.persistence.mape:.3%}", format_skill(one.skill.mape))
        crps = (_price(one.model.crps), _price(one.persistence.crps), format_skill(one.skill.crps))
        p_mape, p_crps = (UNKNOWN if p is None else format_p(p) for p in (one.p_value.mape, one.p_value.crps))
        table.add_row(str(one.step), str(one.n_origins), *mape, p_mape, *crps, p_crps)
    return table


def _price(value: float | None) -> str:
    return UNKNOWN if value is None else price(value)


def _coverage(steps: Sequence[RealisedAccuracy]) -> Table:
    levels = sorted({interval.level for one in steps for interval in one.report.coverage})
    table = columns("step", *[f"in {level:.0%} range" for level in levels])
    for one in steps:
        coverage = {interval.level: f"{interval.empirical_coverage:.1%}" for interval in one.report.coverage}
        table.add_row(str(one.report.step), *[coverage.get(level, "") for level in levels])
    return table


def _drift_row(one: DriftReport) -> list[str]:
    return [
        one.ticker,
        one.status,
        str(one.as_of),
        f"{one.inputs.ratio:.2f} times",
        f"{one.inputs.upper_tail_probability:.1%}",
        "none" if one.errors is None else str(one.errors.n_origins),
        "" if one.errors is None else f"{one.errors.empirical_coverage:.1%} of {one.errors.level:.0%}",
    ]


def _evaluation(one: ChallengerEvaluation) -> Iterator[RenderableType]:
    outcome = "won" if one.won else "lost"
    yield line(f"{one.at:%Y-%m-%d} {one.challenger_id} {outcome}: {one.reason}")
    if one.n_origins:
        whose = one.tickers[0] if len(one.tickers) == 1 else f"{len(one.tickers)} tickers"
        table = columns(f"CRPS of {whose}'s log return, {one.n_origins} origins", "score")
        for name, score in (
            (f"challenger {one.challenger_id}", one.challenger_score),
            (f"champion {one.champion_id}", one.champion_score),
            ("no change", one.persistence_score),
        ):
            table.add_row(name, "" if score is None else f"{score:.5f}")
        yield table
    yield from notes(one.warnings)
