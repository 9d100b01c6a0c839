"""A worker process whose phases take minutes, for the test that cancels each: ``slow_worker.py DATA_DIR``.

Reads ``PHASE JOB_ID`` lines from standard input, works on each job in its main thread as ``worker.py`` does, and prints
a line when it is free again. Only the phase that is named is slow: its real work is done over and over.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import models.baselines.gjr_garch as garch
import models.baselines.gradient_boosting as boosting
import models.lstm.forecaster as network
import services.jobs.heartbeat
import worker
from bootstrap import Runtime
from config import Settings
from models.runtime import OnnxForecaster
from services.jobs.heartbeat import Heartbeat
from services.jobs.job import END
from services.prices.series import PriceHistory
from services.storage.registry import CARD
from services.storage.store import LocalArtifactStore
from telemetry.measures import NO_METER
from tests.fakes import FakePriceSource, walk_history

SLOW_S = 120.0
BEAT_S = 0.25  # that learns of the end: at the interval of real workers, each case would compute for seconds

slow = ""  # the phase that is
now = ""  # the phase that the worker is in


class SlowSource(FakePriceSource):
    """Waits for its prices, as for a server that does not answer."""

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        if slow == "fetch":
            time.sleep(SLOW_S)
        return super().history(ticker, now)


class SlowStore(LocalArtifactStore):
    """Stores the card of a model, whose files are there already, only once a job has ended."""

    def put(self, key: str, data: bytes) -> None:
        if slow == "publish" and key.endswith(CARD):
            ended, until = self.ends(), time.monotonic() + SLOW_S
            while self.ends() == ended and time.monotonic() < until:
                time.sleep(0.1)
        super().put(key, data)

    def ends(self) -> list[str]:
        return [key for key in self.list_keys("jobs/") if key.endswith(END)]


def repeated(function: Callable[..., Any], when: Callable[[], bool]) -> Callable[..., Any]:
    """The function, which does its work again and again while it should be slow."""

    def repeating(*args: Any, **options: Any) -> Any:
        until = time.monotonic() + SLOW_S
        while when() and time.monotonic() < until:
            function(*args, **options)
        return function(*args, **options)

    return repeating


def trained_once(train: Callable[..., Any]) -> Callable[..., Any]:
    """The first fit with one epoch, which asks for a second fit of very many."""

    def training(blocks: Any, held_out: Any, recipe: Any, settings: Any, on_epoch: Any) -> Any:
        if slow != "refit" or held_out is None:
            return train(blocks, held_out, recipe, settings, on_epoch)
        fitted, report = train(blocks, held_out, recipe, replace(settings, max_epochs=1), on_epoch)
        return fitted, replace(report, best_epoch=100_000)

    return training


def main() -> None:
    global slow
    recorded = Heartbeat.phase

    def phase(self: Heartbeat, name: Any, done: float = 0.0) -> None:
        global now  # noqa: PLW0603 - one worker in this process
        now = name
        recorded(self, name, done)

    cast(Any, Heartbeat).phase = phase
    predict = repeated(OnnxForecaster.predict_quantiles, lambda: slow == now and slow in ("calibrate", "test"))
    cast(Any, OnnxForecaster).predict_quantiles = predict
    cast(Any, network)._train = trained_once(network._train)
    cast(Any, garch)._maximum_likelihood = repeated(garch._maximum_likelihood, lambda: slow == "fit")
    cast(Any, services.jobs.heartbeat).BEAT_S = BEAT_S
    settings = Settings(_env_file=None, data_dir=Path(sys.argv[1]))
    prices = SlowSource(walk_history(n_sessions=900))
    runtime = Runtime.from_settings(settings, meter=NO_METER, store=SlowStore(settings.data_dir), prices=prices)
    for line in sys.stdin:
        slow, job_id = line.split()
        cast(Any, boosting).N_TREES = 10**6 if slow == "fit" else 20
        worker.work(runtime, job_id)
        sys.stdout.write(f"{job_id}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
