"""The list of models, and the ids of new ones."""

import re
from collections.abc import Sequence
from datetime import datetime

from errors import ArtifactInvalid, ModelNotFound
from schemas.models import ModelPage, ModelSummary, UnreadableModel
from services.storage.documents import report_unreadable
from services.storage.registry import ModelRegistry
from telemetry.measures import NO_METER, Meter

POOLED = "pooled"  # replaces the ticker in the id of a pooled model


def list_models(
    registry: ModelRegistry, ticker: str | None, limit: int, after: str | None, meter: Meter = NO_METER
) -> ModelPage:
    """Up to ``limit`` models after the id ``after``, of one ticker or of all, ordered by id.

    The readable bundled model is included. A card that cannot be read is listed as unreadable: one broken model must
    not hide the rest.

    Raises:
        StoreUnavailable: from the store.
    """
    stored = registry.ids() if ticker is None else _ids_of(registry, ticker)
    bundled = () if registry.bundled is None else (registry.bundled.model_id,)
    ids = sorted({*stored, *bundled})
    page: list[ModelSummary] = []
    unreadable: list[UnreadableModel] = []
    for model_id in ids:
        if after is not None and model_id <= after:
            continue
        if len(page) == limit:
            return ModelPage(models=tuple(page), unreadable=tuple(unreadable), next_after=page[-1].id)
        try:
            card = registry.card(model_id)
        except ModelNotFound:
            continue  # deleted since the ids were listed
        except ArtifactInvalid as error:
            report_unreadable(error, meter)
            unreadable.append(UnreadableModel(id=model_id, code=error.code))
            continue
        if ticker is None or ticker in card.tickers:
            page.append(
                ModelSummary(
                    id=card.model_id,
                    model=card.model,
                    tickers=card.named_tickers,
                    universe=card.universe,
                    created_at=card.created_at,
                    first_session=min(series.data.first_session for series in card.series),
                    last_session=card.last_session,
                    test=card.test[0],
                    target_column=card.target_column,
                    bundled=card.model_id in bundled,
                )
            )
    return ModelPage(models=tuple(page), unreadable=tuple(unreadable), next_after=None)


def new_model_id(tickers: Sequence[str], now: datetime, token: str, universe: str | None = None) -> str:
    """A model id: the ticker, ``pooled`` for several or the universe, the day, and a token that makes it unique.

    >>> new_model_id(["PETR4.SA"], datetime(2024, 7, 19), "1a2b3c4d")
    'petr4-sa-20240719-1a2b3c4d'
    """
    name = slug(universe) if universe else slug(tickers[0]) if len(tickers) == 1 else POOLED
    return f"{name}-{now:%Y%m%d}-{token}"


def _ids_of(registry: ModelRegistry, ticker: str) -> list[str]:
    """Ids of the models that may have the ticker; their cards decide."""
    return [*registry.ids(f"{slug(ticker)}-"), *registry.ids(f"{POOLED}-")]


def slug(ticker: str) -> str:
    """The ticker in the alphabet of model ids; two tickers may have the same slug.

    >>> slug("^GSPC"), slug("BRK-B"), slug("EURUSD=X")
    ('gspc', 'brk-b', 'eurusd-x')
    """
    return re.sub(r"[^a-z0-9]+", "-", ticker.lower()).strip("-")
