"""The protocol over h11, which uvicorn uses without httptools; the other tests here run over httptools."""

from pathlib import Path

import pytest

from tests.server.conftest import RunningServer, Start
from tests.server.test_connections import (
    test_a_client_that_never_reads_its_answer_is_cut_off,
    test_a_head_that_drips_is_answered_408_and_closed,
    test_a_head_that_is_too_large_is_refused,
    test_a_kept_alive_connection_that_sends_nothing_more_is_closed,
    test_an_upgrade_to_a_web_socket_is_answered_as_any_request,
    test_half_closed_sockets_leave_no_file_open,
    test_what_is_not_http_is_a_problem_too,
)

pytestmark = pytest.mark.slow

__all__ = [
    "test_a_client_that_never_reads_its_answer_is_cut_off",
    "test_a_head_that_drips_is_answered_408_and_closed",
    "test_a_head_that_is_too_large_is_refused",
    "test_a_kept_alive_connection_that_sends_nothing_more_is_closed",
    "test_an_upgrade_to_a_web_socket_is_answered_as_any_request",
    "test_half_closed_sockets_leave_no_file_open",
    "test_what_is_not_http_is_a_problem_too",
]


@pytest.fixture(scope="module")
def server(start: Start, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    folder: Path = tmp_path_factory.mktemp("without")
    (folder / "httptools.py").write_text("raise ImportError('hidden by a test')\n")
    return start(PYTHONPATH=str(folder))
