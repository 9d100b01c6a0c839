"""Evaluations of challengers: stored once, and listed in pages."""

from datetime import UTC, datetime

import pytest

from schemas.challenge import ChallengerEvaluation
from services.storage.evaluations import evaluation_key, evaluation_page, store_evaluation
from telemetry.measures import DOCUMENTS_UNREADABLE
from tests.fakes import InMemoryArtifactStore, RecordingMeter

IDS = [f"2024071{day}t220000-1a2b3c4d" for day in range(4)]


def evaluation(job_id: str, alias: str = "default", *, won: bool = False) -> ChallengerEvaluation:
    return ChallengerEvaluation(
        alias=alias,
        job_id=job_id,
        champion_id="walk-1",
        challenger_id="walk-2",
        tickers=("WALK",),
        horizon=5,
        won=won,
        reason="not better",
        at=datetime(2024, 7, 19, 22, tzinfo=UTC),
    )


@pytest.fixture
def filled(store: InMemoryArtifactStore) -> InMemoryArtifactStore:
    for job_id in IDS:
        store_evaluation(store, evaluation(job_id))
    return store


def test_of_two_evaluations_of_a_job_the_first_counts(store: InMemoryArtifactStore) -> None:
    first = store_evaluation(store, evaluation(IDS[0]))
    second = store_evaluation(store, evaluation(IDS[0], won=True))

    assert first == second == evaluation(IDS[0])


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_pages_begin_with_the_newest(filled: InMemoryArtifactStore, limit: int) -> None:
    pages = [evaluation_page(filled, "default", limit, None)]
    while pages[-1].next_after is not None:
        pages.append(evaluation_page(filled, "default", limit, pages[-1].next_after))

    found = [[one.job_id for one in page.evaluations] for page in pages]
    assert found == [IDS[::-1][start : start + limit] for start in range(0, len(IDS), limit)]


def test_an_alias_named_like_the_folder_of_tickers_has_only_its_own(store: InMemoryArtifactStore) -> None:
    store_evaluation(store, evaluation(IDS[0], "ticker"))
    store_evaluation(store, evaluation(IDS[1], "ticker/AAPL"))

    found = {
        alias: [one.job_id for one in evaluation_page(store, alias, 10, None).evaluations]
        for alias in ("ticker", "ticker/AAPL")
    }

    assert found == {"ticker": [IDS[0]], "ticker/AAPL": [IDS[1]]}


def test_an_unreadable_evaluation_is_counted_and_hides_no_other(
    filled: InMemoryArtifactStore, meter: RecordingMeter
) -> None:
    filled.put(evaluation_key("default", IDS[2]), b"{")

    page = evaluation_page(filled, "default", 10, None, meter)

    assert [one.job_id for one in page.evaluations] == [IDS[3], IDS[1], IDS[0]]
    assert meter.values(DOCUMENTS_UNREADABLE) == [1]
