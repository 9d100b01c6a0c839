"""The page for browsers: its own files in ``web/``, and the chart library from its Python package."""

import gzip
import json
import mimetypes
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from html import escape
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.staticfiles import NotModifiedResponse, StaticFiles

from routers.etags import etag_of, known_etags
from routers.middleware import GZIP_LEVEL, MIN_GZIP_BYTES
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
_IMPORTED = re.compile(r'^import .* from "\./([\w.-]+)";$', re.MULTILINE)


@dataclass(frozen=True)
class _File:
    content: bytes
    compressed: bytes | None
    media_type: str | None
    etag: str


router = APIRouter(include_in_schema=False)
_static_files = StaticFiles()
mimetypes.add_type("text/javascript", ".js")  # Python 3.11 and some systems have another type


@router.get("/static/{name:path}")
async def static(name: str, request: Request) -> Response:
    """A file of the page: a visitor loads a dozen at once, so they are kept in memory, compressed."""
    path = files().get(name)
    if path is None:
        raise HTTPException(404, f"the page has no file {name[:100]!r}")
    file = _file(path, path.stat().st_mtime_ns)
    headers = HEADERS | {"ETag": file.etag, "Vary": "Accept-Encoding"}
    if file.etag in known_etags(request):
        return Response(status_code=304, headers=headers)
    if file.compressed is None or "gzip" not in request.headers.get("Accept-Encoding", ""):
        return Response(file.content, headers=headers, media_type=file.media_type)
    return Response(file.compressed, headers=headers | {"Content-Encoding": "gzip"}, media_type=file.media_type)


@router.get("/help")
def help_page(request: Request) -> Response:
    """How to read the page."""
    language = _language_of(request)
    return _html(request, (FOLDER / f"help.{language}.html").read_bytes(), language)


def page(request: Request) -> Response:
    """The page in the language of its address, else in the one that the browser prefers."""
    language = _language_of(request)
    return _html(request, _page(language), language)


def files() -> dict[str, Path]:
    """Every file below ``/static/`` by its name. No other path is opened."""
    own = {path.name: path for path in FOLDER.iterdir() if path.suffix in (".css", ".js", ".svg")}
    own |= {f"messages/{path.name}": path for path in MESSAGES.glob("*.json")}
    library = chart_library()
    return own if library is None else own | {CHART_LIBRARY: library}


def loaded_by_a_visitor(language: Language) -> dict[str, bytes]:
    """The page in a language and its own files as a browser loads them: without the words of other languages."""
    others = {f"{one}.js" for one in LANGUAGES if one != language}
    own = {name: path for name, path in files().items() if path.parent == FOLDER and name not in others}
    return {"index.html": _page(language)} | {name: path.read_bytes() for name, path in own.items()}


@cache
def _chart_package() -> ModuleSpec | None:
    return find_spec("lightweight_charts")


def chart_library() -> Path | None:
    """The file inside its package, which is not imported; None where the package is not installed."""
    package = _chart_package()
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "js" / "lightweight-charts.js"


def words_of(catalogue: Path) -> dict[str, str]:
    """The words of a catalogue by ``group.name``: the one JSON object of groups in the file, or in what it exports."""
    text = catalogue.read_text(encoding="utf-8")
    groups: dict[str, dict[str, str]] = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return {f"{group}.{name}": text for group, words in groups.items() for name, text in words.items()}


@lru_cache(64)
def _file(path: Path, _mtime_ns: int) -> _File:
    content = path.read_bytes()
    compressed = gzip.compress(content, GZIP_LEVEL, mtime=0) if len(content) >= MIN_GZIP_BYTES else None
    return _File(content, compressed, mimetypes.guess_type(path.name)[0], etag_of(content))


def _language_of(request: Request) -> Language:
    return language_named(request.query_params.get("lang", "")) or preferred(request.headers.get("Accept-Language"))


def _page(language: Language) -> bytes:
    paths = (FOLDER / "index.html", FOLDER / f"index.{language}.json", FOLDER / f"{language}.js")
    return _worded(*paths, *(path.stat().st_mtime_ns for path in paths))


@lru_cache(8)
def _worded(template: Path, own: Path, shared: Path, *_versions: int) -> bytes:
    """The template with each ``{{key}}`` replaced by its words, and the modules to load; the files' times of change.

    ``own`` are words that only the template has, so that a browser does not load them twice.
    """
    words = {key: escape(text) for key, text in (words_of(own) | words_of(shared)).items()} | {
        "lang": shared.stem,
        "modules": "\n".join(
            f'<link rel="modulepreload" href="/static/{name}">' for name in (*_first_modules(), shared.name)
        ),
    }
    return _WORD.sub(lambda found: words[found[1]], template.read_text(encoding="utf-8")).encode()


def _first_modules() -> list[str]:
    """The modules that the first forecast needs: the one that starts the page, and what it imports, directly or not."""
    found = ["app.js"]
    for name in found:
        imported = _IMPORTED.findall((FOLDER / name).read_text(encoding="utf-8"))
        found += [one for one in dict.fromkeys(imported) if one not in found]
    return found


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
