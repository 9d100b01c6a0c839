"""The languages that answers for people are in, and which one a caller prefers."""

from typing import get_args

from schemas.common import Language

ENGLISH: Language = "en"
LANGUAGES: tuple[Language, ...] = get_args(Language)

__all__ = ["ENGLISH", "LANGUAGES", "Language", "language_named", "preferred"]

_LONGEST_HEADER = 500  # of characters that are read


def preferred(header: str | None) -> Language:
    """The language that ``Accept-Language`` prefers among ours; English where it names none of them.

    >>> preferred("pt-PT,pt;q=0.9,en;q=0.8"), preferred("de,en;q=0.5,pt;q=0.3"), preferred("fr"), preferred(None)
    ('pt-BR', 'en', 'en', 'en')
    """
    best, weight = ENGLISH, 0.0
    for part in (header or "")[:_LONGEST_HEADER].split(","):
        name, _, parameter = part.partition(";")
        given = _weight(parameter)
        found = language_named(name.strip())
        if found is not None and given > weight:
            best, weight = found, given
    return best


def language_named(name: str) -> Language | None:
    """Ours for a language tag, whatever its region; None for another language.

    >>> language_named("PT"), language_named("en-GB"), language_named("de")
    ('pt-BR', 'en', None)
    """
    primary = name.partition("-")[0].lower()
    return next((one for one in LANGUAGES if one.partition("-")[0] == primary), None)


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
