"""The tables of the comparison, as Markdown."""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.peers.methods import METHODS, REFERENCE, UNIVERSAL
from benchmarks.peers.scores import STEPS, Accuracy
from benchmarks.peers.task import Task
from benchmarks.universe_scores import Estimate

NOT_OFFERED = "–"


def report(task: Task, figures: Mapping[str, Accuracy], costs: Mapping[str, Mapping[str, float]]) -> str:
    """All tables, each with its title."""
    n_forecasts = sum(task.rows(past).size for past in task.tested)
    tickers = ", ".join(past.ticker for past in task.tested)
    about = (
        f"{len(task.tested)} tickers ({tickers}), {task.origins.size} dates from {task.origins[0]} to "
        f"{task.origins[-1]}, {n_forecasts} forecasts per method and step"
    )
    steps = [f"{step} session{'s' if step > 1 else ''}" for step in STEPS]
    return "\n\n".join(
        [
            about,
            _table("CRPS skill, % ± standard error", ["method", *steps], _skills(figures)),
            _table("Ours as served minus the method, points [95% interval]", ["method", *steps], _behind(figures)),
            _table("Outcomes inside the 80% / 95% interval, %", ["method", *steps], _coverages(figures)),
            _table("Mean absolute error of the point / no change", ["method", *steps], _errors(figures)),
            _table(
                "Costs, processor time on one thread",
                ["method", "fit", "for", "forecast", "first answer", "memory"],
                _costs(costs, len(task.tested)),
            ),
        ]
    )


def _skills(figures: Mapping[str, Accuracy]) -> Iterator[Sequence[str]]:
    for name, one in figures.items():
        if name != REFERENCE:
            yield _line(name, [f"{found.value:.2f} ± {found.error:.2f}" for found in one.skill])


def _behind(figures: Mapping[str, Accuracy]) -> Iterator[Sequence[str]]:
    for name, one in figures.items():
        if name not in (REFERENCE, UNIVERSAL):
            yield _line(name, [_with_interval(found) for found in one.behind_ours])


def _coverages(figures: Mapping[str, Accuracy]) -> Iterator[Sequence[str]]:
    for name, one in figures.items():
        if METHODS[name].has_width:
            yield _line(name, [" / ".join(f"{level.value:.1f}" for level in found) for found in one.coverage])


def _errors(figures: Mapping[str, Accuracy]) -> Iterator[Sequence[str]]:
    for name, one in figures.items():
        yield _line(name, [f"{found.value:.3f} ± {found.error:.3f}" for found in one.mae_ratio])


def _costs(costs: Mapping[str, Mapping[str, float]], n_tickers: int) -> Iterator[Sequence[str]]:
    for name, cost in costs.items():
        fit, scope = {
            "ticker": (_seconds(cost["fit_s"] / n_tickers), "each ticker"),
            "all": (_seconds(cost["fit_s"]), "all tickers, once"),
            "origin": (NOT_OFFERED, "part of each forecast"),
            "none": (NOT_OFFERED, "the fit above"),
        }[METHODS[name].scope]
        yield (
            METHODS[name].title,
            fit,
            scope,
            _seconds(cost["answer_s"]),
            _seconds(cost["first_answer_s"]),
            f"{cost['answer_peak_mb']:,.0f} MB",
        )


def _line(name: str, cells: Sequence[str]) -> Sequence[str]:
    offered = METHODS[name].steps
    return METHODS[name].title, *(
        cell if step <= offered else NOT_OFFERED for step, cell in zip(STEPS, cells, strict=True)
    )


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.{1 if seconds < 0.01 else 0}f} ms"
    return f"{seconds:.{1 if seconds < 100 else 0}f} s"


def _with_interval(found: Estimate) -> str:
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _table(title: str, head: Sequence[str], lines: Iterator[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join([f"### {title}", "", *(f"| {' | '.join(line)} |" for line in (head, rule, *lines))])
