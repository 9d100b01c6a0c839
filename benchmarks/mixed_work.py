"""What the clients of a server do all day, in random order, and what must be true of the answers.

Shared by ``benchmarks.wire_faults`` and ``benchmarks.kills``.
"""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from schemas.card import ModelCard
from services.storage.registry import ModelRegistry
from services.storage.store import ArtifactStore

ANSWER_WITHIN_S = 180.0
PAUSE_S = 0.5
FORECAST_FIELDS = ("base_price", "base_date", "forecast", "predictions", "predicted_price", "intervals", "persistence")
CLOSES = [round(28 + 0.05 * day + 0.2 * (day % 3), 2) for day in range(60)]


@dataclass(frozen=True)
class Answer:
    """One exchange with the server; ``status`` is 0 where the connection ended without an answer."""

    method: str
    path: str
    status: int
    body: Any
    retry_after: str | None
    seconds: float

    @property
    def code(self) -> str:
        return str(self.body.get("code", "")) if isinstance(self.body, dict) else ""


@dataclass
class MixedWork:
    """Random requests of all kinds, and the record of what was answered; thread-safe.

    Attributes:
        symbols: tickers that the price source has.
        models: ids of models that an answer or a job has acknowledged, without those that were deleted.
        jobs: ids of jobs that an answer has named.
        accepted: those of them that an answer has accepted.
        forecasts: what each forecast by an explicit model has said, by everything that decides it.
        wrong: answers that no promise covers, in words.
        killed: whether the server is killed at times, so that connections may end without an answer.
    """

    url: str
    symbols: Sequence[str]
    seed: int
    killed: bool = False
    models: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    jobs: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    forecasts: dict[str, Any] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    slowest_s: float = 0.0

    def run(self, n_requests: int, n_clients: int, *, until: Callable[[], bool] = lambda: False) -> None:
        """Send this many requests from this many clients, or until ``until`` holds."""
        left = iter(range(n_requests))

        def client(number: int) -> None:
            chance = random.Random(1000 * self.seed + number)  # noqa: S311 - no secret
            while not until():
                with self.lock:
                    if next(left, None) is None:
                        return
                self.one(chance)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(n_clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def one(self, chance: random.Random) -> None:
        """One random request, judged."""
        kinds: Sequence[tuple[int, Callable[[random.Random], Answer]]] = (
            (22, self._live),
            (16, self._forecast),
            (12, self._forecast_of_model),
            (8, self._from_closes),
            (6, self._batch),
            (5, self._train),
            (4, self._job),
            (2, self._cancel),
            (1, self._retry),
            (3, self._move_alias),
            (1, self._delete),
            (2, self._backtest),
            (5, self._prices),
            (12, self._read),
            (3, self._malformed),
        )
        (kind,) = chance.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])
        self._judge(kind(chance))

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One exchange over a connection of its own."""
        started = time.perf_counter()
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=ANSWER_WITHIN_S)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            raw, status, retry_after = answer.read(), answer.status, answer.getheader("Retry-After")
        except (OSError, http.client.HTTPException) as error:
            raw, status, retry_after = json.dumps({"detail": repr(error)}).encode(), 0, None
            time.sleep(PAUSE_S)  # as any client does before it connects again
        finally:
            connection.close()
        try:
            found = json.loads(raw) if raw else None
        except ValueError:
            found = raw[:200].decode(errors="replace")
        return Answer(method, path, status, found, retry_after, time.perf_counter() - started)

    def _judge(self, answer: Answer) -> None:
        with self.lock:
            self.counts[f"{answer.method} {answer.path.split('/')[1]} {answer.status} {answer.code}".strip()] += 1
            self.slowest_s = max(self.slowest_s, answer.seconds)
            named = isinstance(answer.body, dict) and answer.body.get("code") not in (None, "internal")
            if (answer.status >= 300 and not named) or (answer.status == 0 and not self.killed):
                self.wrong.append(f"{answer.method} {answer.path}: {answer.status} {str(answer.body)[:300]}")
            if answer.status == 429 and answer.retry_after is None:
                self.wrong.append(f"{answer.method} {answer.path}: 429 without Retry-After")
            if answer.code == "ticker_not_found":  # every ticker of a request exists
                self.wrong.append(f"{answer.method} {answer.path}: {answer.body['detail']}")

    def _record(self, answer: Answer, *, of: object) -> Answer:
        """The same model, prices and request must always give the same forecast."""
        if answer.status != 200:
            return answer
        body = answer.body
        said = {name: body[name] for name in FORECAST_FIELDS if name in body}
        decided_by = [answer.path, of, *(body.get(name) for name in ("model_id", "base_date", "inputs", "last_date"))]
        decided_by += [body.get(name) for name in ("dropped", "repaired", "stale")]
        key = json.dumps(decided_by, sort_keys=True)
        with self.lock:
            before = self.forecasts.setdefault(key, said)
            if before != said:
                self.wrong.append(f"two answers to {key}: {str(before)[:150]} and {str(said)[:150]}")
        return answer

    def _some_model(self, chance: random.Random) -> str:
        with self.lock:
            known = sorted(self.models)
        return chance.choice([*known[-8:], "default", "default"])

    def _live(self, chance: random.Random) -> Answer:
        body = {"symbol": chance.choice(self.symbols)}
        return self._record(self.call("POST", "/predict/live", body), of=body)

    def _forecast(self, chance: random.Random) -> Answer:
        body = {"symbol": chance.choice(self.symbols), "days": chance.choice([1, 5, 10])}
        return self._record(self.call("POST", "/predict/forecast", body), of=body)

    def _forecast_of_model(self, chance: random.Random) -> Answer:
        body = {"ticker": chance.choice(self.symbols), "horizon": 1}
        path = f"/models/{self._some_model(chance)}/forecast"
        return self._record(self.call("POST", path, body), of=body)

    def _from_closes(self, chance: random.Random) -> Answer:
        body = {"prices": [round(close * chance.choice([1, 2, 10]), 2) for close in CLOSES]}
        return self._record(self.call("POST", "/predict", body), of=body)

    def _batch(self, chance: random.Random) -> Answer:
        body = {"symbols": chance.sample(self.symbols, 3), "days": 2}
        return self.call("POST", "/predict/batch", body)

    def _train(self, chance: random.Random) -> Answer:
        symbol, model = chance.choice(self.symbols), chance.choice(["ewma", "ewma", "volatility_regression"])
        headers = chance.choice([{}, {"Prefer": "respond-async"}, {"Idempotency-Key": f"key-{chance.randrange(40)}"}])
        if "Idempotency-Key" in headers:  # the same key, the same request
            symbol, model = self.symbols[0], "ewma"
        answer = self.call("POST", "/models/train", {"ticker": symbol, "model": model}, **headers)
        with self.lock:
            if answer.status == 200:
                self.models.add(answer.body["result"]["id"])
            elif answer.status == 202:
                self.jobs.add(answer.body["id"])
                self.accepted.add(answer.body["id"])
            elif isinstance(answer.body, dict) and answer.body.get("job_id"):
                self.jobs.add(answer.body["job_id"])
        return answer

    def _some_job(self, chance: random.Random) -> str:
        with self.lock:
            return chance.choice(sorted(self.jobs) or ["20260101t000000-00000000"])

    def _job(self, chance: random.Random) -> Answer:
        answer = self.call("GET", f"/jobs/{self._some_job(chance)}")
        if answer.status == 200 and answer.body["state"] == "succeeded":
            with self.lock:
                if answer.body["model_id"] not in self.deleted:
                    self.models.add(answer.body["model_id"])
        return answer

    def _cancel(self, chance: random.Random) -> Answer:
        return self.call("DELETE", f"/jobs/{self._some_job(chance)}")

    def _retry(self, chance: random.Random) -> Answer:
        answer = self.call("POST", f"/jobs/{self._some_job(chance)}/retry")
        with self.lock:
            if answer.status == 202:
                self.jobs.add(answer.body["id"])
                self.accepted.add(answer.body["id"])
        return answer

    def _move_alias(self, chance: random.Random) -> Answer:
        alias = chance.choice(["staging", "candidate", f"ticker/{self.symbols[1]}"])
        return self.call("PUT", f"/models/aliases/{alias}", {"model_id": self._some_model(chance)})

    def _delete(self, chance: random.Random) -> Answer:
        model_id = self._some_model(chance)
        answer = self.call("DELETE", f"/models/{model_id}") if model_id != "default" else self.call("GET", "/models")
        if model_id != "default" and answer.status not in (409, 422, 429):  # gone, or perhaps gone
            with self.lock:
                self.deleted.add(model_id)
                self.models.discard(model_id)
        return answer

    def _backtest(self, chance: random.Random) -> Answer:
        body = {"ticker": chance.choice(self.symbols), "horizon": 1, "stride": 50}
        return self.call("POST", "/models/default/backtest", body)

    def _prices(self, chance: random.Random) -> Answer:
        return self.call("POST", "/models/fetch-data", {"ticker": chance.choice(self.symbols), "days": 5})

    def _read(self, chance: random.Random) -> Answer:
        paths = ("/models", "/jobs", "/models/aliases", "/health", "/up", "/monitoring/drift", "/monitoring/stats")
        return self.call("GET", chance.choice([*paths, f"/models/{self._some_model(chance)}"]))

    def _malformed(self, chance: random.Random) -> Answer:
        body = chance.choice([{"symbol": ""}, {"symbol": "A" * 40}, {"symbol": "AAA", "x": 1}, [], "text"])
        return self.call("POST", "/predict/live", body)


def print_findings(work: MixedWork, found: Sequence[str]) -> None:
    """How the requests ended, and what is wrong."""
    for what, count in sorted(work.counts.items(), key=lambda one: -one[1]):
        print(f"{count:7d}  {what}")
    print(f"{len(work.models)} acknowledged models, {len(work.jobs)} named jobs")
    print("\n".join(["nothing is wrong"] if not found else [f"{len(found)} wrong", *found[:40]]))


def check_store(store: ArtifactStore, work: MixedWork) -> list[str]:
    """What is wrong with the store afterwards, read directly: lost or damaged models, models that no caller knows."""
    found, registry = [], ModelRegistry(store)
    for model_id in sorted(work.models - work.deleted):
        try:
            registry.load(registry.card(model_id))
        except Exception as error:  # noqa: BLE001 - each is a finding
            found.append(f"acknowledged model {model_id}: {error!r}")
    with_card = set(registry.ids())
    folders = {key.split("/")[1] for key in store.list_keys("models/")}
    found += [f"files of a model without a card: {folder}" for folder in sorted(folders - with_card)]
    of_jobs = {key.split("/")[1] for key in store.list_keys("jobs/") if key.endswith("/spec.json")}
    model_of_job = {json.loads(store.get(f"jobs/{job}/spec.json"))["model_id"]: job for job in of_jobs}
    found += [f"a model of no job: {model_id}" for model_id in sorted(with_card - set(model_of_job))]
    known = work.jobs | {model_of_job[one] for one in work.models | work.deleted if one in model_of_job}
    if not work.killed:
        found += [f"a job that no answer named: {job}" for job in sorted(of_jobs - known)]
    for alias in registry.aliases():
        if alias.model_id not in with_card and not alias.model_id.startswith("bundled"):
            found.append(f"alias {alias.alias} points to {alias.model_id}, which does not exist")
    return found


def check_forecasts(work: MixedWork, models: Mapping[str, ModelCard]) -> list[str]:
    """Ask every forecast by an explicit model once more; each must say what it said before."""
    before = len(work.wrong)
    for key in list(work.forecasts):
        path, body, model_id, *_ = json.loads(key)
        if path.startswith("/models/") and model_id in models:
            work._judge(work._record(work.call("POST", f"/models/{model_id}/forecast", body), of=body))  # noqa: SLF001
    return work.wrong[before:]


def temporary_files(folder: Path) -> list[str]:
    return [f"temporary file {path.name}" for path in folder.rglob("*") if path.name.endswith(".tmp")]
