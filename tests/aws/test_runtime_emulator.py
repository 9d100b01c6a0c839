"""The whole path on Lambda's own runtime: train, store in S3, predict, forecast, read, delete."""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from models.fitting import NETWORK, WEIGHTS
from services.storage.registry import CALIBRATION, CARD, ModelRegistry
from services.storage.s3 import S3ArtifactStore
from tests.lambda_runtime import LambdaRuntime, lambda_runtime
from tests.s3_servers import S3Server

pytestmark = pytest.mark.slow

FILES = (CALIBRATION, CARD, NETWORK, WEIGHTS)
TRAINING = {"ticker": "^GSPC", "start_date": "2010-01-01", "end_date": "2018-12-31", "epochs": 2, "max_seconds": 30}
SMALL_TRAINING = TRAINING | {"start_date": "2016-01-01", "sequence_length": 20, "epochs": 1}
LAST_CLOSE = 2506.85  # of the S&P 500 on 31 December 2018
NEXT_TEN_SESSIONS = [date(2019, 1, day).isoformat() for day in (2, 3, 4, 7, 8, 9, 10, 11, 14, 15)]


@pytest.fixture(scope="module")
def trained_answer(function: LambdaRuntime) -> dict[str, Any]:
    result: dict[str, Any] = function.request("POST", "/models/train", TRAINING).json()["result"]
    return result


@pytest.fixture(scope="module")
def model_id(trained_answer: dict[str, Any]) -> str:
    return str(trained_answer["id"])


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[S3ArtifactStore]:
    with closing(S3ArtifactStore(s3_server.bucket, s3_server.endpoint_url)) as store:
        yield store


def test_a_problem_is_an_answer_and_no_failed_invocation(function: LambdaRuntime) -> None:
    answer = function.request("GET", "/models/no-such-model", status=404)

    assert answer.json()["code"] == "model_not_found"


def test_training_reports_its_errors_and_those_of_persistence(trained_answer: dict[str, Any]) -> None:
    for part in ("train", "test"):
        model, persistence = trained_answer["metrics"][part], trained_answer[part]["persistence"]

        assert model.keys() == {"mae", "mape", "rmse", "r2"}
        assert 0 < model["mape"] < 0.05
        assert 0 < persistence["mape"] < 0.05


def test_training_puts_the_whole_model_into_the_bucket(
    function: LambdaRuntime, model_id: str, bucket: S3ArtifactStore
) -> None:
    keys = bucket.list_keys(f"models/{model_id}/")

    assert keys == sorted(f"models/{model_id}/{name}" for name in FILES)
    assert _files_below(function.data) == []  # and nowhere else


def test_the_card_is_read_from_the_bucket(function: LambdaRuntime, model_id: str, bucket: S3ArtifactStore) -> None:
    answer = function.request("GET", f"/models/{model_id}")

    card = answer.json()
    (series,) = card["series"]
    assert (card["model_id"], series["ticker"], series["data"]["source"]) == (model_id, "^GSPC", "sample")
    assert series["data"]["last_session"] == "2018-12-31"
    assert card == ModelRegistry(bucket).card(model_id).model_dump(mode="json")


def test_training_that_is_asked_for_asynchronously_is_a_job_that_shows_its_progress(function: LambdaRuntime) -> None:
    headers = {"prefer": "respond-async"}
    accepted = function.request("POST", "/models/train", SMALL_TRAINING | {"epochs": 20}, status=202, headers=headers)
    location = accepted.headers["location"]

    states = []
    while True:
        job = function.request("GET", location).json()
        states.append((job["state"], job["progress"] and job["progress"]["epoch"]))
        if job["ended_at"] is not None:
            break
        time.sleep(0.3)

    assert job["state"] == "succeeded", job
    assert job["result"]["id"] == job["model_id"]
    assert ("running", 0) in states
    assert len(job["progress"]["validation_losses"]) == job["progress"]["epoch"] > 0


@pytest.mark.usefixtures("emulator")
def test_a_training_event_of_a_job_that_is_none_fails_the_invocation(tmp_path: Path) -> None:
    with lambda_runtime(tmp_path / "alone", {}) as runtime:  # the shared trainer may still be busy
        result = runtime.invoke({"task": "train", "job_id": "20240719t220000-00000000"})

    assert result["errorType"] == "JobNotFound"


def test_predict_answers_the_next_session(function: LambdaRuntime, model_id: str) -> None:
    answer = function.request("POST", f"/models/{model_id}/predict", {"levels": [0.8, 0.95]}).json()

    assert (answer["last_session"], answer["target_session"]) == ("2018-12-31", NEXT_TEN_SESSIONS[0])
    assert answer["persistence"] == answer["last_close"] == pytest.approx(LAST_CLOSE, abs=0.01)
    assert answer["prediction"] == [pytest.approx(LAST_CLOSE, rel=0.05)]
    assert_nested(answer["intervals"], answer["prediction"][0])
    assert answer["test"]["persistence"]["mae"] > 0
    assert answer == function.request("POST", f"/models/{model_id}/predict", {"levels": [0.8, 0.95]}).json()


def test_forecast_answers_the_exchanges_next_ten_sessions(function: LambdaRuntime, model_id: str) -> None:
    body = {"horizon": 10, "levels": [0.8, 0.95]}

    steps = function.request("POST", f"/models/{model_id}/forecast", body).json()["forecast"]

    assert [step["step"] for step in steps] == list(range(1, 11))
    assert [step["session"] for step in steps] == NEXT_TEN_SESSIONS  # no weekend, no New Year
    assert [step["persistence"] for step in steps] == [pytest.approx(LAST_CLOSE, abs=0.01)] * 10
    for step in steps:
        assert_nested(step["intervals"], step["price"])
    for near, far in zip(steps[0]["intervals"], steps[-1]["intervals"], strict=True):
        assert far["upper"] - far["lower"] > near["upper"] - near["lower"]


def test_delete_leaves_nothing_in_the_bucket(function: LambdaRuntime, bucket: S3ArtifactStore) -> None:
    model_id = function.request("POST", "/models/train", SMALL_TRAINING).json()["result"]["id"]

    function.request("DELETE", f"/models/{model_id}", status=204)

    assert bucket.list_keys(f"models/{model_id}/") == []
    function.request("GET", f"/models/{model_id}", status=404)


def test_working_and_home_directory_stay_as_they_were(function: LambdaRuntime, model_id: str) -> None:
    function.request("POST", f"/models/{model_id}/predict")

    assert _files_below(function.task) == _files_below(function.home) == []


def test_a_training_without_its_bucket_is_refused_before_it_begins(function_without_bucket: LambdaRuntime) -> None:
    problem = function_without_bucket.request("POST", "/models/train", SMALL_TRAINING, status=503).json()

    assert (problem["code"], problem["operation"]) == ("store_unavailable", "create")
    assert function_without_bucket.request("GET", "/up").status == 200


def test_reading_without_the_bucket_says_when_to_try_again(function_without_bucket: LambdaRuntime) -> None:
    answer = function_without_bucket.request("GET", "/models/some-model", status=503)

    assert answer.json()["code"] == "store_unavailable"
    assert int(answer.headers["retry-after"]) > 0


def assert_nested(intervals: list[dict[str, float]], price: float) -> None:
    """Levels ascend, and each interval lies strictly inside the next, around the price."""
    assert [interval["level"] for interval in intervals] == [0.8, 0.95]
    for inner, outer in pairwise(intervals):
        assert outer["lower"] < inner["lower"] < price < inner["upper"] < outer["upper"]


def _files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
