"""Models by id: the card and the files it vouches for."""

import re
import threading
from collections.abc import Mapping
from hashlib import sha256
from typing import Protocol

import numpy as np
from cachetools import LRUCache
from pydantic import JsonValue, TypeAdapter, ValidationError

from errors import ArtifactCorrupt, ArtifactNotFound, ArtifactTooNew, ModelNotFound
from models.conformal import CalibratedForecaster, Calibration
from models.presets import PRESETS
from schemas.card import FORMAT_VERSION, FileReport, ModelCard
from services.storage.store import ArtifactStore

CARD = "metadata.json"
CALIBRATION = "calibration.json"

MAX_LOADED = 16  # models kept in the process, about 1 MB each

_SEALED = re.compile(rb'\{"sha256":"([0-9a-f]{64})",')
_OBJECT = TypeAdapter(dict[str, JsonValue])
_SCORES = TypeAdapter(tuple[tuple[float, ...], ...])


class ModelRegistry:
    """Stored models, and those of them already loaded.

    A model is ``models/{id}/`` with its files and, written last, its card. The
    card seals itself and every file with a sha256; a model is whole or it is an
    error. Loaded models are kept by the checksum of their files, so that a
    replaced model is never confused with its predecessor.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._loaded: LRUCache[str, CalibratedForecaster] = LRUCache(MAX_LOADED)
        self._lock = threading.Lock()

    def publish(self, card: ModelCard, files: Mapping[str, bytes]) -> None:
        """Store a model; it exists once this returns.

        Raises:
            StoreUnavailable: nothing that is listed as a model was left behind.
        """
        for name, content in files.items():
            self._store.put(model_key(card.model_id, name), content)
        self._store.put(model_key(card.model_id, CARD), seal(card))

    def card(self, model_id: str) -> ModelCard:
        """The card of a model.

        Raises:
            ModelNotFound: there is none.
            ArtifactCorrupt: it is not what was written.
            ArtifactTooNew: a later version of this program wrote it.
        """
        try:
            content = self._store.get(model_key(model_id, CARD))
        except ArtifactNotFound:
            raise ModelNotFound(f"no model {model_id!r}", model_id=model_id) from None
        card = unseal(content, model_id)
        if card.model_id != model_id:
            raise ArtifactCorrupt(f"the card under {model_id!r} is that of {card.model_id!r}")
        return card

    def load(self, card: ModelCard) -> CalibratedForecaster:
        """The model of a card, ready to forecast; read and checked once, then kept.

        Raises:
            ModelNotFound: a file is missing.
            ArtifactCorrupt: a file is not the one the card vouches for.
        """
        key = "".join(card.files[name].sha256 for name in sorted(card.files))
        with self._lock:
            forecaster = self._loaded.get(key)
        if forecaster is None:
            forecaster = self._read(card)
            with self._lock:
                self._loaded[key] = forecaster
        return forecaster

    def file(self, card: ModelCard, name: str) -> bytes:
        """One file of a model.

        Raises:
            ModelNotFound: it is missing.
            ArtifactCorrupt: it is not the one the card vouches for.
        """
        return self._checked(card, name)

    def ids(self, prefix: str = "") -> list[str]:
        """Ids of the models that have a card, ascending."""
        found = (key.removeprefix("models/").rpartition("/") for key in self._store.list_keys(f"models/{prefix}"))
        return sorted(folder for folder, _, name in found if name == CARD)  # not key order: "-" sorts before "/"

    def delete(self, model_id: str) -> None:
        """Remove a model, its card first, so that it is never seen without its files.

        Raises:
            ModelNotFound: there is none.
        """
        if not self._store.exists(model_key(model_id, CARD)):
            raise ModelNotFound(f"no model {model_id!r}", model_id=model_id)
        self._store.delete(model_key(model_id, CARD))
        for key in self._store.list_keys(f"models/{model_id}/"):
            self._store.delete(key)

    def _read(self, card: ModelCard) -> CalibratedForecaster:
        files = {name: self._checked(card, name) for name in card.files}
        preset = PRESETS[card.model]
        missing = {*preset.files, CALIBRATION} - set(files)
        if missing:
            raise ArtifactCorrupt(f"the card of {card.model_id!r} names no {', '.join(sorted(missing))}")
        forecaster = preset.load(files, card.quantile_levels)
        calibration = calibration_from_json(files[CALIBRATION])
        if (forecaster.lookback, forecaster.horizon) != (card.lookback, card.horizon):
            raise ArtifactCorrupt(f"the network of {card.model_id!r} does not fit its card")
        return CalibratedForecaster(forecaster, calibration)

    def _checked(self, card: ModelCard, name: str) -> bytes:
        try:
            content = self._store.get(model_key(card.model_id, name))
        except ArtifactNotFound:
            raise ModelNotFound(f"model {card.model_id!r} has lost its {name}", model_id=card.model_id) from None
        if sha256(content).hexdigest() != card.files[name].sha256:
            raise ArtifactCorrupt(f"{name} of model {card.model_id!r} is not what its card vouches for")
        return content


class Dumpable(Protocol):
    """A pydantic document."""

    def model_dump_json(self) -> str:
        """JSON text."""
        ...


def model_key(model_id: str, name: str) -> str:
    """Where a file of a model is stored.

    >>> model_key("petr4-sa-20240719-1a2b3c4d", "metadata.json")
    'models/petr4-sa-20240719-1a2b3c4d/metadata.json'
    """
    return f"models/{model_id}/{name}"


def file_report(content: bytes) -> FileReport:
    """What a card says of a file."""
    return FileReport(sha256=sha256(content).hexdigest(), n_bytes=len(content))


def seal(document: Dumpable) -> bytes:
    """JSON bytes that begin with the sha256 of the rest, so that any changed byte shows."""
    body = document.model_dump_json().encode()
    return b'{"sha256":"' + sha256(body).hexdigest().encode() + b'",' + body[1:]


def unseal(content: bytes, model_id: str) -> ModelCard:
    """The card in sealed bytes.

    Raises:
        ArtifactCorrupt: the seal is broken or the content is no card.
        ArtifactTooNew: ``format_version`` is above ours.
    """
    sealed = _SEALED.match(content)
    if sealed is None:
        raise ArtifactCorrupt(f"the card of {model_id!r} carries no seal")
    body = b"{" + content[sealed.end() :]
    if sha256(body).hexdigest().encode() != sealed[1]:
        raise ArtifactCorrupt(f"the card of {model_id!r} was changed after it was written")
    try:
        _refuse_newer(_OBJECT.validate_json(body), model_id)
        return ModelCard.model_validate_json(body)
    except ValidationError as error:
        raise ArtifactCorrupt(f"the card of {model_id!r} is not a model card") from error


def calibration_to_json(calibration: Calibration) -> bytes:
    """Conformity scores per step, as a JSON list of lists."""
    return _SCORES.dump_json(tuple(tuple(float(f"{score:.6g}") for score in step) for step in calibration.scores))


def calibration_from_json(content: bytes) -> Calibration:
    """The inverse of ``calibration_to_json``.

    Raises:
        ArtifactCorrupt: the content is no list of lists of numbers.
    """
    try:
        return Calibration(tuple(np.array(step, dtype=np.float64) for step in _SCORES.validate_json(content)))
    except ValidationError as error:
        raise ArtifactCorrupt("the stored calibration is not readable") from error


def _refuse_newer(body: Mapping[str, JsonValue], model_id: str) -> None:
    version = body.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ArtifactTooNew(f"model {model_id!r} has format version {version}, this program reads {FORMAT_VERSION}")
