"""Messages for people in another language, found by their English words.

A catalogue has an English template, with ``{}`` for each part that changes, and its translation, with ``{0}``, ``{1}``
… for the same parts. So code and logs keep one language, and a message that was stored or that another process raised
is translated as well. A part is translated too where it is a message of its own, and a number gets the decimal comma.
"""

import json
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

from services.language import ENGLISH, Language

FOLDER = Path(__file__).parent
LONGEST = 2_000  # characters; a longer text stays as it is

_NUMBER = re.compile(r"[−-]?\d{1,3}(?:,\d{3})*(?:\.\d+)?(?: ?%)?|[−-]?\d+(?:\.\d+)?(?: ?%)?")
_SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-Z])")


@lru_cache(4096)
def translated(text: str, language: Language) -> str:
    """The message in a language; as it is where the catalogue does not have it."""
    if language == ENGLISH or len(text) > LONGEST:
        return text
    return _translation(text, language) or text


def _translation(text: str, language: Language) -> str | None:
    """The whole, else sentence by sentence; None where a sentence is unknown."""
    exact, templates = _catalogue(language)
    if text in exact:
        return exact[text]
    for start, pattern, target in templates:
        if text.startswith(start) and (found := pattern.fullmatch(text)) is not None:
            return target.format(*(_part(part, language) for part in found.groups()))
    sentences = _SENTENCE_END.split(text)
    if len(sentences) == 1:
        return None
    known = [_translation(sentence, language) for sentence in sentences]
    return None if None in known else " ".join(filter(None, known))


def _part(part: str, language: Language) -> str:
    if _NUMBER.fullmatch(part):
        return part.translate(str.maketrans(",.", ".,"))
    return _translation(part, language) or part


@cache
def _catalogue(language: Language) -> tuple[Mapping[str, str], list[tuple[str, re.Pattern[str], str]]]:
    """Messages without parts, and templates: their beginning, pattern and translation, the most specific first."""
    messages = catalogue(language)
    templates = sorted((key for key in messages if "{}" in key), key=lambda key: -len(key.replace("{}", "")))
    compiled = [
        (key.partition("{}")[0], re.compile("(.+?)".join(map(re.escape, key.split("{}"))), re.DOTALL), messages[key])
        for key in templates
    ]
    return {key: target for key, target in messages.items() if "{}" not in key}, compiled


@cache
def catalogue(language: Language) -> Mapping[str, str]:
    """The English templates of a language with their translations."""
    messages: dict[str, str] = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return messages
