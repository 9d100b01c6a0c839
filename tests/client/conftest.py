"""Services of tests that answer what a script says, and keep the requests."""

from collections.abc import Iterator

import httpx2

from stock_forecast_client import Client

Answer = httpx2.Response | Exception
JOB_ID = "20261121t093000-1a2b3c4d"


class Script:
    """Answers one after the other, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self._answers: Iterator[Answer] = iter(answers)
        self._last: Answer = answers[-1]
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = next(self._answers, self._last)
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def client(self, attempts: int = 3, poll_s: float | None = None) -> Client:
        return Client("http://service", attempts=attempts, poll_s=poll_s, transport=httpx2.MockTransport(self))


def client_of(*answers: Answer, attempts: int = 3) -> Client:
    return Script(*answers).client(attempts)


def problem(code: str, status: int, retry_after: int | None = None, **facts: object) -> httpx2.Response:
    body = {"type": f"urn:stock-forecast:{code}", "title": code, "status": status, "detail": "why", "code": code}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return httpx2.Response(status, json={**body, "request_id": "r1", **facts}, headers=headers)


def job_body(state: str, **changes: object) -> dict[str, object]:
    """A job in this state, as the service sends it."""
    moment = "2026-11-21T09:30:00Z"
    body = {
        "id": JOB_ID,
        "state": state,
        "cancel_requested": False,
        "created_at": moment,
        "started_at": moment,
        "ended_at": moment if state == "succeeded" else None,
        "model_id": "gspc-20261121-1a2b3c4d",
        "request": {"ticker": "^GSPC"},
        "retry_of": None,
        "progress": None,
        "result": None,
        "error": None,
    }
    return body | changes
