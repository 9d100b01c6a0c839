"""The figures: one drawing for light and dark pages, and no conflicts between figures of one document."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.analysis import Analysis
from services.analysis.page.charts import FIGURES, VARIABLES, price_ticks

COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")
EVERY_FIGURE = pytest.mark.parametrize("name", FIGURES)


@pytest.fixture(scope="module")
def figures(of_sample: Analysis) -> dict[str, str]:
    return {name: draw(of_sample) for name, draw in FIGURES.items()}


def drawn(figure: str) -> ET.Element:
    return ET.fromstring(figure)  # noqa: S314  from our own code


@EVERY_FIGURE
def test_figure_is_one_labelled_image_that_scales(figures: dict[str, str], name: str) -> None:
    root = drawn(figures[name])

    assert root.tag == "svg"
    assert (root.attrib["role"], set(root.attrib)) == ("img", {"viewBox", "role", "aria-label"})
    assert len(root.attrib["aria-label"]) > 20


@EVERY_FIGURE
def test_figure_leaves_every_colour_to_the_page(figures: dict[str, str], name: str) -> None:
    figure = figures[name]

    assert COLOUR.findall(figure) == []
    assert set(re.findall(r"var\(--\w+\)", figure)) <= set(VARIABLES.values())


@EVERY_FIGURE
def test_figure_has_text_and_neither_script_style_sheet_nor_address(figures: dict[str, str], name: str) -> None:
    root = drawn(figures[name])
    tags = {element.tag for element in root.iter()}

    assert "text" in tags
    assert tags <= {"svg", "g", "path", "defs", "use", "text", "tspan", "clipPath", "rect"}
    assert "://" not in figures[name]


def test_references_lead_to_ids_of_the_same_figure_and_no_two_figures_share_one(figures: dict[str, str]) -> None:
    seen: set[str] = set()
    for figure in figures.values():
        root = drawn(figure)
        ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        links = {
            found
            for element in root.iter()
            for key in ("href", "clip-path")
            for found in re.findall(r"#([\w-]+)", element.attrib.get(key, ""))
        }

        assert len(ids) == len(set(ids))
        assert links == set(ids)
        assert not seen & set(ids)
        seen |= set(ids)


def test_price_figure_names_currency_and_years(figures: dict[str, str]) -> None:
    texts = [element.text for element in drawn(figures["price"]).iter("text")]

    assert "USD" in texts
    assert {"2000", "2008"} <= set(texts)
    assert {"1,200", "2,000"} <= set(texts)


def test_drawdown_figure_names_peak_and_trough(figures: dict[str, str]) -> None:
    assert "2007-10-09 – 2009-03-09" in figures["drawdowns"]


@given(low=st.floats(5e-324, 1.7e308), ratio=st.floats(1, 1e300))
def test_price_ticks_ascend_within_the_axis(low: float, ratio: float) -> None:
    high = min(low * ratio, 1.7976931348623157e308)

    ticks = price_ticks(low, high)

    assert 2 <= len(ticks) <= 40
    assert ticks == sorted(ticks)
    assert low * (1 - 1e-9) <= ticks[0] <= ticks[-1] <= high * (1 + 1e-9) or low == high
