"""Served forecasts of one ticker with the closes that came."""

from errors import ArtifactCorrupt, ArtifactNotFound
from schemas.outcomes import Outcome, Outcomes
from schemas.realised import SessionScores
from services.monitoring.scoring import keys_of_scores, session_of
from services.storage.documents import read_document, report_unreadable
from services.storage.store import ArtifactStore
from telemetry.measures import NO_METER, Meter


def outcomes_of(
    store: ArtifactStore, ticker: str, model_id: str | None, step: int, limit: int, meter: Meter = NO_METER
) -> Outcomes:
    """The newest ``limit`` sessions with a scored forecast of the model so many steps ahead, oldest first.

    Of several forecasts of a session, the last one that was made counts. An unreadable document is left out.

    Raises:
        StoreUnavailable: from the store.
    """
    found: list[Outcome] = []
    for key in sorted(keys_of_scores(store, ticker), key=session_of, reverse=True):
        if len(found) == limit:
            break
        if (scores := _readable(store, key, meter)) is not None and (one := _outcome(scores, model_id, step)):
            found.append(one)
    return Outcomes(ticker=ticker, step=step, outcomes=tuple(reversed(found)))


def _outcome(scores: SessionScores, model_id: str | None, step: int) -> Outcome | None:
    wanted = [one for one in scores.pairs if one.step == step and model_id in (None, one.model_id)]
    if not wanted:
        return None
    last = max(wanted, key=lambda one: one.made_at)
    return Outcome(
        session=scores.session,
        origin=last.origin,
        model_id=last.model_id,
        actual=last.actual,
        median=last.median,
        persistence=last.last,
        levels=last.levels,
        lower=last.lower,
        upper=last.upper,
    )


def _readable(store: ArtifactStore, key: str, meter: Meter) -> SessionScores | None:
    try:
        return read_document(store, key, SessionScores)
    except ArtifactNotFound:  # forgotten since the keys were listed
        return None
    except ArtifactCorrupt as error:
        report_unreadable(error, meter)
        return None
