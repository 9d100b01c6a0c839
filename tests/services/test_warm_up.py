import gc
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bootstrap import bundled_model
from config import Settings
from services.storage.bundled import BundledModel
from services.storage.registry import ModelRegistry
from services.warm_up import until_done, warm_up
from tests.fakes import InMemoryArtifactStore

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


class UnreadStore(InMemoryArtifactStore):
    def get(self, key: str) -> bytes:
        raise AssertionError(f"read {key}")


def test_the_bundled_model_is_loaded_without_the_store() -> None:
    registry = ModelRegistry(UnreadStore(), bundled_model(Settings(_env_file=None)))

    warm_up(registry, NOW)

    assert registry.bundled is not None
    assert registry.load_seconds(registry.bundled) is not None


def test_what_serves_forecasts_is_imported_and_nothing_that_trains() -> None:
    probe = (
        "import sys; from datetime import UTC, datetime\n"
        "from bootstrap import bundled_model; from config import Settings\n"
        "from services.storage.registry import ModelRegistry; from services.warm_up import until_done, warm_up\n"
        "from services.storage.store import LocalArtifactStore; from pathlib import Path\n"
        "warm_up(ModelRegistry(LocalArtifactStore(Path('none')), bundled_model(Settings(_env_file=None))), "
        "datetime(2024, 7, 19, 22, tzinfo=UTC))\n"
        "print(*[name for name in ('onnxruntime', 'pandas', 'exchange_calendars', 'torch', 'yfinance')"
        " if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["onnxruntime", "pandas", "exchange_calendars"]


def test_a_bundled_model_that_is_broken_stops_no_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = bundled_model(Settings(_env_file=None))
    broken = BundledModel(tmp_path / "none.onnx", good.metadata)

    warm_up(ModelRegistry(UnreadStore(), broken), NOW)

    assert "not warmed up" in caplog.text


def test_what_is_loaded_is_kept_out_of_garbage_collections() -> None:
    warm_up(ModelRegistry(InMemoryArtifactStore()), datetime(2024, 7, 19, tzinfo=UTC))

    assert gc.get_freeze_count() > 10_000


def test_a_step_that_fails_is_tried_again_until_it_is_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("services.warm_up.FIRST_PAUSE_S", 0.01)
    errors = [OSError(24, "Too many open files"), ImportError("half a library")]

    def step() -> None:
        if errors:
            raise errors.pop()

    until_done(step, threading.Event(), "warm-up")

    assert errors == []
    assert caplog.text.count("warm-up failed; next try in") == 2


def test_a_step_is_not_tried_again_once_the_server_ends() -> None:
    stopping = threading.Event()
    tried = []

    def step() -> None:
        tried.append(1)
        stopping.set()
        raise OSError

    until_done(step, stopping, "warm-up")

    assert tried == [1]
