"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def _plot_file(path: Path | None) -> Path | None:
    """Reject a file that could not be written, before minutes of work."""
    if path is None:
        return None
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise typer.BadParameter(f"expected a name that ends in {', '.join(PLOT_SUFFIXES)}, found {path.name!r}")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"folder {path.parent} does not exist")
    return path


Ticker = Annotated[str, typer.Argument(help="Symbol as on Yahoo Finance, such as PETR4.SA or '^GSPC'.")]
OptionalTicker = Annotated[str | None, typer.Argument(help="By default the model's own ticker.", show_default=False)]
Model = Annotated[str, typer.Option("--model", "-m", help="Id or alias of a stored model.")]
ModelId = Annotated[str, typer.Argument(help="Id or alias of a stored model.")]
Alias = Annotated[str, typer.Argument(help="A name for a model, such as default.")]
JobId = Annotated[str, typer.Argument(help="Id of a job.")]
Levels = Annotated[
    list[float] | None,
    typer.Option("--level", "-l", help="Coverage level of a range, such as 0.8; may be given several times."),
]
Start = Annotated[str | None, typer.Option(help="First session, YYYY-MM-DD.")]
End = Annotated[str | None, typer.Option(help="Last session, YYYY-MM-DD.")]
AsOf = Annotated[str | None, typer.Option(help="Forecast as of this past session, YYYY-MM-DD.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's answer as JSON.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return without waiting for the job; only with --url.")]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", callback=_plot_file, help="Also draw into this file (.png, .svg or .pdf).", dir_okay=False),
]
Limit = Annotated[int, typer.Option(min=1, max=100, help="Number of rows to show.")]
After = Annotated[str | None, typer.Option(help="Show rows after this id.")]


def given(**arguments: object) -> dict[str, Any]:
    """The arguments that were given; the others take the API's defaults."""
    return {name: value for name, value in arguments.items() if value is not None}
