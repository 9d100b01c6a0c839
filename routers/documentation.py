"""The OpenAPI document and the two pages that show it; their files come from this server."""

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.staticfiles import StaticFiles

from routers.etags import etag_of, known_etags

OPENAPI = "/openapi.json"
FILES = "/static-offline-docs"
REDOC = "redoc.standalone.js"
REDOC_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
LOGO = FILES[1:].encode() + b"/favicon.png"

# The key that was entered on the page, for as long as the page keeps it: Swagger UI itself would keep one for ever.
_USE_KEY_OF_PAGE = """<script>
    const key = sessionStorage.getItem("api-key") ?? localStorage.getItem("api-key");
    const schema = { type: "apiKey", in: "header", name: "X-API-Key" };
    if (key) ui.authActions.authorize({ APIKeyHeader: { name: "APIKeyHeader", schema, value: key } });
    </script>
    """

_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


class Documentation:
    """The OpenAPI document of an application, built once: that takes half a second."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._lock = Lock()
        self._document: _Document | None = None

    def document(self) -> "_Document":
        with self._lock:
            if self._document is None:
                self._document = _Document(bytes(JSONResponse(self._app.openapi()).body), "application/json")
            return self._document

    def answer(self, request: Request) -> Response:
        return self.document().answer(request)


class _Document:
    """Bytes with their ETag."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self._content = content
        self._media_type = media_type
        self._etag = etag_of(content)

    def answer(self, request: Request) -> Response:
        """The content, or 304 if the caller has it."""
        headers = {"ETag": self._etag, "Cache-Control": "no-cache"}
        if self._etag in known_etags(request):
            return Response(status_code=304, headers=headers)
        return Response(self._content, headers=headers, media_type=self._media_type)


@cache
def _redoc() -> _Document:
    """ReDoc, whose one image comes from this server too: its own address is another server's."""
    return _Document((_files() / REDOC).read_bytes().replace(REDOC_LOGO, LOGO), "text/javascript")


def _redoc_file(request: Request) -> Response:
    return _redoc().answer(request)


def add_documentation(app: FastAPI) -> Documentation:
    """Serve the document at ``/openapi.json``, Swagger UI at ``/docs`` and ReDoc at ``/redoc``."""
    documentation = Documentation(app)

    def swagger_ui(request: Request) -> Response:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=root + OPENAPI,
            title=f"{app.title} - Swagger UI",
            oauth2_redirect_url=None,
            swagger_js_url=f"{root}{FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{FILES}/swagger-ui.css",
            swagger_favicon_url=f"{root}{FILES}/favicon.png",
        )
        return _with_policy(HTMLResponse(bytes(page.body).decode().replace("</body>", f"{_USE_KEY_OF_PAGE}</body>")))

    def redoc(request: Request) -> Response:
        root = request.scope.get("root_path", "")
        page = get_redoc_html(
            openapi_url=root + OPENAPI,
            title=f"{app.title} - ReDoc",
            redoc_js_url=f"{root}{FILES}/{REDOC}",
            with_google_fonts=False,
            redoc_favicon_url=f"{root}{FILES}/favicon.png",
        )
        return _with_policy(page, "; worker-src blob:")  # in which ReDoc searches

    app.add_api_route(OPENAPI, documentation.answer, include_in_schema=False, response_model=None)
    app.add_api_route("/docs", swagger_ui, include_in_schema=False, response_model=None)
    app.add_api_route("/redoc", redoc, include_in_schema=False, response_model=None)
    app.add_api_route(f"{FILES}/{REDOC}", _redoc_file, include_in_schema=False, response_model=None)
    app.mount(FILES, StaticFiles(directory=_files()))
    return documentation


def _files() -> Path:
    package = find_spec("fastapi_offline")
    assert package is not None and package.origin is not None  # noqa: S101, PT018 - one of our requirements
    return Path(package.origin).parent / "static"


def _with_policy(page: HTMLResponse, more: str = "") -> Response:
    """The page with a policy that runs its own inline script and no other. Both pages write styles as they run."""
    scripts = _INLINE_SCRIPT.findall(bytes(page.body).decode())
    hashes = "".join(f" 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts)
    page.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        f"font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'{more}"
    )
    return page
