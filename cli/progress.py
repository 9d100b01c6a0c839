"""A training as it goes: a bar with the loss and the time left, on standard error."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from models.specs import BASELINES
from schemas.job import Job


class TrainingBar:
    """Shows a job whenever it is told of it; draws nothing where standard error is no terminal."""

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

    def __call__(self, job: Job) -> None:
        """Show the job as it stands."""
        share = None if job.progress is None or not job.progress.epoch else job.progress.share
        self._progress.update(
            self._task,
            description=described(job),
            total=None if share is None else 1.0,
            completed=share or 0.0,
        )


def has_epochs(job: Job) -> bool:
    """Whether the kind of model is trained in epochs: a baseline is fitted at one go."""
    return job.request.model not in BASELINES


def described(job: Job) -> str:
    """What a bar says of a job in a few words."""
    progress = job.progress
    if progress is None or not progress.validation_losses:
        at_work = "preparing" if has_epochs(job) else "fitting"
        return {"queued": "waiting", "running": at_work}.get(job.state, job.state)
    words = [f"epoch {progress.epoch} of {progress.max_epochs} at most"]
    words.append(f"loss {progress.validation_losses[-1]:.5g}")
    if job.ended_at is None and progress.estimated_end is not None:
        left_s = max(0.0, (progress.estimated_end - progress.at).total_seconds())
        words.append(f"{left_s:.0f} s left at most")
    return ", ".join(words)
