"""The executor against an HTTP server in the place of Lambda's API."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from errors import AppError, TrainerUnavailable, TrainingCapacityExceeded
from services.jobs.aws_lambda import LambdaExecutor
from tests.processes import QuietHandler, free_port, serving

JOB = "20240719t220000-1a2b3c4d"
Received = list[tuple[str, str, object]]


@contextmanager
def lambda_api(status: int, error: str | None = None) -> Iterator[tuple[str, Received]]:
    received: Received = []

    class Api(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - named by http.server
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.append((self.path, self.headers["X-Amz-Invocation-Type"], body))
            self.send_response(status)
            if error is not None:
                self.send_header("X-Amzn-ErrorType", error)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    with serving(Api) as url:
        yield url, received


def submit(executor: LambdaExecutor) -> None:
    with executor.slot() as submit:
        submit(JOB)


def test_a_job_is_an_asynchronous_invocation(monkeypatch: pytest.MonkeyPatch) -> None:
    with lambda_api(202) as (url, received):
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)

        submit(LambdaExecutor("trainer"))

    path = "/2015-03-31/functions/trainer/invocations"
    assert received == [(path, "Event", {"task": "train", "job_id": JOB})]


@pytest.mark.parametrize(
    ("status", "code", "kind", "retry_after_s"),
    [
        (403, "AccessDeniedException", TrainerUnavailable, None),
        (404, "ResourceNotFoundException", TrainerUnavailable, None),
        (429, "TooManyRequestsException", TrainingCapacityExceeded, 30),
        (500, "ServiceException", TrainerUnavailable, None),
    ],
)
def test_a_refusal_of_lambda_is_named(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, kind: type[AppError], retry_after_s: int | None
) -> None:
    with lambda_api(status, code) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)

        with pytest.raises(kind, match=r"trainer") as refusal:
            submit(LambdaExecutor("trainer"))

    assert refusal.value.retry_after_s == retry_after_s


def test_lambda_out_of_reach_is_an_unavailable_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{free_port()}")

    with pytest.raises(TrainerUnavailable, match="EndpointConnectionError"):
        submit(LambdaExecutor("trainer"))
