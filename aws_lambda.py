"""The Lambda entry of the API: events of the function URL go to the application, jobs to the worker."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from fastapi import FastAPI
from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES

import worker
from bootstrap import Runtime
from errors import AnswerTooLarge
from routers.problems import MEDIA_TYPE, in_language, language_headers, problem_of
from services.language import Language, preferred
from telemetry.measures import COLD_STARTS

MAX_ANSWER_BYTES = 6 * 1024 * 1024  # of the whole JSON document that carries the answer
CERTAINLY_SMALL = MAX_ANSWER_BYTES // 6  # even if every character were escaped


class NotAnHttpEvent(Exception):
    """Lambda was invoked with something that is neither a request nor a task."""


def lambda_handler(app: FastAPI) -> Callable[[Any, Any], dict[str, Any] | None]:
    """What AWS Lambda calls with each event.

    Any other event fails the invocation. If an error were returned instead, Lambda would count a success:
    no retry, and nothing in the dead-letter queue.
    """
    runtime: Runtime = app.state.runtime

    @cache
    def adapter() -> Mangum:  # built on the first event: it opens an event loop
        runtime.meter.record(COLD_STARTS)
        return Mangum(app, lifespan="off", text_mime_types=[*DEFAULT_TEXT_MIME_TYPES, MEDIA_TYPE])

    def handle(event: Any, context: Any) -> dict[str, Any] | None:
        try:
            if worker.is_task(event):
                worker.on_event(runtime, event, context)
                return None
            if not _is_http(event):
                found = ", ".join(sorted(map(str, event))) if isinstance(event, dict) else type(event).__name__
                raise NotAnHttpEvent(f"expected a function-URL event (payload version 2.0), found {found[:200]}")
            accepted = (event.get("headers") or {}).get("accept-language")
            return _bounded(adapter()(event, context), preferred(accepted))
        finally:
            runtime.writer.flush()  # after the answer an instance stands still
            runtime.meter.flush()

    return handle


def _is_http(event: Any) -> bool:
    if not isinstance(event, dict) or event.get("version") != "2.0":
        return False
    context = event.get("requestContext")
    return isinstance(context, dict) and isinstance(context.get("http"), dict)


def _bounded(answer: dict[str, Any], language: Language) -> dict[str, Any]:
    """The answer, or ``answer_too_large`` in its place: Lambda would answer a bare 502 for a larger one."""
    if len(answer["body"]) <= CERTAINLY_SMALL or len(json.dumps(answer)) <= MAX_ANSWER_BYTES:
        return answer
    error = AnswerTooLarge(
        f"the answer exceeds the limit of {MAX_ANSWER_BYTES} bytes: ask for fewer sessions, symbols or levels"
    )
    headers = {name: value for name, value in answer["headers"].items() if name == "x-request-id"}
    problem = in_language(problem_of(error, headers.get("x-request-id", "")), language)
    headers |= {name.lower(): value for name, value in language_headers(language).items()}
    return {
        "statusCode": error.status_code,
        "headers": headers | {"content-type": MEDIA_TYPE},
        "cookies": [],
        "body": problem.model_dump_json(exclude_none=True),
        "isBase64Encoded": False,
    }
