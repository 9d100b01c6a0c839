"""The page for browsers: its own files in ``web/``, and the chart library from its Python package."""

import json
import mimetypes
import re
from functools import lru_cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.staticfiles import NotModifiedResponse, StaticFiles

from routers.etags import etag_of
from services.language import LANGUAGES, Language, language_named, preferred
from services.language.messages import FOLDER as MESSAGES

FOLDER = Path(__file__).parent.parent / "web"
CHART_LIBRARY = "vendor/lightweight-charts.js"
# All files come from this server and nothing is inline; browsers draw form controls with `data:` images.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-cache",  # cached but always revalidated: all files of the page are of one version
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_WORD = re.compile(r"\{\{([\w.-]+)\}\}")

router = APIRouter(include_in_schema=False)
_static_files = StaticFiles()
mimetypes.add_type("text/javascript", ".js")  # Python 3.11 and some systems have another type


@router.get("/static/{name:path}")
def static(name: str, request: Request) -> Response:
    path = files().get(name)
    if path is None:
        raise HTTPException(404, f"the page has no file {name[:100]!r}")
    response = _static_files.file_response(path, path.stat(), request.scope)  # 304 where the ETag matches
    response.headers.update(HEADERS)
    return response


@router.get("/help")
def help_page(request: Request) -> Response:
    """How to read the page."""
    language = _language_of(request)
    return _html(request, (FOLDER / f"help.{language}.html").read_bytes(), language)


def page(request: Request) -> Response:
    """The page in the language of its address, else in the one that the browser prefers."""
    language = _language_of(request)
    template, words = FOLDER / "index.html", FOLDER / f"{language}.js"
    content = _worded(template, words, template.stat().st_mtime_ns, words.stat().st_mtime_ns)
    return _html(request, content, language)


def files() -> dict[str, Path]:
    """Every file below ``/static/`` by its name. No other path is opened."""
    own = {path.name: path for path in FOLDER.iterdir() if path.suffix in (".css", ".js", ".svg")}
    own |= {f"messages/{path.name}": path for path in MESSAGES.glob("*.json")}
    library = chart_library()
    return own if library is None else own | {CHART_LIBRARY: library}


def files_of_a_visit(language: str) -> list[Path]:
    """The page's own files that a visitor loads: the words of one language, and not the help."""
    others = {f"{one}.js" for one in LANGUAGES if one != language}
    return [path for path in FOLDER.iterdir() if path.name not in others and not path.name.startswith("help.")]


def chart_library() -> Path | None:
    """The file inside its package, which is not imported; None where the package is not installed."""
    package = find_spec("lightweight_charts")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "js" / "lightweight-charts.js"


def words_of(catalogue: Path) -> dict[str, str]:
    """The words of a language by ``group.name``: the one JSON object of groups that the module exports."""
    module = catalogue.read_text(encoding="utf-8")
    groups: dict[str, dict[str, str]] = json.loads(module[module.index("{") : module.rindex("}") + 1])
    return {f"{group}.{name}": text for group, words in groups.items() for name, text in words.items()}


def _language_of(request: Request) -> Language:
    return language_named(request.query_params.get("lang", "")) or preferred(request.headers.get("Accept-Language"))


@lru_cache(8)
def _worded(template: Path, catalogue: Path, *_versions: int) -> bytes:
    """The template with each ``{{key}}`` replaced by its words, and the modules to load; the files' times of change."""
    words = {key: escape(text) for key, text in words_of(catalogue).items()} | {
        "lang": catalogue.stem,
        "modules": "\n".join(
            f'<link rel="modulepreload" href="/static/{path.name}">'
            for path in sorted(files_of_a_visit(catalogue.stem))
            if path.suffix == ".js"
        ),
    }
    return _WORD.sub(lambda found: words[found[1]], template.read_text(encoding="utf-8")).encode()


def _html(request: Request, content: bytes, language: Language) -> Response:
    headers = HEADERS | {
        "Content-Language": language,
        "ETag": etag_of(content),
        "Vary": "Accept, Accept-Language",  # GET / answers JSON to programs
    }
    response: Response = HTMLResponse(content, headers=headers)
    if _static_files.is_not_modified(response.headers, request.headers):
        response = NotModifiedResponse(response.headers)
        response.headers.update(headers)  # a browser replaces the fields that it has by those of a 304
    return response
