import logging
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.jobs.installation import KEY, installation_id


def test_the_id_is_made_once_and_lives_in_the_folder(tmp_path: Path) -> None:
    first = installation_id(tmp_path / "data")

    assert re.fullmatch(r"local-[0-9a-f]{8}", first)
    assert installation_id(tmp_path / "data") == first
    assert installation_id(tmp_path / "other") != first


def test_processes_that_begin_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        ids = set(threads.map(lambda _: installation_id(tmp_path), range(64)))

    assert len(ids) == 1


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"local-1a2b", b"../../etc/passwd"])
def test_a_damaged_id_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEY).parent.mkdir(parents=True)
    (tmp_path / KEY).write_bytes(content)

    made = installation_id(tmp_path)

    assert re.fullmatch(r"local-[0-9a-f]{8}", made)
    assert installation_id(tmp_path) == made


def test_a_folder_that_cannot_be_written_has_a_stable_id_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.touch()

    with caplog.at_level(logging.WARNING):
        first = installation_id(not_a_folder)

    assert installation_id(not_a_folder) == first
    assert re.fullmatch(r"local-[0-9a-f]{8}", first)
    assert first in caplog.text
