"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def _plot_file(path: Path | None) -> Path | None:
    """Refuse at once what could not be drawn after minutes of work."""
    if path is None:
        return None
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise typer.BadParameter(f"expected a name that ends in {', '.join(PLOT_SUFFIXES)}, found {path.name!r}")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent}")
    return path


OptionalTicker = Annotated[str | None, typer.Argument(help="By default the model's own.", show_default=False)]
Model = Annotated[str, typer.Option("--model", "-m", help="Id of a stored model, or an alias.")]
Levels = Annotated[
    list[float] | None,
    typer.Option("--level", "-l", help="Coverage of an interval, such as 0.8; may be given several times."),
]
Start = Annotated[str | None, typer.Option(help="First session, YYYY-MM-DD.")]
End = Annotated[str | None, typer.Option(help="Last session, YYYY-MM-DD.")]
AsOf = Annotated[str | None, typer.Option(help="Forecast as of this past session, YYYY-MM-DD.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's answer as it is.")]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", callback=_plot_file, help="Draw it into this file (.png, .svg or .pdf).", dir_okay=False),
]
Limit = Annotated[int, typer.Option(min=1, max=100, help="How many to show.")]
After = Annotated[str | None, typer.Option(help="Go on after this id.")]


def given(**arguments: object) -> dict[str, object]:
    """The arguments that were given: the others take the API's own defaults."""
    return {name: value for name, value in arguments.items() if value is not None}
