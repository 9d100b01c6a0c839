"""The stored models, a page at a time, and how a new one is named."""

import re
from datetime import datetime

from errors import ArtifactInvalid, ModelNotFound
from schemas.models import ModelPage, ModelSummary, UnreadableModel
from services.storage.registry import ModelRegistry


def list_models(registry: ModelRegistry, ticker: str | None, limit: int, after: str | None) -> ModelPage:
    """Up to ``limit`` models beyond the id ``after``, of one ticker or of all, ordered by id.

    A card that cannot be read is named as such: one broken model must not hide the rest.

    Raises:
        StoreUnavailable: from the store.
    """
    ids = registry.ids(prefix=f"{slug(ticker)}-" if ticker else "")
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
            unreadable.append(UnreadableModel(id=model_id, code=error.code))
            continue
        if ticker in (None, card.ticker):
            page.append(
                ModelSummary(
                    id=card.model_id,
                    model=card.model,
                    ticker=card.ticker,
                    created_at=card.created_at,
                    first_session=card.data.first_session,
                    last_session=card.data.last_session,
                    test=card.test,
                )
            )
    return ModelPage(models=tuple(page), unreadable=tuple(unreadable), next_after=None)


def new_model_id(ticker: str, now: datetime, token: str) -> str:
    """An id that tells ticker and day; the token, eight hex digits, makes it unique.

    >>> new_model_id("PETR4.SA", datetime(2024, 7, 19), "1a2b3c4d")
    'petr4-sa-20240719-1a2b3c4d'
    """
    return f"{slug(ticker)}-{now:%Y%m%d}-{token}"


def slug(ticker: str) -> str:
    """The ticker in the alphabet of model ids; different tickers may share one.

    >>> slug("^GSPC"), slug("BRK-B"), slug("EURUSD=X")
    ('gspc', 'brk-b', 'eurusd-x')
    """
    return re.sub(r"[^a-z0-9]+", "-", ticker.lower()).strip("-")
