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

_NUMBER = re.compile(r"[−-]?\d{1,3}(?:,\d{3})*(?:\.\d+)?(?:e[+−-]?\d+)?(?: ?%)?|[−-]?\d+(?:\.\d+)?(?: ?%)?")
_SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-Z0-9])")
_COMMAS = str.maketrans(",.", ".,")


class Translator:
    """Finds the translation of a text.

    Args:
        messages: English template -> translation.
    """

    def __init__(self, messages: Mapping[str, str]) -> None:
        templates = sorted((key for key in messages if "{}" in key), key=lambda key: -len(key.replace("{}", "")))
        self._exact = {key: target for key, target in messages.items() if "{}" not in key}
        self._templates = [  # beginning, pattern and translation, the most specific first
            (
                key.partition("{}")[0],
                re.compile("(.+?)".join(map(re.escape, key.split("{}"))), re.DOTALL),
                messages[key],
            )
            for key in templates
        ]

    def __call__(self, text: str) -> str:
        """The translation; the text as it is where no message fits, or where it is very long."""
        return text if len(text) > LONGEST else self._part(text)

    def _part(self, text: str) -> str:
        return text.translate(_COMMAS) if _NUMBER.fullmatch(text) else self._found(text) or text

    def _found(self, text: str) -> str | None:
        """Sentence by sentence, else of the whole; None where neither is known."""
        if text in self._exact:
            return self._exact[text]
        sentences = _SENTENCE_END.split(text)
        if len(sentences) > 1:
            known = [self._found(sentence) for sentence in sentences]
            if None not in known:
                return " ".join(filter(None, known))
        for start, pattern, target in self._templates:
            if text.startswith(start) and (found := pattern.fullmatch(text)) is not None:
                return target.format(*map(self._part, found.groups()))
        return None


@lru_cache(4096)
def translated(text: str, language: Language) -> str:
    """The message in a language; as it is where the catalogue does not have it."""
    return text if language == ENGLISH else _translator(language)(text)


@cache
def _translator(language: Language) -> Translator:
    return Translator(catalogue(language))


@cache
def catalogue(language: Language) -> Mapping[str, str]:
    """The English templates of a language with their translations."""
    return read_catalogue(FOLDER / f"{language}.json")


def read_catalogue(path: Path) -> Mapping[str, str]:
    messages: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return messages
