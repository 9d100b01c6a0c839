"""Answers every error as problem JSON, in one shape; a 500 has no internal details."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from errors import AppError
from routers.guard import CHALLENGE
from routers.middleware import METHODS, REQUEST_ID_HEADER, SECURITY_HEADERS, request_id_of
from routers.problems import problem_of, problem_response
from schemas.problem import FieldProblem, Problem

# not the phrases of http.HTTPStatus: they change with Python's version
HTTP_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    503: "server_busy",
}

# pydantic's messages are about the parts of a date and time
NO_DATE = ("date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact", "date_type")

log = logging.getLogger(__name__)


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error of a route as problem JSON."""
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


async def _app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)  # noqa: S101 - registered for this class
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("%s: %s [request %s]", error.code, error.message, request_id_of(request))
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = CHALLENGE
    if (job_url := error.context.get("job_url")) is not None:
        headers["Location"] = str(job_url)
    return _answer(request, problem_of(error, request_id_of(request)), headers)


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    problems = _field_problems(error.errors())
    return _problem(
        request, status=422, code="malformed_request", title="Malformed request", detail="", errors=problems
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    code = HTTP_CODES.get(error.status_code, "http_error")
    title = code.replace("_", " ").capitalize()
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return _problem(
        request, status=error.status_code, code=code, title=title, detail=str(error.detail), headers=headers
    )


def _allowed_methods(request: Request) -> list[str]:
    """The methods of all routes that have the path; Starlette names those of the first alone."""
    routes = request.app.router.routes
    methods = [
        method
        for method in sorted(METHODS - {"HEAD"})
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return sorted({*methods, "HEAD"}) if "GET" in methods else methods


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected failure [request %s]", request_id_of(request), exc_info=error)
    opaque = AppError("unexpected error in the server; the server's log has the details under the request id")
    return _answer(request, problem_of(opaque, request_id_of(request)))


def _field_problems(errors: Sequence[Any]) -> list[FieldProblem]:
    """Field and fault, without the input itself: it may be huge, secret or not JSON.

    A field is named as the caller writes it (``start_date``). An error of the whole body has the field ``body``.
    """
    return [_field_problem(error) for error in errors[:20]]


def _field_problem(error: Mapping[str, Any]) -> FieldProblem:
    place = error["loc"]
    if error["type"] == "json_invalid" and place and isinstance(place[-1], int):  # of a character, not of a field
        return FieldProblem(field="body", message=f"expected JSON; it has a fault at character {place[-1] + 1}")
    field = ".".join(str(part) for part in place[1:] or place)[:100]
    if error["type"] in NO_DATE:
        return FieldProblem(field=field, message="Input should be a date such as 2018-12-31")
    return FieldProblem(field=field, message=str(error["msg"]).removeprefix("Value error, "))


def _problem(
    request: Request,
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    headers: dict[str, str] | None = None,
    errors: list[FieldProblem] | None = None,
) -> JSONResponse:
    problem = Problem(
        type=f"urn:stock-forecast:{code}",
        title=title,
        status=status,
        detail=detail,
        code=code,
        request_id=request_id_of(request),
        errors=errors,
    )
    return _answer(request, problem, headers)


def _answer(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    # an unexpected 500 bypasses the middleware that adds these
    headers = {**SECURITY_HEADERS, **(headers or {}), REQUEST_ID_HEADER: request_id_of(request)}
    return problem_response(problem, request.headers.get("Accept-Language"), headers)
