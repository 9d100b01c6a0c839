"""The report in Portuguese has no English left, and its catalogue has nothing needless."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from schemas.analysis import AnalysisRequest
from services.analysis.page import html
from services.analysis.report import analysis_of, analysis_page, history_to_analyse
from services.language.messages import read_catalogue
from services.prices.sample import SampleSource
from services.prices.series import PriceHistory
from tests.fakes import FakePriceSource

FOLDER = Path(html.__file__).parent
NOW = datetime(2019, 1, 2, 12, tzinfo=UTC)
NAMES = {"Jarque–Bera", "Ljung–Box", "ADF", "KPSS", "^GSPC", "USD", "p"}
UNTRANSLATED = re.compile(r"[\d.,%e+×/:;()≥≤<>= –−-]*|\d{4}(-\d\d-\d\d)?.*%")


def with_defects() -> PriceHistory:
    """Two years of the sample with missing sessions, a split and gaps, so that the report has every part."""
    history = SampleSource().history("^GSPC", NOW).tail(500)
    kept = np.ones(len(history.series), dtype=bool)
    kept[100:104] = False
    series = history.series.where(kept)
    bars = series.bars.copy()
    bars[:200] *= 2.0
    bars[300, 0] *= 1.2
    bars[300, 1] = max(bars[300, 1], bars[300, 0])
    return replace(history, series=replace(series, bars=bars), stale=True)


@pytest.fixture(scope="module")
def english() -> str:
    prices = FakePriceSource(with_defects())
    return html.render(analysis_of(history_to_analyse("^GSPC", AnalysisRequest(), prices, NOW)))


def texts(page: str) -> list[str]:
    body = page.partition("</style>")[2]
    found = [*re.findall(r">([^<>]+)<", body), *re.findall(r'aria-label="([^"]*)"', body)]
    return [text for text in (" ".join(unescape(one).split()) for one in found) if text]


def test_no_text_stays_in_english(english: str) -> None:
    portuguese = html.in_language(english, "pt-BR")

    pairs = list(zip(texts(english), texts(portuguese), strict=True))
    assert len(pairs) > 300
    same = {one for one, other in pairs if one == other and not UNTRANSLATED.fullmatch(one)}
    assert same <= NAMES
    assert '<html lang="pt-BR">' in portuguese
    assert re.sub(r">[^<]*<|aria-label=\"[^\"]*\"", "", portuguese.partition("</style>")[2]) == re.sub(
        r">[^<]*<|aria-label=\"[^\"]*\"", "", english.partition("</style>")[2]
    )


def test_texts_with_marks_of_html_stay_escaped(english: str) -> None:
    hostile = english.replace("Price and returns", "Price &lt;b&gt; &amp; returns")

    assert "Price &lt;b&gt; &amp; returns" in html.in_language(hostile, "pt-BR")


def test_nothing_in_the_catalogue_is_needless() -> None:
    files = [FOLDER / "page.html.j2", FOLDER / "charts.py", *FOLDER.parent.glob("*.py")]
    said = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in files)
    said = re.sub(r"\{\{.*?\}\}|\{[^{}%]*\}", "{}", said) + " Mon Tue Wed Thu Fri Sat Sun close-to-close garman-klass"
    said += " Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec ADF, trend KPSS, trend log closes squared returns not yet"

    def is_said(key: str) -> bool:
        return all(part.strip(" ,;:") in said for part in key.split("{}"))

    assert [key for key in read_catalogue(FOLDER / "pt-BR.json") if not is_said(key)] == []


def test_the_page_is_written_in_the_language_of_the_request() -> None:
    request = AnalysisRequest(lang="pt-BR", start=date(2017, 1, 1), end=date(2017, 12, 31))

    page = analysis_page("^GSPC", request, SampleSource(), NOW)

    assert "É possível prever?" in page
