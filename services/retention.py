"""Delete what is older than the retention: records, scores, jobs, runs and caches; never a model or what names one.

The age is the one that a key or a document states. The time of a file would change with every copy.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from functools import partial

from pydantic import BaseModel, ValidationError

from errors import AppError, ArtifactNotFound
from schemas.retention import ForgetReport
from schemas.run import RUN_ID_PATTERN
from services.analyses import ANALYSES
from services.forecasting.replays import REPLAYS
from services.jobs.job import JOBS, KEYS, SPEC
from services.monitoring.forecast_log import FORECASTS
from services.monitoring.scoring import SCORES
from services.prices.cache.kept import PRICES, fetched_on
from services.runs.pieces import RUNS
from services.storage.store import ArtifactStore
from services.webhooks.deliveries import WEBHOOKS

WORKERS = 8  # enough to hide the latency of S3

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_RUN_ID = re.compile(rf"^{RUNS}[a-z]+/({RUN_ID_PATTERN.strip('^$')})[./]")

log = logging.getLogger(__name__)

DayOf = Callable[[ArtifactStore, str], date | None]
"""The day that a key or its document states; None if it states none, and is left alone."""


class _Stated(BaseModel):
    """What documents of caches and of used keys state."""

    session: date | None = None
    created_at: datetime | None = None


def forget(store: ArtifactStore, caches: Sequence[ArtifactStore], now: datetime, days: int) -> ForgetReport:
    """Delete what is more than ``days`` old; nothing if ``days`` is 0. Idempotent.

    A reader that has listed a key may find nothing under it any more, and skips it.

    Args:
        store: the store of models, jobs and forecasts.
        caches: other stores of downloaded prices.
        now: the time.
        days: 0, or at least ``services.monitoring.scoring.SCORED_WITHIN``.

    Raises:
        StoreUnavailable: from the store; the next run continues.
    """
    if days == 0:
        return ForgetReport(before=None, deleted={})
    before = now.date() - timedelta(days=days)
    deleted: Counter[str] = Counter()
    # a use of a key goes before its job: one without its job would submit it again
    for prefix, day_of in (
        (KEYS, _day_stated),
        (FORECASTS, _day_in_name),
        (SCORES, _day_in_name),
        (ANALYSES, _day_in_name),
        (REPLAYS, _day_stated),
        (WEBHOOKS, _day_stated),
    ):
        deleted[prefix] = _delete(store, _older(store, store.list_keys(prefix), before, day_of))
    deleted[JOBS] = _delete(store, _of_old_jobs(store.list_keys(JOBS), before))
    deleted[RUNS] = _delete(store, _of_old_runs(store.list_keys(RUNS), before))
    for cache in (store, *caches):
        prices = [key for key in cache.list_keys(PRICES) if key.endswith(".npz")]  # not the files of PRICE_SOURCE=csv
        deleted[PRICES] += _delete(cache, _older(cache, prices, before, _day_of_fetch))
    return ForgetReport(before=before, deleted={prefix: count for prefix, count in deleted.items() if count})


def forget_quietly(store: ArtifactStore, caches: Sequence[ArtifactStore], now: datetime, days: int) -> None:
    """Forget after something else that must not fail with it."""
    try:
        report = forget(store, caches, now, days)
    except AppError as error:
        log.warning("old documents were not deleted: %s", error.message)
        return
    if report.deleted:
        log.info("deleted documents of before %s: %s", report.before, dict(report.deleted))


def _older(store: ArtifactStore, keys: Iterable[str], before: date, day_of: DayOf) -> list[str]:
    with ThreadPoolExecutor(WORKERS) as workers:
        keys = list(keys)
        days = workers.map(partial(day_of, store), keys)
        return [key for key, day in zip(keys, days, strict=True) if day is not None and day < before]


def _of_old_jobs(keys: Sequence[str], before: date) -> Iterator[str]:
    """What to delete of old jobs: the spec, without which there is no job; what is left of it, at the next run.

    A reader that has just read the spec still finds how the job ended.
    """
    specs = {key.split("/")[1] for key in keys if key.endswith(f"/{SPEC}")}
    for key in keys:
        job_id = key.split("/")[1]
        day = _day_of_job(job_id)
        if day is not None and day < before and (job_id not in specs or key.endswith(f"/{SPEC}")):
            yield key


def _of_old_runs(keys: Sequence[str], before: date) -> Iterator[str]:
    for key in keys:
        found = _RUN_ID.search(key)
        day = None if found is None else _day_of_job(found[1])
        if day is not None and day < before:
            yield key


def _delete(store: ArtifactStore, keys: Iterable[str]) -> int:
    with ThreadPoolExecutor(WORKERS) as workers:
        return len(list(workers.map(store.delete, keys)))


def _day_in_name(_: ArtifactStore, key: str) -> date | None:
    """The latest day in a name, such as the last session of a record."""
    days = map(_day, _DAY.findall(key.rpartition("/")[2]))
    return max((day for day in days if day is not None), default=None)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _day_of_job(job_id: str) -> date | None:
    return _day(f"{job_id[:4]}-{job_id[4:6]}-{job_id[6:8]}")


def _day_stated(store: ArtifactStore, key: str) -> date | None:
    try:
        stated = _Stated.model_validate_json(store.get(key))
    except (ArtifactNotFound, ValidationError):
        return None
    return stated.session or (None if stated.created_at is None else stated.created_at.date())


def _day_of_fetch(store: ArtifactStore, key: str) -> date | None:
    try:
        return fetched_on(store.get(key))
    except ArtifactNotFound:
        return None
