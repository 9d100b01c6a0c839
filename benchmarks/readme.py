"""The table of the README: the bundled model on four shares, on sessions after its training, as its card has it.

.venv/bin/python -m benchmarks.readme

``make default-model`` measures it. The standard error of a coverage is that of independent forecasts at the first step;
farther ahead forecasts overlap, and count as one in as many as the step has sessions.
"""

from collections.abc import Callable
from math import sqrt

from bootstrap import bundled_model
from config import Settings
from schemas.accuracy import StepReport
from schemas.card import HeldOut
from services.storage.registry import ModelRegistry
from services.storage.store import LocalArtifactStore

FAR = 20
LEVEL = 0.8


def main() -> None:
    """Print the table."""
    print("\n".join(rows()))


def rows() -> list[str]:
    """The README's table, header included."""
    settings = Settings(_env_file=None)
    store = LocalArtifactStore(settings.data_dir / "unused")  # without models: ``default`` is the bundled one
    shares = ModelRegistry(store, bundled_model(settings)).card("default").held_out
    return [
        _row("", shares, lambda one: one.ticker),
        _row("---", shares, lambda _: "---"),
        _row("Average error (MAPE), model against no change", shares, _error),
        _row("CRPS, against the returns of the last 250 sessions", shares, _distribution),
        _row("Closes inside the 80% range, one session ahead", shares, lambda one: _coverage(one.test, 1)),
        _row(f"The same, {FAR} sessions ahead", shares, lambda one: _coverage(one.test, FAR)),
    ]


def _row(title: str, shares: tuple[HeldOut, ...], cell: Callable[[HeldOut], str]) -> str:
    return f"| {' | '.join([title, *map(cell, shares)])} |"


def _error(share: HeldOut) -> str:
    first = share.test[0]
    return f"{first.model.mape:.3%} against {first.persistence.mape:.3%} ({_p(first.p_value.mape)})"


def _distribution(share: HeldOut) -> str:
    direction = "lower" if share.crps_skill > 0 else "higher"
    return f"{abs(share.crps_skill):.1%} {direction} ({_p(share.crps_skill_p_value)})"


def _coverage(reports: tuple[StepReport, ...], step: int) -> str:
    (report,) = [one for one in reports if one.step == step]
    (found,) = [one for one in report.coverage if one.level == LEVEL]
    error = sqrt(LEVEL * (1 - LEVEL) * step / found.n_origins)
    return f"{found.empirical_coverage:.1%} ± {100 * error:.1f}"


def _p(value: float | None) -> str:
    if value is None:
        return "no p-value"
    return "p < 0.001" if value < 0.001 else f"p = {value:.2f}"


if __name__ == "__main__":
    main()
