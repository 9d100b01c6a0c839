"""Shared by both clients: addresses, queries, errors of answers, and pauses between tries."""

import json
import random
import re
import time
from collections.abc import Mapping
from datetime import date
from http import HTTPStatus
from typing import Literal, TypedDict, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from stock_forecast_client.errors import (
    InvalidRequest,
    ServiceTimedOut,
    ServiceUnreachable,
    StockForecastError,
    StoreUnavailable,
    TooManyRequests,
    UnexpectedResponse,
    UpstreamUnavailable,
    error_from,
)

Method = Literal["GET", "POST", "PUT", "DELETE"]
Day = date | str
Query = Mapping[str, Day | int | None]
AnswerT = TypeVar("AnswerT", bound=BaseModel)

CONNECT_TIMEOUT_S = 10.0
LONG_TIMEOUT_S = 900.0  # of what a service computes for one answer, such as the scores of many tickers
BACKTEST_WAIT_S = 20  # for the answer itself: a service cancels a backtest whose caller is gone before that
MAX_PAUSE_S = 10.0  # a service that asks for a longer pause is not tried again
PATIENCE_S = 300.0  # with a store that fails while a job is followed
POLL_S = 2.0  # between two looks at a job, where the service names no pause
PAGE_SIZE = 100

_GATEWAY = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
_OF_PROBLEM = {"type", "title", "status", "detail", "code"}


class HttpOptions(TypedDict):
    """Arguments for an ``httpx2`` client of either kind."""

    base_url: httpx2.URL
    headers: dict[str, str]
    timeout: httpx2.Timeout


def http_options(url: str, api_key: str | None, timeout_s: float) -> HttpOptions:
    """Build the options; ``InvalidRequest`` if the address is not an http or https address."""
    try:
        address = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise InvalidRequest(f"expected an address such as http://localhost:8000, found {url!r}: {error}") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise InvalidRequest(f"expected an address such as http://localhost:8000, found {url!r}")
    return {
        "base_url": address,
        "headers": {"Accept": "application/json", **({} if api_key is None else {"X-API-Key": api_key})},
        "timeout": timeout(timeout_s),
    }


def timeout(seconds: float) -> httpx2.Timeout:
    return httpx2.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT_S))


def segment(text: str) -> str:
    """Text as one segment of a path."""
    return quote(text, safe="")


def query_of(query: Query | None) -> dict[str, str]:
    """The parameters that have a value; the others take the service's defaults."""
    return {name: str(value) for name, value in (query or {}).items() if value is not None}


def read(response: httpx2.Response, kind: type[AnswerT]) -> AnswerT:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise UnexpectedResponse(f"the answer of {response.request.url} is not a {kind.__name__}") from error


def retry_after_s(response: httpx2.Response) -> int | None:
    """Seconds in ``Retry-After``; None without the header, and for a date, which the service never sends."""
    found = re.fullmatch(r"[0-9]{1,6}", response.headers.get("Retry-After", "").strip())
    return None if found is None else int(found[0])


def connection_error(error: httpx2.RequestError) -> ServiceUnreachable:
    url = error.request.url
    host = url.host if url.port is None else f"{url.host}:{url.port}"
    if isinstance(error, httpx2.TimeoutException):
        return ServiceTimedOut(f"{host} did not answer in time")
    reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error))  # the number is the operating system's
    return ServiceUnreachable(f"cannot reach {host}: {reason}")


def error_of(response: httpx2.Response) -> StockForecastError:
    """The error that an unsuccessful answer describes."""
    try:
        problem = json.loads(response.content)
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, TypeError, KeyError):
        kind = ServiceUnreachable if response.status_code in _GATEWAY else UnexpectedResponse
        return kind(
            f"{response.request.url.host} answered {response.status_code} without a description of the problem",
            retry_after_s=retry_after_s(response),
        )
    facts = {name: value for name, value in problem.items() if name not in _OF_PROBLEM}
    return error_from(code, detail, response.status_code, retry_after_s=retry_after_s(response), context=facts)


class Patience:
    """How long a job or a run is followed although the service cannot read it; ``name`` is what errors call its id."""

    def __init__(self, followed: str, name: str = "job_id") -> None:
        self._followed = followed
        self._name = name
        self._since: float | None = None

    def renew(self) -> None:
        """Begin again: it was read."""
        self._since = None

    def bear(self, error: StockForecastError) -> None:
        """Return if it may be read later; else raise the error, with its id."""
        self._since = self._since or time.monotonic()
        if not isinstance(error, StoreUnavailable) or time.monotonic() - self._since > PATIENCE_S:
            error.context[self._name] = self._followed
            raise error


def pause_s(error: StockForecastError, attempt: int) -> float | None:
    """Seconds before the next try; None where another try makes no sense.

    After a time-out the service may still be working, so the call is not repeated.
    """
    if not isinstance(error, UpstreamUnavailable | TooManyRequests) or isinstance(error, ServiceTimedOut):
        return None
    if error.retry_after_s is None:
        return random.uniform(0, min(MAX_PAUSE_S, 0.5 * 2 ** (attempt - 1)))  # noqa: S311 - spreads callers out
    return error.retry_after_s if error.retry_after_s <= MAX_PAUSE_S else None
