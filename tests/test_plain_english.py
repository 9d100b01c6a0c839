"""Pages, messages, docstrings and comments avoid words that a reader stumbles over."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

BANNED = re.compile(
    r"\b(told|tells?|beside|anew|worth|whoever|nobody|to be had|so-manieth|held|lately|comes with the program"
    r"|is such as|does well to|hears|(is|are) handed|(is|are) asked|doubts?|of which nothing|that is none"
    r"|doing nothing|has erred)\b",
    re.IGNORECASE,
)

# Phrases that may stay, each with its reason.
ALLOWED = {
    "held-out": "the field's term for data that no fit has seen",
    "held_out": "the same, in code and in the model card",
}

# Test names and their comments are read by developers only.
UNCHECKED = ("tests/",)

THIS_FILE = "tests/test_plain_english.py"  # it contains the list
IN_PORTUGUESE = ("README.pt-BR.md", "docs/pt/")
PATTERNS = ("*.md", "docs/**/*.md", "*.py", "[!.]*/**/*.py", "web/*.js", "web/*.html", "services/**/*.j2")


def readable_files() -> list[str]:
    found = {path.relative_to(ROOT) for pattern in PATTERNS for path in ROOT.glob(pattern)}
    skipped = (THIS_FILE, *IN_PORTUGUESE, *UNCHECKED)
    return sorted(
        path.as_posix()
        for path in found
        if not path.as_posix().startswith(skipped) and path.parts[0] not in ("build", "site", "var")
    )


def texts(path: str, content: str) -> Iterator[tuple[int, str]]:
    """What people read in a file, with the line on which it begins."""
    if path.endswith(".py"):
        yield from (
            (node.lineno, node.value)
            for node in ast.walk(ast.parse(content))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        tokens = tokenize.generate_tokens(io.StringIO(content).readline)
        yield from ((token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT)
    elif path == "CHANGELOG.md":
        yield 1, "## [".join(content.split("## [")[:2])  # the unreleased section: released ones stay as they are
    else:
        yield 1, content


def banned_words(path: str, content: str) -> list[str]:
    allowed = re.compile("|".join(ALLOWED), re.IGNORECASE)
    return [
        f"{path}:{line + text.count(chr(10), 0, match.start())}: {match[0]}"
        for line, text in texts(path, content)
        for match in BANNED.finditer(allowed.sub(lambda phrase: "-" * len(phrase[0]), text))
    ]


@pytest.mark.parametrize("path", readable_files())
def test_plain_words(path: str) -> None:
    assert banned_words(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "content", "found"),
    [
        ("docs/a.md", "one\nIt tells\nHELD_OUT, held-out data", ["docs/a.md:2: tells"]),
        ("a.py", '"""Nobody\nis asked."""\nheld = 1', ["a.py:1: Nobody", "a.py:2: is asked"]),
        ("a.py", 'x = f"worth {1}"  # beside', ["a.py:1: worth", "a.py:1: beside"]),
        ("CHANGELOG.md", "## [Unreleased]\nworth\n## [1.0]\ntold", ["CHANGELOG.md:2: worth"]),
        ("web/a.js", "// anew\nconst held = 1", ["web/a.js:1: anew", "web/a.js:2: held"]),
    ],
)
def test_banned_words_are_found_where_people_read(path: str, content: str, found: list[str]) -> None:
    assert banned_words(path, content) == found
