"""Tables of prices, forecasts, models and jobs; the no-change forecast is next to every price."""

import shlex
from collections.abc import Iterable, Sequence
from datetime import date

from rich.console import Group, RenderableType
from rich.text import Text

from cli.layout import (
    Facts,
    band,
    counted,
    figure,
    format_p,
    format_skill,
    level_name,
    line,
    more,
    notes,
    p_cell,
    price,
    share,
    signed_share,
    to_minute,
)
from cli.progress import description, has_epochs
from cli.sheet import Column, Sheet, Value
from cli.webhooks import webhook_rows
from stock_forecast_client.models import (
    AliasList,
    BacktestResponse,
    ChallengerEvaluation,
    Coverage,
    Evidence,
    FetchDataResponse,
    ForecasterReport,
    ForecastResponse,
    Interval,
    IntervalScores,
    Job,
    JobPage,
    ModelCard,
    ModelPage,
    PredictResponse,
    Step,
    StepReport,
    TrainingReport,
    TrainRequest,
    TrainResult,
)

SIGNIFICANT = 0.05


def prices_table(answer: FetchDataResponse) -> RenderableType:
    table = Sheet(
        "prices",
        [
            Column("session"),
            *[Column(name, price, rank=2) for name in ("open", "high", "low")],
            Column("close", price),
            Column("volume", _volume, rank=1),
            Column("ticker", only_csv=True),
        ],
    )
    for bar in answer.data:
        table.add(bar.Date, bar.Open, bar.High, bar.Low, bar.Close, bar.Volume, answer.ticker)
    head = f"{answer.ticker} ({answer.currency or 'currency unknown'}), source {answer.source}"
    stale = [f"prices end on {answer.as_of}; newer ones are not available"] if answer.stale else []
    dropped = [f"{count} rows left out or repaired: {reason}" for reason, count in answer.dropped.items()]
    return Group(line(head), table, *notes([*stale, *dropped]))


def prediction_table(answer: PredictResponse) -> RenderableType:
    table = _forecast_sheet(answer.intervals)
    prices = (answer.prediction[0], answer.persistence)
    table.add(answer.target_session, *prices, *bounds(answer.intervals), answer.ticker, answer.model_id)
    return Group(_origin(answer), table, *_sentences(answer), *notes(answer.warnings))


def forecast_table(answer: ForecastResponse) -> RenderableType:
    table = forecast_table_of_steps(answer.ticker, answer.model_id, answer.forecast)
    return Group(_origin(answer), table, *_sentences(answer), *notes(answer.warnings))


def forecast_table_of_steps(ticker: str, model_id: str, steps: Sequence[Step]) -> Sheet:
    """A row for each step, with the no-change forecast and the ranges."""
    table = _forecast_sheet(steps[0].intervals)
    for step in steps:
        prices = (step.price, step.persistence)
        table.add(step.session, *prices, *bounds(step.intervals), ticker, model_id)
    return table


def range_columns(levels: Iterable[float], rank_of_others: int = 1) -> list[Column]:
    """A column for each range. The first has rank 0, because no price is shown without a range."""
    return [
        Column(
            f"{level_name(level)} range",
            band,
            (f"lower_{level:g}", f"upper_{level:g}"),
            rank=rank_of_others + number - 1 if number else 0,
        )
        for number, level in enumerate(levels)
    ]


def bounds(intervals: Iterable[Interval]) -> list[Value]:
    """The values of ``range_columns``."""
    return [(one.lower, one.upper) for one in intervals]


def backtest_table(answer: BacktestResponse) -> RenderableType:
    """The scores of the model and of every baseline, with a summary of the model's."""
    head = (
        f"{answer.ticker}, {answer.model} model {answer.model_id}: {answer.n_origins} origins from "
        f"{answer.first_origin} to {answer.last_origin}, stride {answer.stride}, horizon {answer.horizon}, "
        f"source {answer.source}"
    )
    table = Sheet(
        "scores",
        [
            Column("forecaster", left=True),
            Column("MAE", figure),
            Column("skill", signed_share, ("skill_mae",)),
            Column("p-value", p_cell, ("p_value_mae",)),
            *coverage_columns(answer.levels),
            Column("CRPS", figure, rank=3),
            Column("vs empirical", signed_share, ("skill_crps_vs_rolling_empirical",), rank=3),
            Column("p-value of CRPS", p_cell, ("p_value_crps_vs_rolling_empirical",), rank=3),
            Column("MAPE", share, rank=4),
            Column("direction", share, ("hit_rate",), rank=5),
            Column("RMSE", figure, rank=6),
            Column("ticker", only_csv=True),
            Column("origins", names=("n_origins",), only_csv=True),
        ],
    )
    for one in (answer.model_report, *answer.baselines):
        table.add(*_scores(one), answer.ticker, one.overall.n_origins)
    return Group(line(head), table, line(backtest_summary(answer)), *notes(answer.warnings))


