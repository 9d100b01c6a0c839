"""Contests for an alias, as documents that are written once: ``contests/{alias}/{job-id}.json``."""

from schemas.challenge import ChallengerEvaluation, ContestPage
from services.storage.documents import document_keys, read_document
from services.storage.store import ArtifactStore

CONTESTS = "contests/"


def contest_key(alias: str, job_id: str) -> str:
    """Where the evidence of a contest is stored.

    >>> contest_key("default", "20261121t093000-1a2b3c4d")
    'contests/default/20261121t093000-1a2b3c4d.json'
    """
    return f"{CONTESTS}{alias}/{job_id}.json"


def keep_contest(store: ArtifactStore, contest: ChallengerEvaluation) -> bool:
    """Store the evidence; False where the same job had left some before, which then stands."""
    return store.create(contest_key(contest.alias, contest.job_id), contest.model_dump_json().encode())


def contest_page(store: ArtifactStore, alias: str, limit: int, after: str | None) -> ContestPage:
    """Up to ``limit`` contests for an alias, newest first, older than that of the job ``after``.

    Raises:
        ArtifactCorrupt: one is not readable.
        StoreUnavailable: from the store.
    """
    keys = document_keys(store, f"{CONTESTS}{alias}/")
    found = sorted((key.rpartition("/")[2].removesuffix(".json") for key in keys), reverse=True)
    older = [job_id for job_id in found if after is None or job_id < after]
    shown = older[:limit]
    contests = tuple(read_contest(store, contest_key(alias, job_id)) for job_id in shown)
    return ContestPage(contests=contests, next_after=shown[-1] if len(older) > limit else None)


def read_contest(store: ArtifactStore, key: str) -> ChallengerEvaluation:
    """The evidence under a key.

    Raises:
        ArtifactNotFound: there is none.
        ArtifactCorrupt: it is not readable.
        StoreUnavailable: from the store.
    """
    return read_document(store, key, ChallengerEvaluation)
