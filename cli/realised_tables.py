"""Tables of realised accuracy, drift and the evaluations of challengers."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType

from cli.layout import counted, figure, level_name, line, more, notes, p_cell, share, signed_share
from cli.sheet import UNKNOWN, Column, Sheet, Value
from cli.tables import coverage_columns, job_table
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

PAST_ABOVE = "share of past windows with a larger ratio"
SCORED = "scored one-step forecasts of the last year"
IN_RANGE = "share of their closes inside the range"


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
    levels = sorted({interval.level for one in answer.accuracy for interval in one.report.coverage})
    table = Sheet(
        "accuracy",
        [
            Column("ticker", left=True),
            Column("model", names=("model_id",), left=True),
            Column("step"),
            Column("n", names=("n_origins",), rank=2),
            Column("MAPE", share),
            Column("no change", share, ("persistence_mape",), style="no change"),
            Column("skill", signed_share, ("skill_mape",), rank=1),
            Column("p-value", p_cell, ("p_value_mape",), rank=1),
            *coverage_columns(levels, rank=2),
            Column("CRPS", figure, rank=4),
            Column("CRPS of no change", figure, ("persistence_crps",), rank=4, style="no change"),
            Column("CRPS skill", signed_share, ("skill_crps",), rank=4),
            Column("p-value of CRPS", p_cell, ("p_value_crps",), rank=4),
            Column("kind", names=("model",), left=True, rank=5),
            Column("first", names=("first_session",), rank=5),
            Column("last", names=("last_session",), rank=5),
        ],
    )
    for one in answer.accuracy:
        table.add(*_accuracy_row(one, levels))
    return table


def drift_table(overview: DriftOverview) -> RenderableType:
    """The drift status of each ticker, its figures and reasons."""
    if not overview.reports and not overview.unjudged:
        return line("no ticker has scores yet: name one, or see `score`")
    unjudged = [f"{one.ticker} could not be checked: {one.code}: {one.detail}" for one in overview.unjudged]
    if not overview.reports:
        return Group(*notes(unjudged))
    first = overview.reports[0]
    ranges = f"the last {first.inputs.recent_sessions} sessions / the {first.inputs.earlier_sessions} before"
    table = Sheet(
        "drift",
        [
            Column("ticker", left=True),
            Column("status", left=True),
            Column("as of", rank=3),
            Column("ranges", _times, ("ratio",), meaning=ranges),
            Column("past above", share, ("upper_tail_probability",), meaning=PAST_ABOVE),
            Column("scored", names=("n_origins",), rank=1, meaning=SCORED),
            Column("in range", _reached, ("empirical_coverage", "level"), rank=1, meaning=IN_RANGE),
        ],
    )
    for one in overview.reports:
        table.add(*_drift_row(one))
    reasons = [line(f"{one.ticker}: {reason}") for one in overview.reports for reason in one.reasons]
    return Group(line(f"model {first.model_id}"), table, *reasons, *notes(unjudged))


def retrain_table(answer: RetrainAnswer) -> RenderableType:
    """The drift status, and the challenger's job if there is one."""
    status = line(f"status: {'; '.join([answer.status, *answer.reasons])}")
    return Group(status, line("nothing was trained") if answer.job is None else job_table(answer.job))


def evaluations_table(page: EvaluationPage) -> RenderableType:
    """Every evaluation with its outcome and scores."""
    if not page.evaluations:
        return line("no challenger has been evaluated for this alias; see `retrain`, and `train --promote-to`")
    return Group(*[part for one in page.evaluations for part in _evaluation(one)], *more(page.next_after))


def _accuracy_row(one: RealisedAccuracy, levels: Sequence[float]) -> list[Value]:
    found = one.report
    coverage = {interval.level: interval.empirical_coverage for interval in found.coverage}
    return [
        one.ticker,
        one.model_id,
        found.step,
        found.n_origins,
        found.model.mape,
        found.persistence.mape,
        found.skill.mape,
        found.p_value.mape,
        *[coverage.get(level) for level in levels],
        found.model.crps,
        found.persistence.crps,
        found.skill.crps,
        found.p_value.crps,
        one.model,
        one.first_session,
        one.last_session,
    ]


def _drift_row(one: DriftReport) -> list[Value]:
    errors = one.errors
    return [
        one.ticker,
        one.status,
        one.as_of,
        one.inputs.ratio,
        one.inputs.upper_tail_probability,
        None if errors is None else errors.n_origins,
        None if errors is None else (errors.empirical_coverage, errors.level),
    ]


def _times(ratio: float) -> str:
    return f"{figure(ratio)} times"


def _reached(found: tuple[float, float] | None) -> str:
    return UNKNOWN if found is None else f"{share(found[0])} of {level_name(found[1])}"


def _evaluation(one: ChallengerEvaluation) -> Iterator[RenderableType]:
    outcome = "won" if one.won else "lost"
    yield line(f"{one.at:%Y-%m-%d} {one.challenger_id} {outcome}: {one.reason}")
    if one.n_origins:
        whose = one.tickers[0] if len(one.tickers) == 1 else f"{len(one.tickers)} tickers"
        yield line(f"CRPS of {whose}'s log return, {counted(one.n_origins, 'origin')}")
    table = _scores_of(one)
    yield table
    yield from notes(one.warnings)


def _scores_of(one: ChallengerEvaluation) -> Sheet:
    table = Sheet(
        "evaluations",
        [
            Column("forecaster", left=True),
            Column("model", names=("model_id",), left=True),
            Column("score", figure),
            Column("alias", only_csv=True),
            Column("evaluated at", only_csv=True),
            Column("won", only_csv=True),
            Column("origins", names=("n_origins",), only_csv=True),
            Column("p-value", names=("p_value",), only_csv=True),
            Column("reason", only_csv=True),
        ],
    )
    for name, model_id, score in (
        ("challenger", one.challenger_id, one.challenger_score),
        ("champion", one.champion_id, one.champion_score),
        ("no change", None, one.persistence_score),
    ):
        table.add(name, model_id, score, one.alias, one.at, one.won, one.n_origins, one.p_value, one.reason)
    return table