def backtest_summary(answer: BacktestResponse) -> str:
    overall = answer.model_report.overall
    sentences = [_compared(overall.skill.mae, overall.p_value.mae), f"{_coverage(overall.coverage)}."]
    if (skill := overall.skill.crps_vs_rolling_empirical) is not None:
        better = "better" if skill > 0 else "worse"
        chance = _chance(overall.p_value.crps_vs_rolling_empirical)
        sentences.append(f"CRPS: {abs(skill):.1%} {better} than forecasting the last 250 sessions' returns{chance}.")
    return " ".join(sentences)


def model_table(page: ModelPage) -> RenderableType:
    unreadable = [f"{one.id} cannot be read: {one.code}" for one in page.unreadable]
    if not page.models and not unreadable:
        return line("no stored models; `models show default` shows the bundled one")
    table = Sheet(
        "models",
        [
            Column("model", names=("model_id",), left=True),
            Column("kind", left=True, rank=3),
            Column("tickers", left=True, wraps=True, rank=2),
            Column("sessions", _period, ("first_session", "last_session"), rank=5),
            Column("origins", names=("n_origins",), rank=4),
            Column("test MAPE", share),
            Column("no change", share, ("persistence_mape",), style="no change"),
            Column("skill (MAE)", signed_share, ("skill_mae",), rank=1),
            Column("p-value", p_cell, ("p_value_mae",), rank=1),
        ],
    )
    for one in page.models:
        table.add(
            one.id,
            one.model,
            _subject(one.tickers, one.universe),
            (one.first_session, one.last_session),
            one.test.n_origins,
            one.test.model.mape,
            one.test.persistence.mape,
            one.test.skill.mae,
            one.test.p_value.mae,
        )
    return Group(table, *more(page.next_after), *notes(unreadable))


def card_table(card: ModelCard) -> RenderableType:
    rows = [
        ("model", card.model_id),
        ("kind", f"{card.model} of {card.target_column}, lookback {card.lookback}, horizon {card.horizon}"),
        ("created", f"{card.created_at:%Y-%m-%d %H:%M} UTC, {card.calibration} calibration"),
    ]
    if card.universe is None:
        for one in card.series:
            data = one.data
            sessions = f"{data.n_sessions:,} sessions, {data.first_session} to {data.last_session}, {data.source}"
            rows.append((one.ticker, sessions))
    else:
        first, last = (
            min(one.data.first_session for one in card.series),
            max(one.data.last_session for one in card.series),
        )
        rows.append((f"universe {card.universe}", f"{len(card.series)} tickers, {first} to {last}"))
    rows.append(("fit", f"{_fit(card.training)}, {card.training.seconds} s"))
    if card.base_model_id is not None:
        kept = "; its weights were kept, because training brought no gain" if card.kept_parent else ""
        rows.append(("started from", f"{card.base_model_id}{kept}"))
    shown = card.test if len(card.test) == 1 else (card.test[0], card.test[-1])
    tickers = _subject([one.ticker for one in card.series], card.universe)
    evidence = [part for report in shown for part in _evidence(report, tickers)]
    return Group(Facts(rows), *evidence, *notes(card.warnings))


