"""The Lambda runtime on loopback: the real runtime client behind the real runtime interface emulator."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any

from tests.aws.events import Answer, function_url_event, read_answer
from tests.processes import dies_with_us, free_port, listens

ROOT = Path(__file__).parent.parent
EMULATOR = ROOT / ".venv/bin/aws-lambda-rie"
EMULATOR_MISSING = f"{EMULATOR.relative_to(ROOT)} is not there: make {EMULATOR.relative_to(ROOT)}"

FUNCTION_NAME = "forecast"
FUNCTION_TIMEOUT_S = 900  # the longest that Lambda grants
INVOKE_TIMEOUT_S = 90.0
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
LOG_TAIL = 4000  # characters shown when something fails


@dataclass(frozen=True)
class LambdaRuntime:
    """A running emulator; the function itself starts with the first invocation, as a cold Lambda does.

    Attributes:
        port: of the invocation interface.
        task: the function's working directory, read-only on Lambda.
        home: the function's HOME, which does not exist on Lambda.
        data: the function's DATA_DIR, the one folder it may write to.
        log_file: what emulator and function print.
    """

    port: int
    task: Path
    home: Path
    data: Path
    log_file: Path

    def invoke(self, event: Any) -> Any:
        """What the handler returned, or Lambda's error document (``errorType``, ``errorMessage``)."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=INVOKE_TIMEOUT_S)
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        status: int = 200,
        query: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer to a function-URL event; anything but ``status`` fails the test and shows the log."""
        result = self.invoke(function_url_event(method, path, body, query=query, headers=headers))
        assert "statusCode" in result, f"{result}\n{self.log_tail()}"
        answer = read_answer(result)
        assert answer.status == status, f"{answer.content.decode()}\n{self.log_tail()}"
        return answer

    def log_tail(self) -> str:
        """The end of what emulator and function printed."""
        return self.log_file.read_text(errors="replace")[-LOG_TAIL:]


@contextmanager
def lambda_runtime(
    folder: Path, environment: Mapping[str, str], handler: str = "app.handler"
) -> Iterator[LambdaRuntime]:
    """``handler`` under emulator and runtime client until the block ends; ``folder`` is empty and ours.

    The function sees ``environment`` and what Lambda sets, nothing of ours. Its working directory,
    HOME and DATA_DIR are three folders, so that a test can look what was written where.
    """
    task, home, data = (folder / name for name in ("task", "home", "data"))
    for created in (task, home, data):
        created.mkdir(parents=True)
    port, api_port, log_file = free_port(), free_port(), folder / "log"
    given = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "HOME": str(home),
        "DATA_DIR": str(data),
        "NO_PROXY": "127.0.0.1,localhost",
        "LAMBDA_TASK_ROOT": str(task),
        "AWS_LAMBDA_FUNCTION_NAME": FUNCTION_NAME,
        "OPEN": "yes",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(FUNCTION_TIMEOUT_S),
        **environment,
    }
    command = [
        *dies_with_us(),
        *(str(EMULATOR), "--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
        *("--runtime-api-address", f"127.0.0.1:{api_port}"),
        *(sys.executable, "-m", "awslambdaric", handler),
    ]
    with log_file.open("wb") as log, _session(command, task, given, log):
        runtime = LambdaRuntime(port, task, home, data, log_file)
        _wait_until_listening(runtime)
        yield runtime


@contextmanager
def _session(command: list[str], cwd: Path, environment: Mapping[str, str], log: IO[bytes]) -> Iterator[None]:
    """A process in a session of its own, of which nothing is left when the block ends."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()  # the emulator then kills the function
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        for pid in _processes_of(process.pid):  # the function has a process group of its own, but our session
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _processes_of(session: int) -> list[int]:
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            _state, _parent, _group, session_id = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session_id) == session:
                members.append(int(stat.parent.name))
    return members


def _wait_until_listening(runtime: LambdaRuntime) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not listens(runtime.port):
        assert time.monotonic() < deadline, f"no emulator after {START_TIMEOUT_S} s\n{runtime.log_tail()}"
        time.sleep(0.02)
