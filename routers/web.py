"""The page for browsers: its own files in ``web/``, and the chart library from its Python package."""

import mimetypes
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parent.parent / "web"
INDEX = FOLDER / "index.html"
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

router = APIRouter(include_in_schema=False)
_static_files = StaticFiles()
mimetypes.add_type("text/javascript", ".js")  # Python 3.11 and some systems have another type


@router.get("/static/{name:path}")
def static(name: str, request: Request) -> Response:
    path = files().get(name)
    if path is None:
        raise HTTPException(404, f"the page has no file {name[:100]!r}")
    return _answer(path, request)


def page(request: Request) -> Response:
    response = _answer(INDEX, request)
    response.headers["Vary"] = "Accept"  # GET / answers JSON to programs
    return response


def files() -> dict[str, Path]:
    """Every file below ``/static/`` by its name. No other path is opened."""
    own = {path.name: path for path in FOLDER.iterdir() if path.suffix in (".css", ".js", ".svg")}
    library = chart_library()
    return own if library is None else own | {CHART_LIBRARY: library}


def chart_library() -> Path | None:
    """The file inside its package, which is not imported; None where the package is not installed."""
    package = find_spec("lightweight_charts")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "js" / "lightweight-charts.js"


def _answer(path: Path, request: Request) -> Response:
    response = _static_files.file_response(path, path.stat(), request.scope)  # 304 where the ETag matches
    response.headers.update(HEADERS)
    return response
