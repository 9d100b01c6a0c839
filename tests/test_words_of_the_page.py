"""The page's catalogues: the same keys and placeholders in every language, all used, none missing."""

import re
from html.parser import HTMLParser

import pytest

from routers.web import FOLDER, words_of
from services.language import LANGUAGES

CODE = sorted(path for path in FOLDER.glob("*.js") if path.stem not in LANGUAGES)
PLACEHOLDER = re.compile(r"\{(\w+)\}")


IN_TEMPLATE = set(re.findall(r"\{\{([\w.-]+)\}\}", (FOLDER / "index.html").read_text(encoding="utf-8"))) - {
    "lang",
    "modules",
}


def of_modules(language: str) -> dict[str, str]:
    return words_of(FOLDER / f"{language}.js")


def of_template(language: str) -> dict[str, str]:
    return words_of(FOLDER / f"index.{language}.json")


@pytest.fixture(scope="module")
def catalogues() -> dict[str, dict[str, str]]:
    return {language: of_template(language) | of_modules(language) for language in LANGUAGES}


@pytest.fixture(scope="module")
def source() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in CODE)


def named(source: str) -> set[str]:
    """Keys that the modules name, whole."""
    return set(re.findall(r'"([a-z]+(?:\.[\w-]+)+)"', source))


def groups(source: str) -> tuple[str, ...]:
    """Beginnings of keys whose end is computed: a name of the server's, or one of the page's own."""
    found = {*re.findall(r"t\(`([\w.]+\.)\$\{", source), *(f"{one}." for one in re.findall(r'named\("(\w+)"', source))}
    return tuple(found)


def test_every_language_has_the_same_keys_and_placeholders(catalogues: dict[str, dict[str, str]]) -> None:
    english = catalogues["en"]

    for words in catalogues.values():
        assert words.keys() == english.keys()
        differing = [
            key for key in words if sorted(PLACEHOLDER.findall(words[key])) != sorted(PLACEHOLDER.findall(english[key]))
        ]
        assert differing == []
        assert [key for key, text in words.items() if not text.strip()] == []


def test_every_key_that_the_page_uses_is_there(catalogues: dict[str, dict[str, str]], source: str) -> None:
    called = set(re.findall(r'[^\w.](?:t|worded)\(\s*"([\w.-]+)"', source))

    assert len(called) > 100
    assert called - of_modules("en").keys() == set()
    assert IN_TEMPLATE - catalogues["en"].keys() == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_key_is_needless_and_a_browser_loads_no_words_twice(language: str, source: str) -> None:
    by_modules = {key for key in of_modules(language) if key in named(source) or key.startswith(groups(source))}

    assert of_modules(language).keys() - by_modules == set()
    assert of_template(language).keys() == IN_TEMPLATE - by_modules


def test_no_words_of_the_page_are_outside_the_catalogues() -> None:
    # a text of two words or more between quotes, which people would read
    sentence = re.compile(r'"([A-Z][a-z]+ [a-z]+[^"]*)"')

    found = [(path.name, text) for path in CODE for text in sentence.findall(path.read_text(encoding="utf-8"))]

    assert found == []


class _Ids(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []

    def handle_starttag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attributes if name == "id" and value]


def test_the_help_has_the_same_parts_in_every_language_and_one_for_each_term(
    catalogues: dict[str, dict[str, str]],
) -> None:
    parts = {}
    for language in LANGUAGES:
        page = _Ids()
        page.feed((FOLDER / f"help.{language}.html").read_text(encoding="utf-8"))
        parts[language] = page.ids

    assert len({tuple(ids) for ids in parts.values()}) == 1
    terms = {key.removeprefix("tip.") for key in catalogues["en"] if key.startswith("tip.")}
    assert terms <= set(parts["en"])
