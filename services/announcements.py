"""Announces the end of jobs and runs to the webhooks that callers gave, until a receiver has taken it in."""

import json
import logging
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from errors import AppError, NotFound
from schemas.job import JOB_ID_PATTERN, Job
from schemas.run import Run
from schemas.webhook import Delivery, Webhook
from services.jobs.job import Jobs, job_url
from services.runs.runs import Runs, run_url
from services.storage.store import ArtifactStore
from services.webhooks.addresses import Resolve, WebhookPolicy, validate_url
from services.webhooks.deliveries import (
    claim_attempt,
    drop,
    job_delivery,
    open_ids,
    read_open,
    record_failure,
    record_success,
    run_delivery,
)
from services.webhooks.post import NotDelivered, post
from telemetry.measures import NO_METER, WEBHOOK_ATTEMPTS, WEBHOOKS_FAILING, Meter

SENDERS = 8  # at once: a receiver that hangs delays few others
ORPHANED_AFTER = timedelta(days=1)  # the work is stored a moment after its delivery is opened, or never

_ID = re.compile(rf"(job|run)_({JOB_ID_PATTERN.strip('^$')})(?:_([0-9]+))?")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Announcement:
    """What a receiver is sent about an end, and where to."""

    webhook: Webhook
    body: bytes


@dataclass(frozen=True, eq=False)
class Announcements:
    """Delivers the open deliveries of a store.

    Args:
        store: has the deliveries.
        jobs, runs: what may have ended.
        clock: the current time.
        policy: which addresses are allowed.
        resolve: finds the addresses of a host.
        meter: counts the attempts, and the webhooks that fail.
    """

    store: ArtifactStore
    jobs: Jobs
    runs: Runs
    clock: Callable[[], datetime]
    policy: WebhookPolicy
    resolve: Resolve = socket.getaddrinfo
    meter: Meter = NO_METER

    def validate(self, webhook: Webhook | None) -> None:
        """Check the address that a caller gives.

        Raises:
            WebhookRefused: it is malformed, or the host is not on the public internet.
        """
        if webhook is not None:
            validate_url(webhook.url, self.policy, self.resolve)

    def deliver_due(self) -> None:
        """Make every attempt that is due. One that fails does not hide the others."""
        try:
            ids = list(open_ids(self.store))
        except AppError as error:
            log.warning("webhooks are not delivered now: %s", error.message)
            return
        with ThreadPoolExecutor(min(SENDERS, max(1, len(ids)))) as senders:
            self.meter.record(WEBHOOKS_FAILING, sum(senders.map(self._deliver, ids)))

    def deliver_job(self, job_id: str) -> None:
        """Announce the end of a job now, if it has ended and a webhook waits for it."""
        self._deliver(job_delivery(job_id))

    def deliver_run(self, run_id: str, round_: int) -> None:
        """Announce the end of a round of a run now, if it has ended and a webhook waits for it."""
        self._deliver(run_delivery(run_id, round_))

    def _deliver(self, delivery_id: str) -> bool:
        """Make the attempt if it is due; whether it or an earlier one failed, and there will be another."""
        failing = False
        try:
            delivery = read_open(self.store, delivery_id)
            now = self.clock()
            failing = delivery is not None and delivery.attempts > 0
            if delivery is None or (delivery.next_attempt_at is not None and now < delivery.next_attempt_at):
                return failing
            announcement = self._announcement(delivery, now)
            return announcement is not None and self._attempt(delivery, announcement, now)
        except AppError as error:
            log.warning("the webhook of %s is delivered later: %s", delivery_id, error.message)
            return failing

    def _attempt(self, delivery: Delivery, announcement: Announcement, now: datetime) -> bool:
        """Make an attempt, unless another process does; whether it failed, and there will be another."""
        attempt = claim_attempt(self.store, delivery, now)
        if attempt is None:
            return False
        try:
            post(announcement.webhook, delivery.id, announcement.body, now, self.policy, self.resolve)
        except NotDelivered as error:
            log.info("the webhook of %s was not delivered: %s", delivery.id, error)
            repeated = record_failure(self.store, attempt, str(error), now, final=error.final)
            self.meter.record(WEBHOOK_ATTEMPTS, outcome="failed" if repeated else "given_up")
            return repeated
        self.meter.record(WEBHOOK_ATTEMPTS, outcome="delivered")
        record_success(self.store, attempt)
        return False

    def _announcement(self, delivery: Delivery, now: datetime) -> Announcement | None:
        """The announcement; None where the work goes on, or there is nothing to announce."""
        found = _ID.fullmatch(delivery.id)
        try:
            if found is not None and found[1] == "job":
                return self._of_job(found[2], now)
            if found is not None and found[3] is not None:
                return self._of_run(found[2], int(found[3]), now)
        except NotFound:
            if now - delivery.created_at < ORPHANED_AFTER:
                return None
        drop(self.store, delivery.id)
        return None

    def _of_job(self, job_id: str, now: datetime) -> Announcement | None:
        job, webhook = self.jobs.status(job_id, now), self.jobs.spec(job_id).webhook
        if webhook is None:
            drop(self.store, job_delivery(job_id))
            return None
        return None if job.ended_at is None else Announcement(webhook, job_message(job))

    def _of_run(self, run_id: str, round_: int, now: datetime) -> Announcement | None:
        run, webhook = self.runs.status(run_id, now), self.runs.spec(run_id).webhook
        if webhook is None or run.n_resumed > round_:  # resumed since: its next end is announced
            drop(self.store, run_delivery(run_id, round_))
            return None
        if run.ended_at is None or run.n_resumed < round_:
            return None
        return Announcement(webhook, run_message(run))


def job_message(job: Job) -> bytes:
    """What a receiver is sent about a job: how it ended, and where to read the rest."""
    data = {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "model_id": job.model_id,
        "url": job_url(job.id),
        "error": None if job.error is None else {"code": job.error.code, "detail": job.error.detail},
    }
    return _message("job", job.state, job.ended_at, data)


def run_message(run: Run) -> bytes:
    """What a receiver is sent about a run: how it ended, how many tickers are in each state, where to read the rest."""
    data = {
        "id": run.id,
        "action": run.request.action,
        "state": run.state,
        "n_tickers": run.n_tickers,
        "counts": run.counts.model_dump(),
        "n_resumed": run.n_resumed,
        "url": run_url(run.id),
    }
    return _message("run", run.state, run.ended_at, data)


def _message(kind: str, state: str, ended_at: datetime | None, data: dict[str, Any]) -> bytes:
    """A message of Standard Webhooks. The same end gives the same bytes, in every attempt."""
    timestamp = None if ended_at is None else ended_at.isoformat()
    return json.dumps({"type": f"{kind}.{state}", "timestamp": timestamp, "data": data}).encode()
