"""An analysis as one HTML document, rendered by Jinja2 with autoescaping."""

import threading
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from schemas.analysis import Analysis
from services.analysis.page.charts import FIGURES
from services.analysis.values import p_text

UNKNOWN = "–"

_one_at_a_time = threading.Lock()  # matplotlib is not thread-safe


def render(analysis: Analysis) -> str:
    with _one_at_a_time:
        figures = {name: Markup(draw(analysis)) for name, draw in FIGURES.items()}  # noqa: S704  texts are escaped
    return _environment().get_template("page.html.j2").render(a=analysis, figures=figures, zip=zip)


def percent(value: float | None, digits: int = 2) -> str:
    """In percent.

    >>> percent(0.1234), percent(-0.5, 0), percent(None)
    ('12.34 %', '−50 %', '–')
    """
    return UNKNOWN if value is None else f"{value:,.{digits}%}".replace("%", " %").replace("-", "−")


def number(value: float | None, digits: int = 4) -> str:
    """With ``digits`` significant digits.

    >>> number(1234.5678), number(-0.000012), number(None)
    ('1,235', '−1.2e−05', '–')
    """
    return UNKNOWN if value is None else f"{value:,.{digits}g}".replace("-", "−")


def p_value(value: float | None) -> str:
    """``p_text`` without the letter.

    >>> p_value(0.04), p_value(1e-9), p_value(None)
    ('0.04', '< 0.0001', '–')
    """
    return UNKNOWN if value is None else p_text(value).removeprefix("p ").removeprefix("= ")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"percent": percent, "number": number, "p_value": p_value}
    environment.filters.update(filters)
    return environment