def trained_table(result: TrainResult) -> RenderableType:
    test = result.test
    table = Sheet(
        "test scores",
        [
            Column(f"{_ahead(test)}, {counted(test.n_origins, 'test origin')}", left=True),
            *[Column(name, str, rank=rank) for rank, name in enumerate(("MAE", "CRPS", "MAPE", "RMSE"))],
        ],
    )
    for name, scores in (("model", test.model), ("no change", test.persistence)):
        table.add(name, figure(scores.mae), figure(scores.crps), share(scores.mape), figure(scores.rmse))
    for name, by_measure, formatted in (("skill", test.skill, signed_share), ("p-value", test.p_value, p_cell)):
        table.add(name, *map(formatted, (by_measure.mae, by_measure.crps, by_measure.mape, by_measure.rmse)))
    tickers = _subject(result.tickers, result.universe)
    head = f"model {result.id} of {tickers}, prices to {result.as_of} from {result.source}"
    evaluation = [] if result.evaluation is None else [line(_outcome(result.evaluation))]
    return Group(line(head), table, line(_coverage(test.coverage)), *evaluation, *notes(result.warnings))


def alias_table(answer: AliasList) -> RenderableType:
    if not answer.aliases:
        return line("no alias was ever moved; `default` is the bundled model")
    table = Sheet(
        "aliases",
        [
            Column("alias", left=True),
            Column("model", names=("model_id",), left=True),
            Column("before", names=("previous_model_id",), left=True, rank=2),
            Column("moved (UTC)", to_minute, ("moved_at",), rank=1),
        ],
    )
    for one in answer.aliases:
        table.add(one.alias, one.model_id, one.previous_model_id, one.moved_at)
    return table


def jobs_table(page: JobPage) -> RenderableType:
    unreadable = [f"job {job_id} is damaged; the server's log has the reason" for job_id in page.unreadable]
    if not page.jobs:
        nothing = [] if unreadable else [line("no jobs; `train` starts one")]
        return Group(*nothing, *notes(unreadable), *more(page.next_after))
    table = Sheet(
        "jobs",
        [
            Column("job", names=("job_id",), left=True),
            Column("state", left=True),
            Column("epochs", rank=4),
            Column("tickers", left=True, wraps=True, rank=1),
            Column("kind", left=True, rank=3),
            Column("created (UTC)", to_minute, ("created_at",), rank=5),
            Column("model", names=("model_id",), left=True, rank=2),
        ],
    )
    for job in page.jobs:
        epochs = None if job.progress is None or not has_epochs(job) else _epochs(job)
        model_id = job.model_id if job.state == "succeeded" or job.kind == "backtest" else None
        table.add(job.id, job.state, epochs, _tickers(job), _kind(job), job.created_at, model_id)
    return Group(table, *notes(unreadable), *more(page.next_after))


def job_table(job: Job) -> RenderableType:
    cancelling = job.cancel_requested and not job.ended_at
    rows = [
        ("job", job.id),
        ("state", f"{job.state}, cancelling" if cancelling else job.state),
        (job.kind, f"{job.model_id if job.kind == 'backtest' else _kind(job)} of {_tickers(job)}"),
    ]
    if isinstance(job.request, TrainRequest) and job.request.alias is not None:
        rows.append(("alias", job.request.alias))
    if job.state == "running":
        rows.append(("progress", description(job)))
    for name, moment in (("created", job.created_at), ("started", job.started_at), ("ended", job.ended_at)):
        if moment is not None:
            rows.append((name, f"{moment:%Y-%m-%d %H:%M:%S} UTC"))
    if job.progress is not None and job.progress.validation_losses:
        losses = ", ".join(f"{loss:.5g}" for loss in job.progress.validation_losses[-5:])
        rows.append(("losses", f"{losses} ({_epochs(job)} epochs)"))
    if job.retry_of is not None:
        rows.append(("retry of", job.retry_of))
    if job.error is not None:
        rows.append(("error", f"{job.error.code}: {job.error.detail}"))
    rows += webhook_rows(job.webhook)
    facts = Facts(rows)
    if isinstance(job.result, BacktestResponse):
        return Group(facts, backtest_table(job.result))
    return facts if job.result is None else Group(facts, trained_table(job.result))


def _forecast_sheet(intervals: Sequence[Interval]) -> Sheet:
    return Sheet(
        "forecasts",
        [
            Column("session"),
            Column("price", price, style="forecast"),
            Column("no change", price, ("persistence",), style="no change"),
            *range_columns(one.level for one in intervals),
            Column("ticker", only_csv=True),
            Column("model", names=("model_id",), only_csv=True),
        ],
    )


def _volume(volume: float) -> str:
    return f"{volume:,.0f}"


