"""Evaluations of challengers, documents that are written once: ``contests/{alias}/{job-id}.json``."""

from schemas.challenge import ChallengerEvaluation, EvaluationPage
from services.storage.documents import document_keys, read_document, readable_documents
from services.storage.registry import alias_folder
from services.storage.store import ArtifactStore
from telemetry.measures import NO_METER, Meter

EVALUATIONS = "contests/"  # the folder of stored documents keeps its first name


def evaluation_key(alias: str, job_id: str) -> str:
    """Where an evaluation is stored.

    >>> evaluation_key("default", "20261121t093000-1a2b3c4d")
    'contests/default/20261121t093000-1a2b3c4d.json'
    >>> evaluation_key("ticker/M&M.NS", "20261121t093000-1a2b3c4d")
    'contests/ticker/M^M.NS/20261121t093000-1a2b3c4d.json'
    """
    return f"{EVALUATIONS}{alias_folder(alias)}/{job_id}.json"


def store_evaluation(store: ArtifactStore, evaluation: ChallengerEvaluation) -> ChallengerEvaluation:
    """The stored evaluation: this one, or the first of the same job."""
    key = evaluation_key(evaluation.alias, evaluation.job_id)
    created = store.create(key, evaluation.model_dump_json().encode())
    return evaluation if created else read_document(store, key, ChallengerEvaluation)


def evaluation_page(
    store: ArtifactStore, alias: str, limit: int, after: str | None, meter: Meter = NO_METER
) -> EvaluationPage:
    """Up to ``limit`` evaluations for an alias, newest first, older than that of the job ``after``.

    Those that cannot be read are logged, counted and left out.

    Raises:
        StoreUnavailable: from the store.
    """
    folder = f"{EVALUATIONS}{alias_folder(alias)}/"
    names = (key.removeprefix(folder).removesuffix(".json") for key in document_keys(store, folder))
    found = sorted((name for name in names if "/" not in name), reverse=True)  # "ticker" may be an alias too
    older = [job_id for job_id in found if after is None or job_id < after]
    shown = older[:limit]
    keys = [evaluation_key(alias, job_id) for job_id in shown]
    evaluations = readable_documents(store, keys, ChallengerEvaluation, meter)
    return EvaluationPage(evaluations=tuple(evaluations), next_after=shown[-1] if len(older) > limit else None)
