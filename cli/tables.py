"""Tables of prices, forecasts, models and jobs; the no-change forecast is next to every price."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.layout import columns, counted, fact_sheet, format_p, format_skill, line, more, notes, p_cell, price
from cli.progress import description, has_epochs
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
    table = columns("session", "open", "high", "low", "close", "volume")
    for bar in answer.data:
        prices = [price(value) for value in (bar.Open, bar.High, bar.Low, bar.Close)]
        table.add_row(str(bar.Date), *prices, f"{bar.Volume:,.0f}")
    head = f"{answer.ticker} ({answer.currency or 'currency unknown'}), source {answer.source}"
    stale = [f"prices end on {answer.as_of}; newer ones are not available"] if answer.stale else []
    dropped = [f"{count} rows left out or repaired: {reason}" for reason, count in answer.dropped.items()]
    return Group(line(head), table, *notes([*stale, *dropped]))


def prediction_table(answer: PredictResponse) -> RenderableType:
    table = _price_columns(answer.intervals)
    prices = (price(answer.prediction[0]), price(answer.persistence))
    table.add_row(str(answer.target_session), *prices, *_bounds(answer.intervals))
    return Group(_origin(answer), table, *_sentences(answer), *notes(answer.warnings))


def forecast_table(answer: ForecastResponse) -> RenderableType:
    table = forecast_table_of_steps(answer.forecast)
    return Group(_origin(answer), table, *_sentences(answer), *notes(answer.warnings))


def forecast_table_of_steps(steps: Sequence[Step]) -> Table:
    """A row for each step, with the no-change forecast and the ranges."""
    table = _price_columns(steps[0].intervals)
    for step in steps:
        table.add_row(str(step.session), price(step.price), price(step.persistence), *_bounds(step.intervals))
    return table


def backtest_table(answer: BacktestResponse) -> RenderableType:
    """The scores of the model and of every baseline, with a summary of the model's."""
    head = (
        f"{answer.ticker}, {answer.model} model {answer.model_id}: {answer.n_origins} origins from "
        f"{answer.first_origin} to {answer.last_origin}, stride {answer.stride}, horizon {answer.horizon}, "
        f"source {answer.source}"
    )
    levels = [f"in {level:.0%} range" for level in answer.levels]
    skills = ("skill", "p-value", "MAPE", "RMSE", "CRPS", "vs empirical", "p-value")
    table = columns("", "MAE", *skills, "direction", *levels)
    for one in (answer.model_report, *answer.baselines):
        table.add_row(*_scores(one))
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
    scores = ("origins", "test MAPE", "no change", "skill (MAE)", "p-value")
    table = columns("model", "kind", "tickers", "sessions", *scores)
    for one in page.models:
        table.add_row(
            one.id,
            one.model,
            _subject(one.tickers, one.universe),
            f"{one.first_session} to {one.last_session}",
            f"{one.test.n_origins:,}",
            f"{one.test.model.mape:.3%}",
            f"{one.test.persistence.mape:.3%}",
            format_skill(one.test.skill.mae),
            p_cell(one.test.p_value.mae),
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
            sessions = f"{data.n_sessions} sessions, {data.first_session} to {data.last_session}, {data.source}"
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
    return Group(fact_sheet(rows), *evidence, *notes(card.warnings))


def trained_table(result: TrainResult) -> RenderableType:
    test = result.test
    table = columns(f"{_ahead(test)}, {counted(test.n_origins, 'test origin')}", "MAE", "MAPE", "RMSE", "CRPS")
    for name, scores in (("model", test.model), ("no change", test.persistence)):
        table.add_row(name, price(scores.mae), f"{scores.mape:.3%}", price(scores.rmse), price(scores.crps))
    for name, by_measure, formatted in (("skill", test.skill, format_skill), ("p-value", test.p_value, p_cell)):
        figures = (by_measure.mae, by_measure.mape, by_measure.rmse, by_measure.crps)
        table.add_row(name, *map(formatted, figures))
    tickers = _subject(result.tickers, result.universe)
    head = f"model {result.id} of {tickers}, prices to {result.as_of} from {result.source}"
    evaluation = [] if result.evaluation is None else [line(_outcome(result.evaluation))]
    return Group(line(head), table, line(_coverage(test.coverage)), *evaluation, *notes(result.warnings))


def alias_table(answer: AliasList) -> RenderableType:
    if not answer.aliases:
        return line("no alias was ever moved; `default` is the bundled model")
    table = columns("alias", "model", "before", "moved")
    for one in answer.aliases:
        table.add_row(one.alias, one.model_id, one.previous_model_id or "", f"{one.moved_at:%Y-%m-%d %H:%M}")
    return table


def jobs_table(page: JobPage) -> RenderableType:
    unreadable = [f"job {job_id} is damaged; the server's log has the reason" for job_id in page.unreadable]
    if not page.jobs:
        nothing = [] if unreadable else [line("no jobs; `train` starts one")]
        return Group(*nothing, *notes(unreadable), *more(page.next_after))
    table = columns("job", "state", "epochs", "tickers", "kind", "created", "model")
    for job in page.jobs:
        epochs = "" if job.progress is None or not has_epochs(job) else _epochs(job)
        model_id = job.model_id if job.state == "succeeded" or job.kind == "backtest" else ""
        created = f"{job.created_at:%Y-%m-%d %H:%M}"
        table.add_row(job.id, job.state, epochs, _tickers(job), _kind(job), created, model_id)
    return Group(table, *notes(unreadable), *more(page.next_after))


def job_table(job: Job) -> RenderableType:
    cancelling = job.cancel_requested and not job.ended_at
    rows = [
        ("job", job.id),
        ("state", f"{job.state}, cancelling" if cancelling else job.state),
        (job.kind, f"{job.model_id if job.kind == 'backtest' else _kind(job)} of {_tickers(job)}"),
    ]
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
        rows.append(("error", str(line(f"{job.error.code}: {job.error.detail}"))))
    facts = fact_sheet(rows)
    if isinstance(job.result, BacktestResponse):
        return Group(facts, backtest_table(job.result))
    return facts if job.result is None else Group(facts, trained_table(job.result))


def _price_columns(intervals: Sequence[Interval]) -> Table:
    return columns("session", "price", "no change", *[f"{one.level:.0%} range" for one in intervals])


def _bounds(intervals: Iterable[Interval]) -> list[str]:
    return [f"{price(one.lower)} – {price(one.upper)}" for one in intervals]


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
    shares = ", ".join(f"{one.empirical_coverage:.1%} of closes in the {one.level:.0%} range" for one in coverage)
    return f"Coverage: {shares}"


def _outcome(evaluation: ChallengerEvaluation) -> str:
    if evaluation.won:
        return f"it takes the alias {evaluation.alias}: {evaluation.reason}"
    more = f"see `models evaluations {evaluation.alias}`"
    return f"it does not take the alias {evaluation.alias}: {evaluation.reason}; {more}"


def _scores(one: ForecasterReport) -> list[str]:
    scores, skill, p_value = one.overall.model, one.overall.skill, one.overall.p_value
    return [
        one.name,
        price(scores.mae),
        format_skill(skill.mae),
        p_cell(p_value.mae),
        f"{scores.mape:.3%}",
        price(scores.rmse),
        price(scores.crps),
        format_skill(skill.crps_vs_rolling_empirical),
        p_cell(p_value.crps_vs_rolling_empirical),
        "" if scores.hit_rate is None else f"{scores.hit_rate:.1%}",
        *[f"{interval.empirical_coverage:.1%}" for interval in one.overall.coverage],
    ]


def _compared(skill: float | None, p_value: float | None) -> str:
    if skill is None:
        return "The no-change forecast makes no error, so the model has no skill to report."
    relation = "below" if skill > 0 else "above"
    return f"Mean absolute error: {abs(skill):.2%} {relation} that of the no-change forecast{_chance(p_value)}."


def _chance(p_value: float | None) -> str:
    if p_value is None:
        return ""
    return f" ({format_p(p_value)}, {'' if p_value < SIGNIFICANT else 'not '}significant)"
