"""The page as a server gives it: to whom, with which headers, and nothing else of the disk."""

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from aws_lambda import lambda_handler
from routers import web
from tests.aws.events import function_url_event, read_answer

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
LARGEST_BYTES = 60_000
# Lightweight Charts 4.1.3, the production build that its makers publish, without the newline at its end.
CHART_LIBRARY_SHA256 = "a7d4221516c7ea0bb0cc17d605df8848c1c748517a2ca43c2ce1a95ddb159006"


@pytest.mark.parametrize(
    "accept",
    [BROWSER, "text/html", "application/json;q=0.5, text/html", "TEXT/HTML"],
)
def test_a_browser_gets_the_page(client: TestClient, accept: str) -> None:
    answer = client.get("/", headers={"Accept": accept})

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.startswith("<!doctype html>")


@pytest.mark.parametrize(
    "accept",
    ["*/*", "application/json", "", "application/json, text/html;q=0.9", "text/html;q=0", "text/html;q=x", ";;,"],
)
def test_everybody_else_gets_what_they_always_got(client: TestClient, accept: str) -> None:
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


@pytest.mark.parametrize("path", ["/static/style.css", "/static/vendor/lightweight-charts.js", "/"])
def test_what_a_browser_has_already_is_not_sent_again(client: TestClient, path: str) -> None:
    first = client.get(path, headers={"Accept": BROWSER})

    again = client.get(path, headers={"Accept": BROWSER, "If-None-Match": f'W/"other", {first.headers["etag"]}'})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
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
        "/static/" + "x" * 5000,
    ],
)
def test_nothing_else_can_be_asked_for(client: TestClient, path: str) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert len(answer.content) < 1000


def test_files_answer_head_too(client: TestClient) -> None:
    asked, told = client.get("/static/style.css"), client.head("/static/style.css")

    assert told.status_code == 200
    assert {name: told.headers[name] for name in ("etag", "content-length", "content-encoding")} == {
        name: asked.headers[name] for name in ("etag", "content-length", "content-encoding")
    }


@pytest.mark.parametrize("path", ["/static/app.js", "/"])
@pytest.mark.parametrize("coding", ["gzip", "br;q=1.0, GZIP;q=0.5"])
def test_a_file_travels_gzipped_to_whoever_takes_that(client: TestClient, path: str, coding: str) -> None:
    plain = client.get(path, headers={"Accept": BROWSER, "Accept-Encoding": "identity"})

    answer = client.get(path, headers={"Accept": BROWSER, "Accept-Encoding": coding})

    assert answer.content == plain.content  # the client has unpacked it
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < len(plain.content) / 2
    assert "content-encoding" not in plain.headers
    assert "Accept-Encoding" in answer.headers["vary"].split(", ")


def test_each_form_of_a_file_has_an_etag_of_its_own(client: TestClient) -> None:
    plain, packed = (client.get("/static/app.js", headers={"Accept-Encoding": coding}) for coding in ("", "gzip"))
    known = {"If-None-Match": packed.headers["etag"]}

    again = client.get("/static/app.js", headers={"Accept-Encoding": "gzip", **known})
    other = client.get("/static/app.js", headers={"Accept-Encoding": "", **known})

    assert plain.headers["etag"] != packed.headers["etag"]
    assert (again.status_code, other.status_code) == (304, 200)
    assert "content-encoding" not in again.headers


def test_forecasts_are_not_compressed(client: TestClient) -> None:
    assert "content-encoding" not in client.get("/models", headers={"Accept-Encoding": "gzip"}).headers


def test_the_chart_library_is_the_one_that_was_chosen(client: TestClient) -> None:
    content = client.get("/static/vendor/lightweight-charts.js").content

    assert hashlib.sha256(content).hexdigest() == CHART_LIBRARY_SHA256


def test_the_page_itself_is_light() -> None:
    sizes = {path.name: path.stat().st_size for path in web.FOLDER.iterdir()}

    assert sum(sizes.values()) < LARGEST_BYTES, sizes


def test_the_page_names_no_other_place_but_in_links() -> None:
    # an address that is no link is one that might be loaded; XML's namespaces are names, not addresses
    for path in web.FOLDER.iterdir():
        text = re.sub(r'<a href="https://[^"]+"|"http://www\.w3\.org/2000/svg"', "", path.read_text(encoding="utf-8"))
        assert "//" not in re.sub(r"(^|\s)//\s.*", "", text), path


def test_no_file_of_the_page_is_inline_script_or_style() -> None:
    page = (web.FOLDER / "index.html").read_text(encoding="utf-8")

    assert re.findall(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", page) == []


@pytest.mark.parametrize("name", ["style.css", "app.js", "icon.svg", "vendor/lightweight-charts.js"])
def test_lambda_carries_every_byte(app: FastAPI, name: str) -> None:
    answer = read_answer(lambda_handler(app)(function_url_event("GET", f"/static/{name}"), None) or {})

    path: Path = web.files()[name]
    assert (answer.status, answer.content) == (200, path.read_bytes())


@pytest.mark.parametrize("name", ["style.css", "icon.svg", "vendor/lightweight-charts.js"])
def test_lambda_carries_what_is_gzipped(app: FastAPI, name: str) -> None:
    event = function_url_event("GET", f"/static/{name}", headers={"accept-encoding": "gzip, deflate, br"})

    answer = read_answer(lambda_handler(app)(event, None) or {})

    assert (answer.was_base64, answer.headers["content-encoding"]) == (True, "gzip")
    assert gzip.decompress(answer.content) == web.files()[name].read_bytes()


def test_lambda_answers_a_browser_with_the_page(app: FastAPI) -> None:
    event = function_url_event("GET", "/", headers={"accept": BROWSER})

    answer = read_answer(lambda_handler(app)(event, None) or {})

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.content == (web.FOLDER / "index.html").read_bytes()
