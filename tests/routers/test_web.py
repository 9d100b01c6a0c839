"""The page over HTTP: who gets it, its headers, its files and no others, compression."""

import gzip
import hashlib
import json
import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from aws_lambda import lambda_handler
from routers import web
from routers.middleware import MIN_GZIP_BYTES
from services.language import LANGUAGES, Language
from tests.aws.events import function_url_event, read_answer

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
LARGEST_BYTES = 120 * 1024  # in one language
# Lightweight Charts 4.1.3, the production build that its makers publish, without the newline at its end.
CHART_LIBRARY_SHA256 = "a7d4221516c7ea0bb0cc17d605df8848c1c748517a2ca43c2ce1a95ddb159006"


@pytest.mark.parametrize("accept", [BROWSER, "text/html", "TEXT/HTML"])
def test_a_browser_gets_the_page(client: TestClient, accept: str) -> None:
    answer = client.get("/", headers={"Accept": accept})

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.startswith("<!doctype html>")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "", "application/json, text/html;q=0.9", ";;,"])
def test_a_program_gets_json(client: TestClient, accept: str) -> None:
    answer = client.get("/", headers={"Accept": accept})

    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"service", "version", "status", "model", "links", "timestamp"}


@pytest.mark.parametrize("accept", [BROWSER, "*/*"])
def test_a_cache_keeps_both_answers_apart(client: TestClient, accept: str) -> None:
    assert "Accept" in client.get("/", headers={"Accept": accept}).headers["vary"].split(", ")


def test_the_page_may_load_from_here_only(client: TestClient) -> None:
    headers = client.get("/", headers={"Accept": BROWSER}).headers

    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_every_file_that_the_page_names_is_served_as_what_it_is(client: TestClient) -> None:
    page = client.get("/", headers={"Accept": BROWSER}).text
    named = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    modules = [f"/static/{path.name}" for path in web.FOLDER.glob("*.js")]
    kinds = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}

    answers = {path: client.get(path) for path in {*named, *modules}}

    assert len(named) >= 4
    assert {path: (answer.status_code, answer.headers["content-type"]) for path, answer in answers.items()} == {
        path: (200, kinds[path.rpartition(".")[2]]) for path in answers
    }
    assert all(answer.headers["x-content-type-options"] == "nosniff" for answer in answers.values())


def test_the_modules_of_the_first_forecast_are_preloaded_and_no_other(client: TestClient) -> None:
    page = client.get("/?lang=en", headers={"Accept": BROWSER}).text
    preloaded = set(re.findall(r'<link rel="modulepreload" href="/static/([^"]+)">', page))

    imported = {name: imports(name) for name in preloaded}

    assert {"app.js", "en.js", "forecast.js", "chart.js"} <= preloaded
    assert set().union(*imported.values()) <= preloaded
    assert imports("parts.js").isdisjoint(preloaded)
    assert "parts.js" not in preloaded


def imports(name: str) -> set[str]:
    """The modules that one imports at once."""
    return set(re.findall(r'from "\./([^"]+)"', (web.FOLDER / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", ["/static/style.css", "/static/vendor/lightweight-charts.js", "/"])
def test_a_file_that_the_browser_has_is_not_sent_again(client: TestClient, path: str) -> None:
    first = client.get(path, headers={"Accept": BROWSER})

    again = client.get(path, headers={"Accept": BROWSER, "If-None-Match": f'W/"other", {first.headers["etag"]}'})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert first.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/index.html",
        "/static/vendor/",
        "/static/vendor/index.html",
        "/static/" + "x" * 5000,
    ],
)
def test_no_other_file_is_served(client: TestClient, path: str) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert len(answer.content) < 1000


def test_files_answer_head_too(client: TestClient) -> None:
    by_get, by_head = client.get("/static/style.css"), client.head("/static/style.css")

    assert (by_head.status_code, by_head.content) == (200, b"")
    assert [by_head.headers[name] for name in ("etag", "content-type", "cache-control")] == [
        by_get.headers[name] for name in ("etag", "content-type", "cache-control")
    ]


@pytest.mark.parametrize("path", ["/static/app.js", "/static/vendor/lightweight-charts.js", "/", "/openapi.json"])
@pytest.mark.parametrize("coding", ["gzip", "br;q=1.0, gzip;q=0.5"])
def test_large_answers_are_gzipped_once_for_clients_that_accept_it(client: TestClient, path: str, coding: str) -> None:
    plain = client.get(path, headers={"Accept": BROWSER, "Accept-Encoding": "identity"})

    with client.stream("GET", path, headers={"Accept": BROWSER, "Accept-Encoding": coding}) as answer:
        sent = b"".join(answer.iter_raw())

    assert gzip.decompress(sent) == plain.content
    assert len(sent) < len(plain.content) / 2
    assert answer.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert "Accept-Encoding" in answer.headers["vary"].split(", ")


def test_small_answers_are_not_compressed(client: TestClient) -> None:
    assert "content-encoding" not in client.get("/up", headers={"Accept-Encoding": "gzip"}).headers


def test_the_chart_library_is_the_one_that_was_chosen(client: TestClient) -> None:
    content = client.get("/static/vendor/lightweight-charts.js").content

    assert hashlib.sha256(content).hexdigest() == CHART_LIBRARY_SHA256


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_itself_is_light(language: Language) -> None:
    sizes = {name: len(content) for name, content in web.loaded_by_a_visitor(language).items()}

    assert sizes.keys() >= {"index.html", "app.js", f"{language}.js", "style.css"}
    assert sum(sizes.values()) < LARGEST_BYTES, sizes


def test_the_page_names_other_addresses_only_in_links() -> None:
    # any other address might be loaded; the XML namespace is a name, not an address
    for path in web.FOLDER.iterdir():
        text = re.sub(r'<a href="https://[^"]+"|"http://www\.w3\.org/2000/svg"', "", path.read_text(encoding="utf-8"))
        assert "//" not in re.sub(r"(^|\s)//\s.*", "", text), path


def test_no_file_of_the_page_is_inline_script_or_style() -> None:
    page = (web.FOLDER / "index.html").read_text(encoding="utf-8")

    assert re.findall(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", page) == []


@pytest.mark.parametrize("coding", ["identity", "gzip, deflate, br"])
@pytest.mark.parametrize("name", ["style.css", "icon.svg", "vendor/lightweight-charts.js"])
def test_lambda_sends_every_byte_of_a_file(app: FastAPI, name: str, coding: str) -> None:
    expected = web.files()[name].read_bytes()
    event = function_url_event("GET", f"/static/{name}", headers={"accept-encoding": coding})

    answer = read_answer(lambda_handler(app)(event, None) or {})

    gzipped = "gzip" in coding and len(expected) >= MIN_GZIP_BYTES
    assert (answer.status, answer.headers.get("content-encoding")) == (200, "gzip" if gzipped else None)
    assert (gzip.decompress(answer.content) if gzipped else answer.content) == expected
    assert answer.was_base64 or not gzipped


def test_lambda_gzips_json(app: FastAPI) -> None:
    event = function_url_event("GET", "/openapi.json", headers={"accept-encoding": "gzip"})

    answer = read_answer(lambda_handler(app)(event, None) or {})

    assert (answer.was_base64, answer.headers["content-type"]) == (True, "application/json")
    assert json.loads(gzip.decompress(answer.content)) == app.openapi()
