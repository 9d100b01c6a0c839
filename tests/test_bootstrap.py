from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from bootstrap import FORKED, Runtime
from config import Settings
from services.jobs.fork_server import FORKS_ARE_SAFE
from tests.fakes import job_spec

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
JOB_ID = "20240719t220000-1a2b3c4d"


@pytest.mark.skipif(not FORKS_ARE_SAFE, reason="here, each worker is a program that imports what it needs")
@pytest.mark.parametrize(
    ("model", "kind"), [("return_lstm", "network"), ("ewma", "other"), ("gradient_boosting", "other")]
)
def test_only_trainings_of_networks_are_forked_from_a_process_with_torch(tmp_path: Path, model: str, kind: str) -> None:
    runtime = Runtime.from_settings(Settings(_env_file=None, data_dir=tmp_path))
    runtime.jobs.add(job_spec(JOB_ID, NOW, model=model))

    assert _command(runtime)[-2:] == [FORKED, kind]


@pytest.mark.skipif(not FORKS_ARE_SAFE, reason="here, each worker is a program that imports what it needs")
def test_a_job_that_cannot_be_read_has_a_worker_that_says_so(tmp_path: Path) -> None:
    runtime = Runtime.from_settings(Settings(_env_file=None, data_dir=tmp_path))

    assert _command(runtime)[-2:] == [FORKED, "network"]


def _command(runtime: Runtime) -> list[str]:
    command: list[str] = cast(Any, runtime.executor)._workers.of(JOB_ID)._command
    return command
