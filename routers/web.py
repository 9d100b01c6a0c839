"""The page for browsers: its own files in ``web/``, and the chart library where pip has put it."""

import gzip
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

FOLDER = Path(__file__).parent.parent / "web"
CHART_LIBRARY = "vendor/lightweight-charts.js"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Everything comes from here and nothing is inline; `data:` images are what the browser itself draws form controls with.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-cache",  # kept, but asked for again: all files of the page are of one version
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(include_in_schema=False)


@router.head("/static/{name:path}")
@router.get("/static/{name:path}")
def static(name: str, request: Request) -> Response:
    """A file of the page."""
    path = files().get(name)
    if path is None or name == "index.html":
        raise HTTPException(404, f"the page has no file {name[:100]!r}")
    return answer(path, request)


def page(request: Request) -> Response:
    """The page itself, for whoever ``prefers_html``."""
    response = answer(FOLDER / "index.html", request)
    response.headers["Vary"] = "Accept, Accept-Encoding"
    return response


def prefers_html(accept: Sequence[str]) -> bool:
    """Whether ``Accept`` headers ask for a page: browsers name HTML, programs say JSON or anything or nothing.

    >>> prefers_html(["text/html,application/xhtml+xml,*/*;q=0.8"])
    True
    >>> prefers_html(["*/*"]), prefers_html(["application/json, text/html;q=0.9"])
    (False, False)
    """
    html = json = 0.0
    for entry in ",".join(accept).lower().split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        if media_type == "text/html":
            html = max(html, _quality(parameters))
        elif media_type == "application/json":
            json = max(json, _quality(parameters))
    return html > 0 and html >= json


def accepts_gzip(accept_encoding: Sequence[str]) -> bool:
    """Whether ``Accept-Encoding`` headers name gzip.

    >>> accepts_gzip(["br, gzip;q=0.8"]), accepts_gzip(["gzip;q=0"]), accepts_gzip([])
    (True, False, False)
    """
    codings = ([part.strip() for part in entry.split(";")] for entry in ",".join(accept_encoding).lower().split(","))
    return any(coding == "gzip" and _quality(parameters) > 0 for coding, *parameters in codings)


@lru_cache(maxsize=64)
def gzipped(content: bytes) -> bytes:
    """The content compressed, once for all who ask; the same bytes in every process, so that its ETag is one."""
    return gzip.compress(content, mtime=0)


def files() -> dict[str, Path]:
    """Every file that can be asked for, by its name below ``/static/``; no other path is ever opened."""
    own = {path.name: path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES}
    library = chart_library()
    return own if library is None else own | {CHART_LIBRARY: library}


def chart_library() -> Path | None:
    """The file inside the package that carries it; None where that is not installed. The package is not imported."""
    package = find_spec("lightweight_charts")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "js" / "lightweight-charts.js"


def answer(path: Path, request: Request) -> Response:
    """The file, gzipped for whoever takes that, or 304 where the caller has these very bytes."""
    content, encoding = path.read_bytes(), {}
    if accepts_gzip(request.headers.getlist("Accept-Encoding")):
        content, encoding = gzipped(content), {"Content-Encoding": "gzip"}
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = HEADERS | {"ETag": etag}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
    if known & {etag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers | encoding, media_type=MEDIA_TYPES[path.suffix])


def _quality(parameters: Sequence[str]) -> float:
    """The ``q`` of a media type, 1 where none is given, 0 for nonsense."""
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
