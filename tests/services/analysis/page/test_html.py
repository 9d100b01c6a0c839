"""The HTML report: opens from a disk, fetches nothing, shows every figure, escapes every text."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest
from lxml import etree, html  # type: ignore[import-untyped]

from schemas.analysis import Analysis, MissingRun, SuspectedSplit
from services.analysis.page.charts import FIGURES
from services.analysis.page.html import render

# 212 kB for the 5,031 sessions of the sample; lines are thinned, so the size does not grow with the history
MAX_BYTES = 400_000


@pytest.fixture(scope="module")
def page(of_sample: Analysis) -> str:
    return render(of_sample)


@pytest.fixture(scope="module")
def document(page: str) -> Any:
    return html.document_fromstring(page)


def test_page_parses_without_an_error_and_is_small(page: str) -> None:
    parser = etree.HTMLParser(recover=True)
    etree.fromstring(page.encode(), parser)

    unknown_to_lxml = "HTML_UNKNOWN_TAG"  # lxml knows HTML 4, which has no svg, main or figure
    assert [error for error in parser.error_log if error.type_name != unknown_to_lxml] == []
    assert len(page.encode()) < MAX_BYTES


def test_page_shows_every_figure_with_a_title_and_a_sentence(document: Any) -> None:
    figures = document.xpath("//figure")

    assert [figure.get("id") for figure in figures] == [name.replace("_", "-") for name in FIGURES]
    for figure in figures:
        assert figure.xpath("./h3/text()")[0]
        assert figure.xpath("count(./svg[@role='img'][@aria-label])") == 1
        assert re.search(r"\w.*\.$", " ".join(figure.xpath("./figcaption")[0].text_content().split()))


def test_page_fetches_nothing_and_runs_nothing(page: str, document: Any) -> None:
    policy = document.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")

    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert "://" not in page
    assert "@import" not in page
    assert document.xpath("//script | //link | //iframe | //object | //embed | //img | //form | //base") == []
    assert document.xpath("//@src | //@*[starts-with(name(), 'on')]") == []
    assert all(link.startswith("#") for link in document.xpath("//@href"))


def test_concurrent_threads_get_the_same_page(page: str, of_sample: Analysis) -> None:
    with ThreadPoolExecutor(2) as threads:
        pages = list(threads.map(render, [of_sample] * 2))

    assert pages == [page] * 2


def test_ids_are_unique_across_the_page(document: Any) -> None:
    ids = document.xpath("//@id")

    assert len(ids) == len(set(ids))


def test_every_colour_of_the_figures_is_defined_in_light_and_dark(page: str) -> None:
    light, dark = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    used = set(re.findall(r"var\((--\w+)\)", page))

    assert used <= set(re.findall(r"(--\w+):", light))
    assert used <= set(re.findall(r"(--\w+):", dark))


def test_tables_and_interpretations_are_shown(document: Any, of_sample: Analysis) -> None:
    text = document.text_content()

    assert {"Ljung–Box", "Unit roots", "Tails", "Drawdowns"} <= set(document.xpath("//caption/b/text()"))
    assert "at most 0.01" in text
    assert "at least 0.1" in text
    assert of_sample.dependence.interpretation in text


def test_page_shows_every_warning(document: Any, of_sample: Analysis) -> None:
    assert document.xpath("//p[@class='warning']/text()") == list(of_sample.warnings)


def test_hostile_text_stays_text(of_sample: Analysis) -> None:
    attack = "<script>alert(1)</script>\"'&"
    hostile = of_sample.model_copy(
        update={"currency": attack, "source": attack, "warnings": (attack,), "dropped": {attack: 1}}
    )

    page = render(hostile)

    assert "<script" not in page
    assert html.document_fromstring(page).xpath("//script") == []
    assert html.document_fromstring(page).xpath("//p[@class='warning']/text()") == [attack]


def test_data_quality_has_a_table_for_each_kind_of_defect_found(of_sample: Analysis) -> None:
    day = date(2000, 1, 3)
    found = of_sample.data_quality.model_copy(
        update={
            "n_missing_sessions": 1,
            "missing": (MissingRun(first=day, last=day, n_sessions=1),),
            "suspected_splits": (SuspectedSplit(session=day, ratio=0.5, near="1:2", mad_zscore=-70.0),),
        }
    )

    captions = html.document_fromstring(render(of_sample.model_copy(update={"data_quality": found}))).xpath(
        "//caption/b/text()"
    )

    assert {"Missing sessions", "Suspected splits"} <= set(captions)
    assert "Overnight gaps" not in captions
