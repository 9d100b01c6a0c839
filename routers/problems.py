"""The error answers of routes, and their part of the OpenAPI document."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic.json_schema import models_json_schema

from errors import (
    AppError,
    ArtifactCorrupt,
    ArtifactTooNew,
    BadRequest,
    CalibrationTooSmall,
    HeadersTooLarge,
    HostNotAllowed,
    InsufficientHistory,
    ModelNotFound,
    PricesEmpty,
    PricesInvalid,
    PricesRateLimited,
    PricesUnreachable,
    RequestTimeout,
    ServerBusy,
    StoreUnavailable,
    TickerNotFound,
    UnknownExchange,
    ZeroVariance,
)
from schemas.problem import Problem
from services.language import Language, preferred
from services.language.messages import translated

MEDIA_TYPE = "application/problem+json"

PRICE_PROBLEMS = (
    TickerNotFound,
    UnknownExchange,
    PricesInvalid,
    PricesRateLimited,
    PricesUnreachable,
    PricesEmpty,
    InsufficientHistory,
)
MODEL_PROBLEMS = (ModelNotFound, ArtifactCorrupt, ArtifactTooNew, StoreUnavailable)
FORECAST_PROBLEMS = (*PRICE_PROBLEMS, *MODEL_PROBLEMS, ZeroVariance, CalibrationTooSmall)

_REFERENCE = "#/components/schemas/{model}"
_FIELDS = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}, "required": True, "description": "How to send the key."}},
    429: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}},
}
_CONTENT = {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model=Problem.__name__)}}}


def problems(*errors: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses of the error classes a route can raise, and of a malformed request."""
    codes: dict[int, set[str]] = {
        400: {BadRequest.code},
        408: {RequestTimeout.code},
        413: {"request_too_large"},
        421: {HostNotAllowed.code},
        422: {"malformed_request"},
        431: {HeadersTooLarge.code},
        500: {AppError.code},
        503: {ServerBusy.code},
    }
    for error in errors:
        codes.setdefault(error.status_code, set()).add(error.code)
    return {
        status: {"description": ", ".join(sorted(names)), "content": _CONTENT}
        for status, names in sorted(codes.items())
    }


def add_problems(responses: dict[str, Any], *errors: type[AppError]) -> None:
    """Add error classes to the responses of an operation in the OpenAPI document."""
    for error in errors:
        response = responses.setdefault(str(error.status_code), {"description": "", "content": _CONTENT})
        names = {error.code, *filter(None, response["description"].split(", "))}
        response["description"] = ", ".join(sorted(names))
        if error.status_code in _FIELDS:
            response["headers"] = _FIELDS[error.status_code]
    ordered = sorted(responses.items())
    responses.clear()
    responses.update(ordered)


def problem_of(error: AppError, request_id: str) -> Problem:
    return Problem(
        type=f"urn:stock-forecast:{error.code}",
        title=error.title,
        status=error.status_code,
        detail=error.message,
        code=error.code,
        request_id=request_id,
        **error.context,
    )


def problem_response(problem: Problem, accept_language: str | None, headers: Mapping[str, str]) -> JSONResponse:
    """The answer with the problem, in the language that ``accept_language`` prefers."""
    language = preferred(accept_language)
    said = in_language(problem, language).model_dump(mode="json", exclude_none=True)
    return JSONResponse(said, problem.status, {**headers, **language_headers(language)}, MEDIA_TYPE)


def language_headers(language: Language) -> dict[str, str]:
    return {"Content-Language": language, "Vary": "Accept-Language"}


def in_language(problem: Problem, language: Language) -> Problem:
    """The problem with title, detail and the messages of its fields in a language; the detail lists the fields."""
    fields = problem.errors and [
        one.model_copy(update={"message": translated(one.message, language)}) for one in problem.errors
    ]
    detail = "; ".join(f"{one.field}: {one.message}" for one in fields or ()) or translated(problem.detail, language)
    title = translated(problem.title, language)
    return problem.model_copy(update={"title": title, "detail": detail, "errors": fields})


def document_problems(app: FastAPI) -> None:
    """Define the schema that ``problems`` refers to; FastAPI would declare its media type as application/json."""
    undocumented = app.openapi

    def openapi() -> dict[str, Any]:
        document = undocumented()
        _, definitions = models_json_schema([(Problem, "serialization")], ref_template=_REFERENCE)
        document["components"]["schemas"].update(definitions["$defs"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation extends it
