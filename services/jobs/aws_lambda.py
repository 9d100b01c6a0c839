"""Jobs in another Lambda function, invoked asynchronously."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from errors import TrainerUnavailable, TrainingCapacityExceeded
from services.jobs.executor import Submit

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

RETRY_AFTER_S = 30
TRAIN, RUN = "train", "run"


def training_event(job_id: str) -> dict[str, str]:
    return {"task": TRAIN, "job_id": job_id}


def run_event(piece: str) -> dict[str, str]:
    """The event for a round of a run, or for a chunk of it."""
    return {"task": RUN, "piece": piece}


def function_name(name_or_arn: str) -> str:
    """The bare name of a function, as the function itself knows it.

    >>> function_name("arn:aws:lambda:us-east-1:123456789012:function:trainer:live"), function_name("trainer:live")
    ('trainer', 'trainer')
    """
    return name_or_arn.rpartition("function:")[2].partition(":")[0]


class LambdaExecutor:
    """Invokes the trainer function once per job; Lambda queues the events.

    Args:
        function_name: name or ARN of the trainer function, which has the same handler as the serving one.
        event: the event for the id of a job, or of what else is submitted.
    """

    def __init__(self, function_name: str, event: Callable[[str], dict[str, str]] = training_event) -> None:
        self._function_name = function_name
        self._event = event
        self._client: LambdaClient | None = None
        self._building = threading.Lock()

    @property
    def name(self) -> str:
        return function_name(self._function_name)

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        # always room here: Lambda limits the trainer by its reserved concurrency and queues the rest
        yield self._invoke

    def close(self) -> None:
        pass  # no worker runs on this machine

    def _invoke(self, job_id: str) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        payload = json.dumps(self._event(job_id)).encode()
        try:
            self._lambda().invoke(FunctionName=self._function_name, InvocationType="Event", Payload=payload)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "TooManyRequestsException":
                raise TrainingCapacityExceeded(
                    "the trainer is busy; try again later", retry_after_s=RETRY_AFTER_S
                ) from error
            raise self._unavailable(code) from error
        except BotoCoreError as error:
            raise self._unavailable(type(error).__name__) from error

    def _unavailable(self, reason: str) -> TrainerUnavailable:
        return TrainerUnavailable(f"the trainer {self._function_name!r} could not be invoked: {reason}", reason=reason)

    def _lambda(self) -> "LambdaClient":
        import boto3
        from botocore.config import Config

        with self._building:
            if self._client is None:
                config = Config(
                    connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}
                )
                self._client = boto3.session.Session().client("lambda", config=config)
            return self._client
