"""Holds what starting up and answering may load: a cold start pays for every import."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.storage.registry import ModelRegistry
from services.storage.store import LocalArtifactStore
from services.training.train import TrainedModel
from tests.aws.events import function_url_event, read_answer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent

TRAINING = {"torch", "pytorch_lightning", "lightning", "lightning_fabric", "safetensors", "onnx", "onnxscript"}
PRICES = {"yfinance", "curl_cffi", "pandas", "exchange_calendars", "arch"}
NUMERICS = {"sklearn", "scipy", "statsmodels", "matplotlib"}
AWS = {"boto3", "botocore"}
SERVING = {"onnxruntime"}
WEB = {"fastapi", "starlette", "mangum", "uvicorn"}
SCRAPED = {"prometheus_client", "psutil"}
UP = function_url_event("GET", "/up")

# Runs in a fresh interpreter: imports the application, answers events, reports what came of it.
PROBE = """
import json, sys
import app
answers = [app.handler(event, None) for event in json.load(sys.stdin)]
loaded = sorted({name.partition(".")[0] for name in sys.modules})
json.dump({"answers": answers, "loaded": loaded}, sys.stdout)
"""


@pytest.mark.parametrize(
    "chosen", [{}, {"S3_BUCKET_NAME": "models", "PRICE_SOURCE": "yahoo"}], ids=["answering /up", "naming a bucket"]
)
def test_nothing_heavy_is_loaded(tmp_path: Path, chosen: dict[str, str]) -> None:
    loaded = _loaded_by(tmp_path, UP, **chosen)

    assert loaded & (TRAINING | PRICES | NUMERICS | AWS | SERVING) == set()


def test_importing_the_application_builds_and_sets_nothing(tmp_path: Path) -> None:
    probe = (
        "import logging, os; before = dict(os.environ); import app; "
        "assert 'app' not in vars(app) and 'handler' not in vars(app); "
        "assert os.environ == before and not logging.getLogger().handlers"
    )

    _run(probe, tmp_path, LOG_FORMAT="json", DATA_DIR=str(tmp_path / "data"))

    assert list(tmp_path.iterdir()) == []


def test_the_worker_of_lambda_loads_no_web_framework(tmp_path: Path) -> None:
    probe = (
        "import json, sys, worker; "
        "worker.handler({'task': 'score'}, None); "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )

    loaded = json.loads(_run(probe, tmp_path, AWS_LAMBDA_FUNCTION_NAME="trainer").splitlines()[-1])

    assert set(loaded) & (WEB | TRAINING) == set()


def test_lambda_loads_nothing_that_is_there_to_be_scraped(tmp_path: Path) -> None:
    loaded = _loaded_by(tmp_path, function_url_event("GET", "/health"), AWS_LAMBDA_FUNCTION_NAME="serve")

    assert loaded & SCRAPED == set()


def test_forecasts_load_only_what_serves_them(tmp_path: Path, trained: TrainedModel) -> None:
    ModelRegistry(LocalArtifactStore(tmp_path)).publish(trained.card, trained.files)
    path, body = f"/models/{trained.card.model_id}", {"ticker": "^GSPC"}
    events = [function_url_event("POST", f"{path}/{route}", body) for route in ("predict", "forecast")]

    loaded = _loaded_by(tmp_path, *events)

    assert loaded >= SERVING
    assert loaded & (TRAINING | NUMERICS | AWS | {"yfinance", "curl_cffi", "arch"}) == set()


def _loaded_by(folder: Path, *events: dict[str, Any], **settings: str) -> set[str]:
    """Top-level modules of a fresh interpreter that imported the application and answered the events with 200."""
    report = json.loads(_run(PROBE, folder, json.dumps(events), **settings).splitlines()[-1])  # metrics come before
    assert [read_answer(answer).status for answer in report["answers"]] == [200] * len(events)
    return set(report["loaded"])


def _run(probe: str, folder: Path, given: str = "", **settings: str) -> str:
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(folder),
        "DATA_DIR": str(folder),
        "PRICE_SOURCE": "sample",
        **settings,
    }
    done = subprocess.run(
        [sys.executable, "-c", probe],
        input=given,
        env=environment,
        cwd=folder,  # where no .env lies
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
