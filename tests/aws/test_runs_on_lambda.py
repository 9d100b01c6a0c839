"""A run by the functions of Lambda: the same models as by processes of this machine."""

import csv
import io
import time
from pathlib import Path
from typing import Any

import pytest

from bootstrap import Runtime
from clock import utc_now
from config import Settings
from models.fitting import PARAMETERS
from schemas.run import RunRequest, RunSpec
from services.runs.actions import training_request
from services.training.train import train_model
from tests.fakes import EMPTY_REGISTRY
from tests.lambda_runtime import LambdaRuntime

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0
RUN = {
    "action": "train",
    "training": {"model": "ewma", "start_date": "2016-01-01", "end_date": "2018-12-31"},
    "tickers": ["^GSPC", "NOPE", "^IXIC"],
}


def ended(function: LambdaRuntime, location: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        run: dict[str, Any] = function.request("GET", location).json()
        if run["ended_at"] is not None:
            return run
        assert time.monotonic() < deadline, function.log_tail()
        time.sleep(0.3)


def test_a_run_gives_the_models_that_it_gives_elsewhere(function: LambdaRuntime, tmp_path: Path) -> None:
    location = function.request("POST", "/runs", RUN, status=202).headers["location"]

    run = ended(function, location)
    tickers = function.request("GET", f"{location}/tickers").json()["tickers"]
    rows = list(csv.DictReader(io.StringIO(function.request("GET", f"{location}/results").content.decode())))

    assert (run["state"], run["engine"], run["counts"]["succeeded"]) == ("partial", "lambda", 2)
    assert [(one["ticker"], one["code"]) for one in run["failures"]] == [("NOPE", "ticker_not_found")]
    here = Runtime.from_settings(Settings(_env_file=None, data_dir=tmp_path, price_source="sample"))
    for one in tickers:
        if one["state"] == "succeeded":
            assert one["weights_sha256"] == weights_here(here, one["ticker"])
    assert {row["ticker"] for row in rows} == {"^GSPC", "NOPE", "^IXIC"}


def weights_here(here: Runtime, ticker: str) -> str:
    """The digest of the same model, trained in this process."""
    request = RunRequest.model_validate(RUN)
    spec = RunSpec(
        id="20240719t220000-00000000", created_at=utc_now(), request=request.without_tickers(), tickers=request.tickers
    )
    model = train_model(
        training_request(spec, ticker), here.model_prices, EMPTY_REGISTRY, "m-1", utc_now(), lambda _: None
    )
    return model.card.files[PARAMETERS].sha256
