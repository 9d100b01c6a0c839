"""Models by id: the card and the files it vouches for."""

import re
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256

import numpy as np
from cachetools import LRUCache
from pydantic import TypeAdapter, ValidationError

from errors import ArtifactCorrupt, ArtifactInvalid, ArtifactNotFound, ModelInUse, ModelNotFound, StoreUnavailable
from models.conformal import Calibration, ServedForecaster
from models.serving import served
from models.specs import MODEL_SPECS
from schemas.alias import Alias, AliasMove
from schemas.card import FileReport, ModelCard
from services.storage.bundled import BundledModel
from services.storage.cards import read_card, write_card
from services.storage.documents import document_keys, read_document
from services.storage.store import ArtifactStore
from services.storage.ttl_cache import TtlCache
from telemetry.measures import MODEL_CACHE, NO_METER, Meter

CARD = "metadata.json"
CALIBRATION = "calibration.json"

ALIASES = "aliases/"
DEFAULT = "default"
MAX_EARLIER = 100  # moves of an alias that are remembered

_ALIAS = re.compile(r"[a-z]+(?:-[a-z]+)*")

MAX_LOADED = 16  # models kept in the process, about 1 MB each

_SCORES = TypeAdapter(tuple[tuple[float, ...], ...])


class ModelRegistry:
    """Stored models, and those of them already loaded.

    A model is ``models/{id}/`` with its files and, written last, its card. The
    card seals itself and every file with a sha256; a model is whole or it is an
    error. Loaded models are kept by the checksum of their card, so that a
    replaced model is never confused with its predecessor.
    """

    def __init__(self, store: ArtifactStore, bundled: BundledModel | None = None, meter: Meter = NO_METER) -> None:
        self._store = store
        self._bundled = bundled
        self._meter = meter
        self._aliases = TtlCache[Alias | None]()
        self._cards = TtlCache[ModelCard]()
        self._loaded: LRUCache[str, ServedForecaster] = LRUCache(MAX_LOADED)
        self._load_seconds: LRUCache[str, float] = LRUCache(MAX_LOADED)
        self._fingerprints: LRUCache[int, tuple[ModelCard, str]] = LRUCache(MAX_LOADED)
        self._lock = threading.Lock()

    def publish(self, card: ModelCard, files: Mapping[str, bytes]) -> None:
        """Store a model; it exists once this returns.

        Raises:
            StoreUnavailable: nothing that is listed as a model was left behind.
        """
        for name, content in files.items():
            self._store.put(model_key(card.model_id, name), content)
        self._store.put(model_key(card.model_id, CARD), write_card(card))
        self._cards.forget(card.model_id)

    def card(self, name: str) -> ModelCard:
        """The card of a model, by its id or by an alias; ``default`` is the bundled one until it is moved.

        Raises:
            ModelNotFound: there is none.
            ArtifactCorrupt: it is not what was written.
            ArtifactTooNew: a later version of this program wrote it.
        """
        model_id = self.id_of(name)
        if self._bundled is not None and (model_id == DEFAULT or model_id == self._bundled_id()):
            return self._bundled.card
        return self._cards.get_or_load(model_id, self._read_card)

    def id_of(self, name: str) -> str:
        """What an alias stands for now, the name itself where it is none; whether there is such a model is not asked.

        Raises:
            ArtifactCorrupt, StoreUnavailable: what the alias stands for cannot be read.
        """
        alias = self.alias(name)
        return (self._unmoved(name) or name) if alias is None else alias.model_id

    def card_to_serve(self, name: str) -> tuple[ModelCard, tuple[str, ...]]:
        """The card to answer with, and what its reader should be warned of.

        Where the store is down before ``default`` was ever read, the bundled model answers for it: whether the alias
        was moved is not known then, and an answer that says so is worth more than none.

        Raises:
            ModelNotFound, ArtifactCorrupt, ArtifactTooNew, StoreUnavailable: as ``card``.
        """
        try:
            return self.card(name), ()
        except StoreUnavailable:
            bundled = self.bundled
            if name != DEFAULT or bundled is None:
                raise
            stands_in = f"serving bundled model {bundled.model_id!r}, which may not be the current default"
            return bundled, (f"storage unavailable; {stands_in}",)

    def alias(self, name: str) -> Alias | None:
        """What an alias stands for; None where it was never moved, or is no alias."""
        if not _ALIAS.fullmatch(name):
            return None
        return self._aliases.get_or_load(name, self._read_alias)

    def aliases(self) -> tuple[Alias, ...]:
        """All aliases that were ever moved and can be read, by name."""
        names = (key.removeprefix(ALIASES).removesuffix(".json") for key in document_keys(self._store, ALIASES))
        return tuple(alias for alias in map(self._readable_alias, names) if alias is not None)

    def look_again(self, name: str) -> None:
        """Ask the store what an alias stands for the next time, however lately it was asked."""
        self._aliases.forget(name)

    def move_alias(self, name: str, model_id: str, now: datetime, evidence: str | None = None) -> Alias:
        """Let an alias stand for another model; ``evidence`` is the key of what speaks for it.

        Raises:
            ModelNotFound: there is no such model.
        """
        before = self._readable_alias(name)  # moving it is how a broken one is mended
        card = self.card(model_id)
        moved = Alias(
            alias=name,
            model_id=card.model_id,
            previous_model_id=self._unmoved(name) if before is None else before.model_id,
            moved_at=now,
            evidence=evidence,
            earlier=_moves_of(before)[:MAX_EARLIER],
        )
        self._store.put(_alias_key(name), moved.model_dump_json().encode())
        self._aliases.forget(name)
        return moved

    def load(self, card: ModelCard) -> ServedForecaster:
        """The model of a card, ready to forecast; read and checked once, then kept.

        Raises:
            ModelNotFound: a file is missing.
            ArtifactCorrupt: a file is not the one the card vouches for.
        """
        key = self._fingerprint(card)
        with self._lock:
            forecaster = self._loaded.get(key)
        self._meter.record(MODEL_CACHE, outcome="miss" if forecaster is None else "hit")
        if forecaster is None:
            started = time.perf_counter()
            forecaster = self._read(card)
            with self._lock:
                self._loaded[key] = forecaster
                self._load_seconds[key] = time.perf_counter() - started
        return forecaster

    def load_seconds(self, card: ModelCard) -> float | None:
        """What reading and checking the model of a card took; None where it is not loaded."""
        key = self._fingerprint(card)
        with self._lock:
            return self._load_seconds.get(key) if key in self._loaded else None

    @property
    def store(self) -> ArtifactStore:
        """Where models and aliases are kept."""
        return self._store

    @property
    def bundled(self) -> ModelCard | None:
        """The card of the model that comes with the program, where there is one."""
        return None if self._bundled is None or self._bundled_id() is None else self._bundled.card

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
            ModelInUse: an alias stands for it, or it comes with the program.
        """
        names = [alias.alias for alias in self.aliases() if alias.model_id == model_id]
        if names:
            raise ModelInUse(f"{', '.join(names)} stands for model {model_id!r}: move it first", model_id=model_id)
        if not self._store.exists(model_key(model_id, CARD)):
            if self.bundled is not None and model_id == self.bundled.model_id:
                raise ModelInUse(f"model {model_id!r} comes with the program: it stays", model_id=model_id)
            raise ModelNotFound(f"no model {model_id!r}", model_id=model_id)
        self._store.delete(model_key(model_id, CARD))
        self._cards.forget(model_id)
        for key in self._store.list_keys(f"models/{model_id}/"):
            self._store.delete(key)

    def _fingerprint(self, card: ModelCard) -> str:
        """The checksum of the whole card, computed once per card object: it takes as long as a short forecast."""
        with self._lock:
            known = self._fingerprints.get(id(card))
        if known is not None and known[0] is card:
            return known[1]
        fingerprint = sha256(card.model_dump_json().encode()).hexdigest()
        with self._lock:
            self._fingerprints[id(card)] = (card, fingerprint)  # the card too: no other object gets its id
        return fingerprint

    def _read_card(self, model_id: str) -> ModelCard:
        try:
            content = self._store.get(model_key(model_id, CARD))
        except ArtifactNotFound:
            raise ModelNotFound(f"no model {model_id!r}", model_id=model_id) from None
        card = read_card(content, model_id)
        if card.model_id != model_id:
            raise ArtifactCorrupt(f"the card under {model_id!r} is that of {card.model_id!r}")
        return card

    def _read_alias(self, name: str) -> Alias | None:
        try:
            return read_document(self._store, _alias_key(name), Alias)
        except ArtifactNotFound:
            return None

    def _readable_alias(self, name: str) -> Alias | None:
        try:
            return self._read_alias(name)
        except ArtifactCorrupt:
            return None

    def _unmoved(self, name: str) -> str | None:
        """What an alias stands for that was never moved."""
        return self._bundled_id() if name == DEFAULT and self._bundled is not None else None

    def _read(self, card: ModelCard) -> ServedForecaster:
        files = {name: self._checked(card, name) for name in card.files}
        spec = MODEL_SPECS[card.model]
        missing = {*spec.files, CALIBRATION} - set(files)
        if missing:
            raise ArtifactCorrupt(f"the card of {card.model_id!r} names no {', '.join(sorted(missing))}")
        forecaster = spec.load(files, card.quantile_levels)
        calibration = calibration_from_json(files[CALIBRATION])
        if (forecaster.lookback, forecaster.horizon) != (card.lookback, card.horizon):
            raise ArtifactCorrupt(f"the network of {card.model_id!r} does not fit its card")
        return served(forecaster, calibration, card.calibration)

    def _checked(self, card: ModelCard, name: str) -> bytes:
        try:
            content = self._content(card.model_id, name)
        except ArtifactNotFound:
            raise ModelNotFound(f"model {card.model_id!r} has lost its {name}", model_id=card.model_id) from None
        if sha256(content).hexdigest() != card.files[name].sha256:
            raise ArtifactCorrupt(f"{name} of model {card.model_id!r} is not what its card vouches for")
        return content

    def _content(self, model_id: str, name: str) -> bytes:
        if self._bundled is not None and model_id == self._bundled_id():
            return self._bundled.read(name)
        return self._store.get(model_key(model_id, name))

    def _bundled_id(self) -> str | None:
        assert self._bundled is not None  # noqa: S101 - asked only then
        try:
            return self._bundled.card.model_id
        except (ModelNotFound, ArtifactInvalid):
            return None  # stored models must serve without it; whoever asks for it by name is told


def _moves_of(alias: Alias | None) -> tuple[AliasMove, ...]:
    """Every move that an alias remembers, newest first."""
    if alias is None:
        return ()
    return (AliasMove(model_id=alias.model_id, moved_at=alias.moved_at, evidence=alias.evidence), *alias.earlier)


def _alias_key(name: str) -> str:
    return f"{ALIASES}{name}.json"


def model_key(model_id: str, name: str) -> str:
    """Where a file of a model is stored.

    >>> model_key("petr4-sa-20240719-1a2b3c4d", "metadata.json")
    'models/petr4-sa-20240719-1a2b3c4d/metadata.json'
    """
    return f"models/{model_id}/{name}"


def file_report(content: bytes) -> FileReport:
    """What a card says of a file."""
    return FileReport(sha256=sha256(content).hexdigest(), n_bytes=len(content))


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
