import os
import signal
import subprocess
from pathlib import Path

import pytest
import requests

from services.jobs.fork_server import FORKS_ARE_SAFE
from tests.forked_servers import ForkedServers
from tests.processes import free_port

pytestmark = pytest.mark.skipif(not FORKS_ARE_SAFE, reason="here, each server is a program")


def test_servers_have_settings_of_their_own(servers: ForkedServers, tmp_path: Path) -> None:
    with (
        servers.running({"PRICE_SOURCE": "sample", "DATA_DIR": str(tmp_path)}) as open_to_all,
        servers.running({"DATA_DIR": str(tmp_path), "API_KEY": "a-key-of-more-than-twenty-characters"}) as guarded,
    ):
        answers = [requests.get(f"{url}/models", timeout=30).status_code for url in (open_to_all, guarded)]

    assert answers == [200, 401]


def test_the_end_of_a_server_is_that_of_the_process(servers: ForkedServers, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        server = servers.start({"PORT": str(free_port()), "DATA_DIR": str(tmp_path)}, log)
        assert server.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(0.01)

        os.kill(server.pid, signal.SIGKILL)

        assert server.wait(30) == server.poll() == -signal.SIGKILL
        server.terminate()
