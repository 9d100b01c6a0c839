"""Options that several commands share."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

OF_TICKER = "ticker/"  # the API's prefix of the aliases of tickers
_TICKER = re.compile(r"\^?[A-Z0-9][A-Z0-9._=&-]{0,22}")  # the API's pattern; the command line loads no server code
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
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Id or alias of a stored model; by default the ticker's own model, else `default`.",
        show_default=False,
    ),
]
ModelId = Annotated[str, typer.Argument(help="Id or alias of a stored model.")]
Alias = Annotated[str, typer.Argument(help="A name for a model, such as default, best or ticker/PETR4.SA.")]
JobId = Annotated[str, typer.Argument(help="Id of a job.")]
Levels = Annotated[
    list[float] | None,
    typer.Option("--level", "-l", help="Coverage level of a range, such as 0.8; may be given several times."),
]
Start = Annotated[str | None, typer.Option(help="First session, YYYY-MM-DD.")]
End = Annotated[str | None, typer.Option(help="Last session, YYYY-MM-DD.")]
AsOf = Annotated[str | None, typer.Option(help="Forecast as of this past session, YYYY-MM-DD.")]
Form = Annotated[
    bool | None,
    typer.Option("--json/--csv", help="Print the API's answer as JSON, or its table as CSV.", show_default=False),
]
"""What an answer is printed as: ``JSON``, ``CSV`` or, by default, tables. One switch, because there is one output."""
JSON, CSV = True, False
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


def model_or_own(model: str | None, ticker: str | None) -> str:
    """The model that was named; else the alias of the ticker's own model, which the API reads as `default` if unset.

    >>> model_or_own(None, "petr4.sa"), model_or_own("best", "PETR4.SA"), model_or_own(None, None)
    ('ticker/PETR4.SA', 'best', 'default')
    """
    own = (ticker or "").strip().upper()
    if model is None and _TICKER.fullmatch(own):
        return f"{OF_TICKER}{own}"
    return model or "default"  # of no ticker, the API's error names the ticker
