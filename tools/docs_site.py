"""Write the source of the documentation site: the pages, with the API reference filled in and links made local.

``python -m tools.docs_site FOLDER``; ``make docs`` then runs MkDocs over it. The README becomes the home page. A link
to a file that is no page, such as a source file, becomes its text.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
HOME = ROOT / "README.md"
ROOT_PAGES = (HOME, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md")
API_PAGE = DOCS / "api.md"

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_HTML_LINK = re.compile(r'((?:src|srcset|href)=")([^":#]+)(")')
_ROUTE_HEADING = re.compile(r"^#{2,3} `([A-Z]+) (/\S*)`$", re.MULTILINE)
_HEADING = re.compile(r"^#{2,3} ", re.MULTILINE)

Json = dict[str, Any]


def main() -> None:
    """Write every page and picture of the site into the folder that the command names."""
    from app import app

    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("images", "assets"):
        shutil.copytree(DOCS / name, folder / name)
    for page in [*ROOT_PAGES, *DOCS.rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        if page == API_PAGE:
            text = with_reference(text, app.openapi())
        target = folder / site_path(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(with_local_links(page, text), encoding="utf-8")


def site_path(page: Path) -> Path:
    """Where a page lies in the site, relative to its root."""
    if page == HOME:
        return Path("index.md")
    return page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT)


def with_local_links(page: Path, text: str) -> str:
    """The page with every link rewritten for the site."""

    def moved(path: str) -> str | None:
        target = (page.parent / path).resolve()
        if not (target in ROOT_PAGES or (target.is_relative_to(DOCS) and target.is_file())):
            return None
        return os.path.relpath(site_path(target), site_path(page).parent)

    def rewritten(link: re.Match[str]) -> str:
        picture, label, path, anchor = link.groups()
        if not path or ":" in path:
            return link.group()
        target = moved(path)
        return label if target is None else f"{picture}[{label}]({target}{anchor or ''})"

    text = _LINK.sub(rewritten, text)
    return _HTML_LINK.sub(lambda link: f"{link[1]}{moved(link[2]) or link[2]}{link[3]}", text)


def with_reference(text: str, document: Json) -> str:
    """The API page with parameters, fields and errors below each route, and the nested types at its end."""
    types = document["components"]["schemas"]
    parts: list[str] = []
    position = 0
    for heading in _ROUTE_HEADING.finditer(text):
        following = _HEADING.search(text, heading.end())
        end = following.start() if following else len(text)
        operation = document["paths"][heading[2]][heading[1].lower()]
        written = text[position:end].replace(heading[0], f"{heading[0]} {{#{anchor_of(heading[0])}}}")
        parts += [written.rstrip(), "", *_operation(operation, types), ""]
        position = end
    parts += [text[position:].rstrip(), "", "## Types", ""]
    for name in sorted(_nested(types)):
        parts += [f"### {name}", "", *_fields(types[name]), ""]
    return "\n".join(parts)


def anchor_of(heading: str) -> str:
    """The address that GitHub gives a heading, so that one link works in both places."""
    return re.sub(r"[^\w -]", "", heading.lstrip("#").strip().lower()).replace(" ", "-")


def _operation(operation: Json, types: Mapping[str, Json]) -> Iterator[str]:
    if operation.get("parameters"):
        yield from ["| parameter | in | type | meaning |", "|---|---|---|---|"]
        for one in operation["parameters"]:
            where = one["in"] + (", required" if one.get("required") and one["in"] != "path" else "")
            schema = one["schema"]
            field = {"description": one.get("description", ""), **schema}
            yield f"| `{one['name']}` | {where} | {_type(schema)} | {_meaning(field)} |"
        yield ""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body is not None:
        yield from ["**Body**", "", *_content(body, types), ""]
    errors = []
    for status, response in operation["responses"].items():
        schema = response.get("content", {}).get("application/json", {}).get("schema")
        if int(status) >= 400:
            errors += [f"| {status} | {', '.join(f'`{code}`' for code in response['description'].split(', '))} |"]
        elif schema is not None:
            yield from [f"**Answer {status}**", "", *_content(schema, types), ""]
    yield from ["**Errors** ([what to do](errors.md))", "", "| status | code |", "|---|---|", *errors]


def _content(schema: Json, types: Mapping[str, Json]) -> Iterator[str]:
    names = [one["$ref"].split("/")[-1] for one in (schema, *schema.get("anyOf", [])) if "$ref" in one]
    if not names:
        yield _type(schema)
    for name in names:
        yield from _fields(types[name])


def _fields(schema: Json) -> Iterator[str]:
    if "properties" not in schema:
        yield _type(schema)
        return
    required = schema.get("required", [])
    yield from ["| field | type | meaning |", "|---|---|---|"]
    for name, field in schema["properties"].items():
        sign = "" if name in required or "default" in field else ", optional"
        yield f"| `{name}` | {_type(field)}{sign} | {_meaning(field)} |"


def _meaning(field: Json) -> str:
    text = str(field.get("description", "")).replace("``", "`").replace("\n", " ").replace("|", "\\|").strip()
    default = field.get("default")
    if default in (None, "", [], {}):
        return text
    shown = default if isinstance(default, str) else json.dumps(default)
    return f"{text} Default: `{shown}`.".strip()


def _type(schema: Json) -> str:
    """A JSON schema in a few words: ``integer, 1 to 30`` or ``list of Interval``, with a link to a nested type."""
    if "$ref" in schema:
        name = schema["$ref"].split("/")[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        bounds = _bounds(schema.get("minItems"), schema.get("maxItems"))
        return f"list of {_type(schema['items'])}{bounds}" if "items" in schema else "list"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    kind = str(schema.get("format") or schema.get("type") or "any")
    return kind.replace("date-time", "time") + _bounds(low, high)


def _bounds(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f", {_number(low)} to {_number(high)}"
    if low is not None:
        return f", at least {_number(low)}"
    return "" if high is None else f", at most {_number(high)}"


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else str(value)


def _nested(types: Mapping[str, Json]) -> set[str]:
    """The types that another type mentions."""
    return set(re.findall(r"#/components/schemas/(\w+)'", str(list(types.values()))))


if __name__ == "__main__":
    main()
