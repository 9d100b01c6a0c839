"""An analysis as one HTML document, rendered by Jinja2 with autoescaping."""

import re
import threading
from functools import cache
from html import escape, unescape
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from schemas.analysis import Analysis
from services.analysis.page.charts import FIGURES
from services.analysis.values import p_text
from services.language import ENGLISH, Language
from services.language.messages import Translator, catalogue, read_catalogue

UNKNOWN = "–"

_TEXT = re.compile(r"(>\s*)([^<>\s][^<>]*?)(\s*<)")
_LABEL = re.compile(r'aria-label="([^"]*)"')

_one_at_a_time = threading.Lock()  # matplotlib is not thread-safe


def render(analysis: Analysis, language: Language = ENGLISH) -> str:
    with _one_at_a_time:
        figures = {name: Markup(draw(analysis)) for name, draw in FIGURES.items()}  # noqa: S704  texts are escaped
    page = _environment().get_template("page.html.j2").render(a=analysis, figures=figures, zip=zip)
    return page if language == ENGLISH else in_language(page, language)


def in_language(page: str, language: Language) -> str:
    """The page with each of its texts, and each description of a figure, in another language."""
    words = _translator(language)
    head, end, body = page.partition("</style>")

    def text(found: re.Match[str]) -> str:
        said = " ".join(unescape(found[2]).split())
        return f"{found[1]}{escape(words(said), quote=False) if said else found[2]}{found[3]}"

    def label(found: re.Match[str]) -> str:
        return f'aria-label="{escape(words(unescape(found[1])))}"'

    head = head.replace('lang="en"', f'lang="{language}"', 1)
    return head + end + _LABEL.sub(label, _TEXT.sub(text, body))


@cache
def _translator(language: Language) -> Translator:
    own = read_catalogue(Path(__file__).with_name(f"{language}.json"))
    return Translator({**catalogue(language), **own})


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
