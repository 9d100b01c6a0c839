"""The progress of a job: a bar, with the loss and the time left of a training, on standard error."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from stock_forecast_client.models import Job, Run, TrainRequest


class _Bar:
    """Draws nothing if standard error is not a terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("waiting", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()


class TickersBar(_Bar):
    """Shows the ticker in work, and the waits between."""

    def ticker(self, ticker: str, done: int, count: int) -> None:
        self._progress.update(self._task, description=ticker, total=float(count), completed=float(done))

    def waiting(self, wait_s: float) -> None:
        self._progress.update(self._task, description=f"Yahoo limits requests: waiting {wait_s:.0f} s")


class TrainingBar(_Bar):
    """Shows the job that it is called with."""

    def __call__(self, job: Job) -> None:
        share = None if job.progress is None or not job.progress.share else job.progress.share
        self._progress.update(
            self._task,
            description=description(job),
            total=None if share is None else 1.0,
            completed=share or 0.0,
        )


class RunBar(_Bar):
    """Shows the run that it is called with."""

    def __call__(self, run: Run) -> None:
        counts = run.counts
        words = f"{counts.succeeded:,} of {run.n_tickers:,} tickers"
        if counts.failed or counts.lost:
            words += f", {counts.failed + counts.lost:,} failed"
        self._progress.update(self._task, description=words, total=1.0, completed=run.share)


def has_epochs(job: Job) -> bool:
    """Whether a network is trained; other models are fitted in one step."""
    return isinstance(job.request, TrainRequest) and job.request.model.endswith("_lstm")


PHASES = {
    "fetch": "fetching prices",
    "prepare": "preparing data",
    "fit": "fitting",
    "calibrate": "calibrating",
    "test": "testing",
    "publish": "storing the model",
    "evaluate": "comparing with the current model",
    "backtest": "forecasting from past sessions",
    "forecast": "forecasting",
}


def description(job: Job) -> str:
    """The state of a job in a few words."""
    progress = job.progress
    if job.state != "running" or progress is None:
        return {"queued": "waiting", "running": "starting"}.get(job.state, job.state)
    if progress.phase != "fit" or not has_epochs(job):
        return PHASES.get(progress.phase, progress.phase)
    if progress.fit > 1:
        words = "fitting once more with the newest prices"
    else:
        words = f"epoch {max(progress.epoch, 1)} of up to {progress.max_epochs}"
        if progress.validation_losses:
            words += f", loss {progress.validation_losses[-1]:.5g}"
    if progress.estimated_end is None:
        return words
    left_s = max(0.0, (progress.estimated_end - progress.at).total_seconds())
    return f"{words}, at most {left_s:.0f} s left"
