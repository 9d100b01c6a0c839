"""Where trainings keep their state, and which training continues which."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from models.base import Bars
from schemas.train import TrainRequest
from services.evaluation.splits import Split
from services.training.checkpoints import KEPT_FOR, Checkpoints, StoredCheckpoint

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
REQUEST = TrainRequest(universe="walks")
SPLIT = Split(range(19, 30), range(30, 35), range(35, 40), range(40, 45))
BARS = np.ones((46, 10))
LIBRARIES = {"torch": "2.9.0"}


def checkpoint(
    folder: Path,
    *,
    request: TrainRequest = REQUEST,
    start: bytes | None = None,
    libraries: dict[str, str] = LIBRARIES,
    bars: Bars = BARS,
    split: Split = SPLIT,
) -> StoredCheckpoint:
    return Checkpoints(folder).of(request, start, libraries, [("AAA", bars, split)])


def test_the_same_training_finds_its_state_in_another_process(tmp_path: Path) -> None:
    checkpoint(tmp_path).save(b"state")

    assert checkpoint(tmp_path).load() == b"state"


@pytest.mark.parametrize(
    "other",
    [
        {"request": TrainRequest(universe="walks", seed=1)},
        {"start": b"weights"},
        {"libraries": {"torch": "2.9.1"}},
        {"bars": BARS * 2},
        {"split": Split(range(20, 30), range(30, 35), range(35, 40), range(40, 45))},
    ],
    ids=["request", "start", "libraries", "prices", "blocks"],
)
def test_another_training_begins_again(tmp_path: Path, other: dict[str, object]) -> None:
    checkpoint(tmp_path).save(b"state")

    assert checkpoint(tmp_path, **other).load() is None  # type: ignore[arg-type]


def test_a_state_that_is_no_longer_needed_is_removed(tmp_path: Path) -> None:
    kept = checkpoint(tmp_path)
    kept.save(b"state")

    kept.remove()

    assert kept.load() is None
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("age", "stays"), [(KEPT_FOR - timedelta(hours=1), True), (KEPT_FOR * 1.1, False)])
def test_states_older_than_a_week_are_removed(tmp_path: Path, age: timedelta, stays: bool) -> None:
    checkpoint(tmp_path).save(b"state")
    (path,) = tmp_path.iterdir()
    saved_at = (NOW - age).timestamp()
    os.utime(path, (saved_at, saved_at))

    Checkpoints(tmp_path).remove_old(NOW)

    assert path.exists() == stays


@pytest.mark.parametrize(
    "use", [lambda kept: kept.save(b"state"), lambda kept: kept.load(), lambda kept: kept.remove()]
)
def test_a_disk_that_fails_ends_no_training(tmp_path: Path, use: Callable[[StoredCheckpoint], object]) -> None:
    folder = tmp_path / "a file"
    folder.write_text("")

    assert use(checkpoint(folder)) is None
