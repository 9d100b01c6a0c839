"""What is shown to people: tables with interval and persistence beside every price."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.exits import sanitize
from cli.layout import columns, fact_sheet, format_skill, line, more, notes, price
from cli.progress import has_epochs
from schemas.accuracy import AccuracyReport, Coverage
from schemas.alias import AliasList
from schemas.backtest import BacktestResponse, ForecasterReport
from schemas.card import ModelCard, TrainingReport
from schemas.challenge import ChallengerEvaluation
from schemas.fetch_data import FetchDataResponse
from schemas.job import Job, JobPage
from schemas.models import ModelPage
from schemas.predict import Evidence, ForecastContext, ForecastResponse, Interval, PredictResponse
from schemas.train import TrainResult

SIGNIFICANT = 0.05  # a p-value below is called more than chance


def prices_table(answer: FetchDataResponse) -> RenderableType:
    """Daily prices."""
    table = columns("session", "open", "high", "low", "close", "volume")
    for bar in answer.data:
        prices = [price(value) for value in (bar.Open, bar.High, bar.Low, bar.Close)]
        table.add_row(str(bar.Date), *prices, f"{bar.Volume:,.0f}")
    head = f"{answer.ticker} ({answer.currency or 'currency unknown'}), source {answer.source}"
    stale = ["newer sessions exist and are not available"] if answer.stale else []
    return Group(line(head), table, *notes([*stale, *_dropped(answer.dropped)]))


def prediction_table(answer: PredictResponse) -> RenderableType:
    """The next session."""
    table = _forecast_table(answer.intervals)
    table.add_row(
        str(answer.target_session),
        price(answer.prediction[0]),
        price(answer.persistence),
        *_bounds(answer.intervals),
    )
    return Group(_context(answer), table, *_worth(answer.test), *notes(answer.warnings))


def forecast_table(answer: ForecastResponse) -> RenderableType:
    """The next sessions."""
    table = _forecast_table(answer.forecast[0].intervals)
    for step in answer.forecast:
        table.add_row(str(step.session), price(step.price), price(step.persistence), *_bounds(step.intervals))
    return Group(_context(answer), table, *_worth(answer.test), *notes(answer.warnings))


def backtest_table(answer: BacktestResponse) -> RenderableType:
    """The model beside every baseline, and what that says."""
    head = (
        f"{answer.ticker} by {answer.model} {answer.model_id}: {answer.n_origins} origins from {answer.first_origin} "
        f"to {answer.last_origin}, every {answer.stride}, {answer.horizon} sessions ahead, source {answer.source}"
    )
    levels = [f"{level:.0%} held" for level in answer.levels]
    table = columns("", "MAE", "saved", "p-value", "MAPE", "RMSE", "CRPS", "vs empirical", "direction", *levels)
    for one in (answer.model_report, *answer.baselines):
        table.add_row(*_scores(one))
    return Group(line(head), table, line(verdict(answer)), *notes(answer.warnings))


def verdict(answer: BacktestResponse) -> str:
    """What a backtest says of the model, beside persistence, in sentences."""
    overall = answer.model_report.overall
    skill, p_value = overall.skill, overall.p_value
    held = ", ".join(
        f"{one.coverage:.1%} of the closes in its {one.level:.0%} intervals" for one in overall.scores.intervals
    )
    sentences = [_against_persistence(skill.mae, p_value), f"It had {held}."]
    if skill.crps_vs_rolling_empirical is not None:
        better = "better" if skill.crps_vs_rolling_empirical > 0 else "worse"
        sentences.append(
            f"Its distribution is {abs(skill.crps_vs_rolling_empirical):.1%} {better} (CRPS) than that of the "
            "last 250 sessions' returns."
        )
    return " ".join(sentences)


def model_table(page: ModelPage) -> RenderableType:
    """Stored models, a line each."""
    table = columns("model", "kind", "tickers", "sessions", "test MAPE", "persistence", "saved (MAE)")
    for one in page.models:
        table.add_row(
            one.id,
            one.model,
            ", ".join(one.tickers),
            f"{one.first_session} to {one.last_session}",
            f"{one.test.model.mape:.3%}",
            f"{one.test.persistence.mape:.3%}",
            format_skill(None if one.test.skill is None else one.test.skill.mae),
        )
    unreadable = [f"{one.id} cannot be read: {one.code}" for one in page.unreadable]
    if not page.models and not unreadable:
        return line("no stored models; `models show default` shows the one that comes with the program")
    return Group(table, *more(page.next_after), *notes(unreadable))


def card_table(card: ModelCard) -> RenderableType:
    """A model: what it is, what it was made from, what it is worth."""
    facts = fact_sheet()
    facts.add_row("model", card.model_id)
    facts.add_row("kind", f"{card.model} of {card.target_column}, {card.lookback} sessions back, {card.horizon} ahead")
    facts.add_row("made", f"{card.created_at:%Y-%m-%d %H:%M} UTC, {card.calibration} calibration")
    for one in card.series:
        data = one.data
        facts.add_row(
            one.ticker, f"{data.n_sessions} sessions, {data.first_session} to {data.last_session}, {data.source}"
        )
    facts.add_row("fit", f"{_fit_of(card.training)}, {card.training.seconds} s")
    if card.base_model_id is not None:
        facts.add_row("began from", card.base_model_id)
    coverage = [reached for reached in card.coverage if reached.step == 1]
    return Group(facts, *_accuracy(card.test, coverage), *notes(card.warnings))


def trained_table(result: TrainResult) -> RenderableType:
    """A fresh model, and what it is worth."""
    table = columns("test block", "MAE", "MAPE", "RMSE")
    for name, scores in (("model", result.metrics.test), ("persistence", result.persistence.test)):
        table.add_row(name, price(scores.mae), f"{scores.mape:.3%}", price(scores.rmse))
    if result.skill is not None:
        table.add_row("saved", *map(format_skill, (result.skill.mae, result.skill.mape, result.skill.rmse)))
    head = f"model {result.id} of {', '.join(result.tickers)}, prices to {result.as_of} from {result.source}"
    met = [] if result.contest is None else [line(_outcome(result.contest))]
    return Group(line(head), table, line(_held(result.coverage)), *met, *notes(result.warnings))


def alias_table(answer: AliasList) -> RenderableType:
    """Names and what they stand for."""
    if not answer.aliases:
        return line("no alias was ever moved; `default` stands for the model that comes with the program")
    table = columns("alias", "model", "before", "moved")
    for one in answer.aliases:
        table.add_row(one.alias, one.model_id, one.previous_model_id or "", f"{one.moved_at:%Y-%m-%d %H:%M}")
    return table


def jobs_table(page: JobPage) -> RenderableType:
    """Jobs, a line each."""
    if not page.jobs:
        return line("no jobs; `train` makes one")
    table = columns("job", "state", "epochs", "tickers", "kind", "asked for", "model")
    for job in page.jobs:
        table.add_row(
            job.id,
            job.state,
            _epochs(job),
            ", ".join(job.request.all_tickers),
            job.request.model,
            f"{job.created_at:%Y-%m-%d %H:%M}",
            job.model_id if job.state == "succeeded" else "",
        )
    return Group(table, *more(page.next_after))


def job_table(job: Job) -> RenderableType:
    """A job: its state, its losses, its end."""
    facts = fact_sheet()
    facts.add_row("job", job.id)
    facts.add_row("state", f"{job.state}, to be cancelled" if job.cancel_requested and not job.ended_at else job.state)
    facts.add_row("training", f"{job.request.model} of {', '.join(job.request.all_tickers)}")
    for name, moment in (("asked for", job.created_at), ("begun", job.started_at), ("ended", job.ended_at)):
        if moment is not None:
            facts.add_row(name, f"{moment:%Y-%m-%d %H:%M:%S} UTC")
    if job.progress is not None and job.progress.validation_losses:
        losses = ", ".join(f"{loss:.5g}" for loss in job.progress.validation_losses[-5:])
        facts.add_row("losses", f"{losses} ({job.progress.epoch} of {job.progress.max_epochs} epochs)")
    if job.retry_of is not None:
        facts.add_row("again", job.retry_of)
    if job.error is not None:
        facts.add_row("error", sanitize(f"{job.error.code}: {job.error.detail}"))
    return facts if job.result is None else Group(facts, trained_table(job.result))


def _forecast_table(intervals: Sequence[Interval]) -> Table:
    return columns("session", "price", "persistence", *[f"{one.level:.0%} interval" for one in intervals])


def _bounds(intervals: Iterable[Interval]) -> list[str]:
    return [f"{price(one.lower)} – {price(one.upper)}" for one in intervals]


def _context(answer: ForecastContext) -> Text:
    return line(
        f"{answer.ticker} ({answer.currency or 'currency unknown'}) by {answer.model} {answer.model_id}: last close "
        f"{price(answer.last_close)} on {answer.last_session}, source {answer.source}"
    )


def _epochs(job: Job) -> str:
    if job.progress is None or not has_epochs(job):
        return ""
    return f"{job.progress.epoch} of {job.progress.max_epochs}"


def _fit_of(fit: TrainingReport) -> str:
    if fit.stopped_by == "closed_form":
        return "at one go, without epochs"
    return f"{fit.epochs_run} epochs, best {fit.best_epoch}, ended by {fit.stopped_by}"


def _worth(test: Evidence) -> list[RenderableType]:
    return _accuracy(test.accuracy, [reached for reached in test.coverage if reached.step == 1])


def _accuracy(accuracy: AccuracyReport, coverage: Sequence[Coverage]) -> list[RenderableType]:
    less = "" if accuracy.skill is None else f", {format_skill(accuracy.skill.mae)} saved (MAE)"
    worth = (
        f"one step ahead on {accuracy.n_origins} test sessions: MAPE {accuracy.model.mape:.3%}, "
        f"persistence {accuracy.persistence.mape:.3%}{less}"
    )
    return [line(worth), *([line(_held(coverage))] if coverage else [])]


def _held(coverage: Sequence[Coverage]) -> str:
    held = ", ".join(f"{one.empirical_coverage:.1%} of closes in {one.level:.0%}" for one in coverage)
    return f"intervals held {held}"


def _outcome(contest: ChallengerEvaluation) -> str:
    if contest.won:
        return f"it takes the alias {contest.alias}: {contest.reason}"
    return f"it does not take the alias {contest.alias}: {contest.reason}; see `models contests {contest.alias}`"


def _scores(one: ForecasterReport) -> list[str]:
    scores, skill = one.overall.scores, one.overall.skill
    return [
        one.name,
        price(scores.mae),
        format_skill(skill.mae),
        "" if one.overall.p_value is None else f"{one.overall.p_value:.2f}",
        f"{scores.mape:.3%}",
        price(scores.rmse),
        price(scores.crps),
        format_skill(skill.crps_vs_rolling_empirical),
        "" if scores.hit_rate is None else f"{scores.hit_rate:.1%}",
        *[f"{interval.coverage:.1%}" for interval in scores.intervals],
    ]


def _against_persistence(saved: float | None, p_value: float | None) -> str:
    if saved is None:
        return "Beside persistence nothing can be said: it makes no error."
    more_or_less = "less" if saved > 0 else "more"
    by_chance = (
        "" if p_value is None else f" (p = {p_value:.2f}: {'more' if p_value < SIGNIFICANT else 'no more'} than chance)"
    )
    return f"The model errs {abs(saved):.2%} {more_or_less} than persistence{by_chance}."


def _dropped(dropped: dict[str, int]) -> list[str]:
    return [f"{count} rows left out or mended: {reason}" for reason, count in dropped.items()]
