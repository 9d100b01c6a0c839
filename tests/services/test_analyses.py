"""Kept analyses: computed once for the same prices, again for others, and never many at once."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from errors import AnalysisCapacityExceeded, ZeroVariance
from schemas.analysis import Analysis, AnalysisRequest
from services import analyses
from services.analyses import ANALYSES, AT_ONCE, MAX_WAITING, Analyses, WantedAnalysis
from services.storage.store import ArtifactStore, LocalArtifactStore
from services.storage.write_behind import WriteBehind
from tests.fakes import FakePriceSource, InMemoryArtifactStore, UnreliableStore, history_of, random_walk, walk_history
from tests.services.analysis.conftest import NOW

JSON, PAGE = AnalysisRequest(), AnalysisRequest(format="html")
PRICES = FakePriceSource(*(walk_history(f"T{k}", n_sessions=120, seed=k) for k in range(20)))


class Process:
    """Analyses as one process of a server has them."""

    def __init__(self, store: ArtifactStore) -> None:
        self.writer = WriteBehind()
        self.analyses = Analyses(store, self.writer)

    def answer(self, request: AnalysisRequest = JSON, ticker: str = "T0", prices: FakePriceSource = PRICES) -> str:
        with self.analyses.computed(self.analyses.find(ticker, request, prices, NOW)) as body:
            found = body.result(30)
        self.writer.flush()
        return found


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the analyses that were computed."""
    keys, compute = [], WantedAnalysis.compute

    def recorded(wanted: WantedAnalysis) -> str:
        keys.append(wanted.key)
        return compute(wanted)

    monkeypatch.setattr(WantedAnalysis, "compute", recorded)
    return keys


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Computations wait for it, and return their key."""
    opened = threading.Event()

    def compute(wanted: WantedAnalysis) -> str:
        assert opened.wait(30)
        return wanted.key

    monkeypatch.setattr(WantedAnalysis, "compute", compute)
    yield opened
    opened.set()


@pytest.mark.parametrize("request_", [JSON, PAGE], ids=["json", "page"])
def test_the_same_analysis_is_computed_once_for_all_processes(
    tmp_path: Path, computed: list[str], request_: AnalysisRequest
) -> None:
    one, other = (Process(LocalArtifactStore(tmp_path)) for _ in range(2))

    answers = {process.answer(request_) for process in (one, one, other)}

    assert (len(answers), len(computed)) == (1, 1)


def test_the_kept_figures_are_those_of_the_analysis() -> None:
    store = InMemoryArtifactStore()

    answers = [Analysis.model_validate_json(Process(store).answer()) for _ in range(2)]

    assert answers[0] == answers[1]
    assert (answers[1].ticker, answers[1].n_sessions) == ("T0", 120)


def test_dates_that_choose_the_same_sessions_share_an_analysis(computed: list[str]) -> None:
    process, series = Process(InMemoryArtifactStore()), walk_history("T0", n_sessions=120).series

    process.answer()
    process.answer(AnalysisRequest(start=series.first_session, end=series.last_session))
    process.answer(AnalysisRequest(end=series.sessions[-2].item()))

    assert len(computed) == 2


def test_other_prices_facts_or_formats_are_another_analysis(computed: list[str]) -> None:
    process = Process(InMemoryArtifactStore())
    bars = random_walk(120)
    corrected = bars.copy()
    corrected[60, 3] *= 1.0001
    history = history_of(bars)
    histories = (
        history,
        history_of(corrected),
        history.tail(119),
        history_of(random_walk(121)),
        replace(history, stale=True),
        replace(history, source="yahoo"),
        replace(history, series=replace(history.series, currency="BRL")),
        replace(history, defects=history.defects.with_dropped("ghost", history.series.sessions[:1])),
    )

    for one in histories:
        process.answer(ticker="WALK", prices=FakePriceSource(one))
    process.answer(PAGE, ticker="WALK", prices=FakePriceSource(history))

    assert len(set(computed)) == len(computed) == len(histories) + 1


def test_another_version_of_the_program_computes_again(monkeypatch: pytest.MonkeyPatch, computed: list[str]) -> None:
    store = InMemoryArtifactStore()
    Process(store).answer()

    monkeypatch.setattr(analyses, "program_digest", lambda *_: b"another")
    Process(store).answer()

    assert len(set(computed)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: b"",
        lambda kept: kept[:-20],
        lambda kept: b"\xff" + kept,
        lambda kept: b"[]",
        lambda kept: json.dumps({**json.loads(kept), "body": "{}"}).encode(),
        lambda kept: json.dumps({"body": json.loads(kept)["body"]}).encode(),
    ],
)
def test_a_damaged_document_is_computed_again_and_replaced(damage: object, computed: list[str]) -> None:
    store = InMemoryArtifactStore()
    whole = Process(store).answer()
    (key,) = store.list_keys(ANALYSES)
    kept = store.get(key)
    store.put(key, damage(kept))  # type: ignore[operator]

    assert Process(store).answer() == whole
    assert (store.get(key), len(computed)) == (kept, 2)


def test_a_store_that_is_down_costs_the_keeping_but_not_the_answer(computed: list[str]) -> None:
    store = UnreliableStore(down=True)
    process = Process(store)

    assert process.answer() == process.answer()
    assert len(computed) == 1  # memory does not need the store
    assert len(store.calls) == 1  # nor is a store that has just failed asked again


def test_a_store_that_refuses_writes_costs_no_answer() -> None:
    store = UnreliableStore()
    store.refuses = lambda key: True

    assert json.loads(Process(store).answer())["ticker"] == "T0"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, computed: list[str]) -> None:
    monkeypatch.setattr(analyses, "IN_MEMORY", 2)
    process = Process(UnreliableStore(down=True))

    for ticker in ("T0", "T1", "T2", "T0"):
        process.answer(ticker=ticker)

    assert len(computed) == 4


def test_prices_that_cannot_be_analysed_are_refused_before_anything_is_computed(computed: list[str]) -> None:
    flat = history_of(random_walk(120))
    bars = flat.series.bars.copy()
    bars[:] = 100.0
    store = InMemoryArtifactStore()

    with pytest.raises(ZeroVariance):
        Process(store).answer(ticker="WALK", prices=FakePriceSource(history_of(bars)))

    assert (computed, store.list_keys("")) == ([], [])


def test_a_failed_computation_fails_each_waiting_caller_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(InMemoryArtifactStore())
    with monkeypatch.context() as broken:
        broken.setattr(WantedAnalysis, "compute", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            process.answer()

    assert json.loads(process.answer())["ticker"] == "T0"


def test_callers_at_the_same_time_share_one_computation(computed: list[str]) -> None:
    process = Process(InMemoryArtifactStore())

    with ThreadPoolExecutor(16) as callers:
        answers = set(callers.map(lambda _: process.answer(PAGE), range(16)))

    assert (len(answers), len(computed)) == (1, 1)


def test_too_many_are_refused_and_kept_ones_are_still_answered(gate: threading.Event) -> None:
    process = Process(InMemoryArtifactStore())
    wanted = [process.analyses.find(f"T{k}", JSON, PRICES, NOW) for k in range(AT_ONCE + MAX_WAITING + 1)]

    with ExitStack() as callers:
        for one in wanted[:-1]:
            callers.enter_context(process.analyses.computed(one))
        with pytest.raises(AnalysisCapacityExceeded) as refused, process.analyses.computed(wanted[-1]):
            pass
        with process.analyses.computed(wanted[0]):  # joining costs nothing
            pass
        with process.analyses.computed(replace(wanted[-1], kept="known")) as body:
            assert body.result(0) == "known"

    assert refused.value.retry_after_s is not None


def test_what_no_caller_waits_for_is_not_computed(gate: threading.Event) -> None:
    process = Process(InMemoryArtifactStore())
    running, dropped, shared = (process.analyses.find(f"T{k}", JSON, PRICES, NOW) for k in range(3))

    with process.analyses.computed(running) as first, process.analyses.computed(shared) as second:
        with process.analyses.computed(dropped) as third, process.analyses.computed(shared):
            pass
        assert third.cancelled()
        gate.set()
        assert (first.result(30), second.result(30)) == (running.key, shared.key)
    with process.analyses.computed(dropped) as again:
        assert again.result(30) == dropped.key
