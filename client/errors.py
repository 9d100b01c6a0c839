"""Failures that only a caller meets, beside those of ``errors.py``, and the way from an answer or a job to either."""

import re
from http import HTTPStatus

import httpx2
from pydantic import ValidationError

from errors import AppError, JobFailed, UpstreamUnavailable
from schemas.job import Job
from schemas.problem import Problem

GATEWAY = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
RESERVED = frozenset({"self", "code", "message", "retry_after_s"})  # what an error is made with, besides its context


class MalformedRequest(AppError):
    """Body, path or query does not match its schema; the message names the fields."""

    status_code = 422
    code = "malformed_request"
    title = "Malformed request"


class RequestTooLarge(AppError):
    """The body is larger than the service accepts."""

    status_code = 413
    code = "request_too_large"
    title = "Request too large"


class RefusedByService(AppError):
    """An error status with a code we do not know, as of a later service; ``status`` and ``answered`` tell them."""

    code = "refused_by_service"
    title = "Refused by the service"


class AnswerNotUnderstood(AppError):
    """An answer that is not what the API promises: probably not our service."""

    status_code = 502
    code = "answer_not_understood"
    title = "Answer not understood"


class ServiceUnreachable(UpstreamUnavailable):
    """No connection, a broken one, or a gateway that has none."""

    code = "service_unreachable"
    title = "Service unreachable"


class ServiceTimedOut(ServiceUnreachable):
    """No answer in time; the service may be working on it still."""

    code = "service_timed_out"
    title = "Service timed out"


def error_of(response: httpx2.Response) -> AppError:
    """The error that an answer of status 300 or above tells."""
    retry_after_s = retry_after_of(response)
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        kind = ServiceUnreachable if response.status_code in GATEWAY else AnswerNotUnderstood
        return kind(f"{response.request.url.host} answered {response.status_code}", retry_after_s=retry_after_s)
    facts = {"request_id": problem.request_id, **_scalars(problem.model_extra or {})}
    return _restored(problem.code, problem.detail, retry_after_s, facts, problem.status)


def failure_of(job: Job) -> AppError:
    """The error with which a job ended, as a caller who had waited would have met it."""
    if job.error is None:
        return JobFailed(f"job {job.id!r} was {job.state}", job_id=job.id)
    facts = {**_scalars(job.error.context), "job_id": job.id}
    return _restored(job.error.code, job.error.detail, job.error.retry_after_s, facts, job.error.status)


def retry_after_of(response: httpx2.Response) -> int | None:
    """Seconds the service asks to wait; None without the header, and for a date, which our service never sends."""
    found = re.fullmatch(r"[0-9]{1,6}", response.headers.get("Retry-After", "").strip())
    return None if found is None else int(found[0])


def _restored(
    code: str, message: str, retry_after_s: int | None, facts: dict[str, str | int | float], status: int
) -> AppError:
    error = AppError.restored(code, message, retry_after_s=retry_after_s, **facts)
    if error is not None:
        return error
    return RefusedByService(message, retry_after_s=retry_after_s, **{**facts, "status": status, "answered": code})


def _scalars(facts: dict[str, object]) -> dict[str, str | int | float]:
    return {
        name: value for name, value in facts.items() if isinstance(value, str | int | float) and name not in RESERVED
    }