def _origin(answer: PredictResponse | ForecastResponse) -> Text:
    return line(
        f"{answer.ticker} ({answer.currency or 'currency unknown'}), {answer.model} model {answer.model_id}: last "
        f"close {price(answer.last_close)} on {answer.last_session}, source {answer.source}"
    )


def _sentences(answer: PredictResponse | ForecastResponse) -> list[RenderableType]:
    return [line(answer.explanation.sentence), *_evidence(answer.test, _tested(answer.test))]


def _kind(job: Job) -> str:
    """The kind of model that is trained, or that the job is a backtest."""
    return job.request.model if isinstance(job.request, TrainRequest) else job.kind


def _tickers(job: Job) -> str:
    if not isinstance(job.request, TrainRequest):
        return job.request.ticker or ""
    if job.request.universe is not None:
        return f"universe {job.request.universe}"
    return ", ".join(job.request.tickers) or str(job.request.ticker)


def _epochs(job: Job) -> str:
    return "" if job.progress is None else f"{job.progress.epoch} of {job.progress.max_epochs}"


def _fit(fit: TrainingReport) -> str:
    if fit.stopped_by == "closed_form":
        return "in one step, without epochs"
    return f"{fit.epochs_run} epochs, best {fit.best_epoch}, ended by {fit.stopped_by}"


def _evidence(test: Evidence | StepReport, tickers: str) -> list[RenderableType]:
    chance = "" if test.p_value.mae is None else f", {format_p(test.p_value.mae)}"
    skill = "" if test.skill.mae is None else f", skill {format_skill(test.skill.mae)} (MAE{chance})"
    scores = (
        f"{_ahead(test)}, on {counted(test.n_origins, 'test origin')} of {tickers}: "
        f"MAPE {test.model.mape:.3%}, no change {test.persistence.mape:.3%}{skill}"
    )
    return [line(scores), *([line(_coverage(test.coverage))] if test.coverage else [])]


def _tested(test: Evidence) -> str:
    return _subject(test.tickers, test.universe)


def _subject(tickers: Sequence[str], universe: str | None) -> str:
    return ", ".join(tickers) if universe is None else f"all tickers of universe {universe}"


def _ahead(report: Evidence | StepReport) -> str:
    return "all steps" if report.step is None else f"{counted(report.step, 'session')} ahead"


def _coverage(coverage: Iterable[Coverage | IntervalScores]) -> str:
    shares = ", ".join(
        f"{one.empirical_coverage:.1%} of closes in the {level_name(one.level)} range" for one in coverage
    )
    return f"Coverage: {shares}"


def _outcome(evaluation: ChallengerEvaluation) -> str:
    if evaluation.won:
        return f"it takes the alias {evaluation.alias}: {evaluation.reason}"
    command = f"models evaluations {shlex.quote(evaluation.alias)}"
    return f"it does not take the alias {evaluation.alias}: {evaluation.reason}; see `{command}`"


def _scores(one: ForecasterReport) -> list[Value]:
    scores, skill, p_value = one.overall.model, one.overall.skill, one.overall.p_value
    return [
        one.name,
        scores.mae,
        skill.mae,
        p_value.mae,
        *[interval.empirical_coverage for interval in one.overall.coverage],
        scores.crps,
        skill.crps_vs_rolling_empirical,
        p_value.crps_vs_rolling_empirical,
        scores.mape,
        scores.hit_rate,
        scores.rmse,
    ]


def coverage_columns(levels: Iterable[float], rank: int = 1) -> list[Column]:
    """The share of closes in each range. The first is left out last."""
    return [
        Column(f"in {level_name(level)} range", share, (f"coverage_{level:g}",), rank=rank + number)
        for number, level in enumerate(levels)
    ]


def _period(ends: tuple[date, date]) -> str:
    return f"{ends[0]} to {ends[1]}"


def _compared(skill: float | None, p_value: float | None) -> str:
    if skill is None:
        return "The no-change forecast makes no error, so the model has no skill to report."
    relation = "below" if skill > 0 else "above"
    return f"Mean absolute error: {abs(skill):.2%} {relation} that of the no-change forecast{_chance(p_value)}."


def _chance(p_value: float | None) -> str:
    if p_value is None:
        return ""
    return f" ({format_p(p_value)}, {'' if p_value < SIGNIFICANT else 'not '}significant)"
