"""Interval adaptation per ticker and session, kept in the store: a replay of 500 origins takes 0.02 s or more.

The replay also says what is usual for the ticker: the year before the session is part of it.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from hashlib import sha256

import numpy as np

from errors import AppError, ArtifactCorrupt, ArtifactNotFound
from models.adaptive import MEMORY, RATE, TRACKED_LEVELS, AdaptiveForecaster, LogFactors
from models.base import Bars
from models.conformal import YEAR
from schemas.card import ModelCard
from schemas.common import Document, ModelId, Ticker
from schemas.keys import key_name
from services.forecasting.explain import Width, width_of
from services.forecasting.forecast_input import ForecastInput
from services.storage.documents import read_document
from services.storage.store import ArtifactStore
from services.storage.write_behind import WriteBehind

REPLAYS = "replays/"
TOGETHER = 16  # histories per replay: bounds memory at about 100 MB
READERS = 8

log = logging.getLogger(__name__)


class Replay(Document):
    """The newest replay of a model on a ticker."""

    ticker: Ticker
    model_id: ModelId
    session: date
    sha256: str
    log_factors: tuple[tuple[float, ...], ...]
    width: Width | None


Replayed = tuple[LogFactors, list[Width | None]]
"""Log factors and what explains the width of each history's last session."""


def replay(card: ModelCard, forecaster: AdaptiveForecaster, histories: Sequence[Bars]) -> Replayed:
    """The last session of each history, all replayed together."""
    factors, years = forecaster.newest_replays(histories, YEAR + 1)
    widths = [
        width_of(forecaster, bars, year, reads_market=card.reads_market)
        for bars, year in zip(histories, years, strict=True)
    ]
    return factors, widths


class ReplayStore:
    """Replays by model and ticker; each new session overwrites the one before.

    Args:
        store: while it is unavailable, every process replays for itself.
        writer: writes new replays in the background; a failure of either pauses both.
    """

    def __init__(self, store: ArtifactStore, writer: WriteBehind) -> None:
        self._store = store
        self._writer = writer

    def replayed(self, card: ModelCard, forecaster: AdaptiveForecaster, inputs: Sequence[ForecastInput]) -> Replayed:
        """The last session of each input: kept replays, and those of the rest together."""
        factors = np.zeros((len(inputs), forecaster.horizon, TRACKED_LEVELS.size))
        widths: list[Width | None] = [None] * len(inputs)
        with ThreadPoolExecutor(READERS) as readers:
            kept = list(readers.map(partial(self._read, card, factors.shape[1:]), inputs))
        missing = [row for row, found in enumerate(kept) if found is None]
        for row, found in enumerate(kept):
            if found is not None:
                factors[row], widths[row] = found.log_factors, found.width
        chunks = [missing[first : first + TOGETHER] for first in range(0, len(missing), TOGETHER)]
        with ThreadPoolExecutor(os.cpu_count()) as workers:
            replayed = workers.map(lambda rows: replay(card, forecaster, [inputs[k].bars for k in rows]), chunks)
            for rows, (found_factors, found_widths) in zip(chunks, replayed, strict=True):
                factors[rows] = found_factors
                for row, width in zip(rows, found_widths, strict=True):
                    widths[row] = width
        for row in missing:
            self._keep(card, inputs[row], factors[row], widths[row])
        return factors, widths

    def _read(self, card: ModelCard, shape: tuple[int, ...], given: ForecastInput) -> Replay | None:
        if self._writer.pause.lasts:
            return None
        try:
            replay = read_document(self._store, _key(card, given), Replay)
        except (ArtifactNotFound, ArtifactCorrupt):  # damaged, or of an earlier version
            return None
        except AppError as error:
            self._writer.pause.begin()
            log.warning("no replay of %s was read: %s", given.history.series.ticker, error.message)
            return None
        fits = replay.sha256 == _digest(card, given) and _are_log_factors(replay.log_factors, shape)
        return replay if fits else None

    def _keep(self, card: ModelCard, given: ForecastInput, factors: LogFactors, width: Width | None) -> None:
        replay = Replay(
            ticker=given.history.series.ticker,
            model_id=card.model_id,
            session=given.history.as_of,
            sha256=_digest(card, given),
            log_factors=tuple(map(tuple, factors.tolist())),
            width=width,
        )
        self._writer.put(partial(self._write, _key(card, given), replay))

    def _write(self, key: str, replay: Replay) -> bool:
        try:
            self._store.put(key, replay.model_dump_json().encode())
        except AppError as error:
            log.warning("the replay of %s was not stored: %s", replay.ticker, error.message)
            return False
        return True


def _are_log_factors(stored: Sequence[Sequence[float]], shape: tuple[int, ...]) -> bool:
    return (len(stored), *{len(row) for row in stored}) == shape and bool(np.abs(stored).max() <= RATE * MEMORY)


def _key(card: ModelCard, given: ForecastInput) -> str:
    return f"{REPLAYS}{card.model_id}/{key_name(given.history.series.ticker)}.json"


def _digest(card: ModelCard, given: ForecastInput) -> str:
    """Of the prices and of the model's files: a replay is of both."""
    files = "".join(card.files[name].sha256 for name in sorted(card.files))
    return sha256(files.encode() + given.bars.tobytes()).hexdigest()
