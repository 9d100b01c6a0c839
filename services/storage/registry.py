"""Models by id: the card and the files whose checksums it holds."""

import re
import time
from collections.abc import Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from errors import (
    AliasMoved,
    AppError,
    ArtifactCorrupt,
    ArtifactInvalid,
    ArtifactNotFound,
    ModelInUse,
    ModelNotFound,
    StoreUnavailable,
)
from models.checked import MAX_STEPS, validate_model
from models.conformal import Calibration, ServedForecaster
from models.serving import served
from models.specs import MODEL_SPECS
from schemas.alias import ALIAS_PATTERN, Alias, AliasMove, AliasRecord
from schemas.card import FileReport, ModelCard
from schemas.common import OF_TICKER
from schemas.keys import key_name, ticker_of
from services.storage.alias_moves import (
    decide_deletion,
    deletion_key,
    deletions,
    end_deletion,
    in_use,
    is_decided,
    point_alias,
)
from services.storage.bundled import BundledModel
from services.storage.cards import read_card, write_card
from services.storage.documents import document_keys, read_updated, readable_documents
from services.storage.store import ArtifactStore
from services.storage.ttl_cache import TtlCache
from telemetry.measures import MODEL_CACHE, NO_METER, Meter

CARD = "metadata.json"
CALIBRATION = "calibration.json"

ALIASES = "aliases/"
DEFAULT = "default"
MAX_EARLIER = 100  # moves that an alias document lists

_ALIAS = re.compile(ALIAS_PATTERN)

UNFINISHED_FOR = timedelta(days=7)  # files without a card: the longest that a training may take, and more
_ORDERED = re.compile(r"-(\d{4})(\d{2})(\d{2})-[0-9a-f]{8}$")  # the end of an id, see ``services.catalogue``

MAX_LOADED = 64  # models kept in the process, about 2 MB each
MAX_NAMES = 2048  # aliases kept in the process; a batch has up to 500
MAX_CALIBRATION_BYTES = 16_000_000  # older models keep every score; those of today have a tenth of a megabyte
READERS = 8  # threads that read aliases and models of many tickers

_SCORES = TypeAdapter(tuple[tuple[float, ...], ...])


@dataclass(frozen=True, eq=False)
class _Loaded:
    forecaster: ServedForecaster
    seconds: float


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model ready to forecast.

    Attributes:
        card: of the model.
        forecaster: the model itself.
        warnings: say so where the model stands in for another.
        alias: the alias that led to the model; None for a model that was named by its id.
    """

    card: ModelCard
    forecaster: ServedForecaster
    warnings: tuple[str, ...] = ()
    alias: str | None = None


class ModelRegistry:
    """Stored models, and those of them already loaded.

    A model is ``models/{id}/`` with its files and, written last, its card, which holds the sha256 of every file:
    a model that is not whole is an error.
    """

    def __init__(self, store: ArtifactStore, bundled: BundledModel | None = None, meter: Meter = NO_METER) -> None:
        self._store = store
        self._bundled = bundled
        self._meter = meter
        self._aliases = TtlCache[str, Alias | None](MAX_NAMES)
        self._ticker_aliases = TtlCache[str, frozenset[str]]()
        self._cards = TtlCache[str, ModelCard](MAX_NAMES)
        self._served = TtlCache[str, ServedModel](MAX_NAMES)
        self._champions = TtlCache[str, ServedModel | AppError | None](MAX_NAMES)
        self._loaded = TtlCache[Hashable, _Loaded](MAX_LOADED, expires=False)

    def publish(self, card: ModelCard, files: Mapping[str, bytes]) -> None:
        """Store a model.

        Raises:
            StoreUnavailable: the model is not stored, and not listed.
        """
        for name, content in files.items():
            self._store.put(model_key(card.model_id, name), content)
        self._store.put(model_key(card.model_id, CARD), write_card(card))
        self._cards.forget(card.model_id)
        self._forget_served()

    def card(self, name: str) -> ModelCard:
        """The card of a model, by its id or by an alias.

        Until it is moved, ``default`` is the bundled model, and the alias of a ticker is ``default``.

        Raises:
            ModelNotFound, ArtifactCorrupt, StoreUnavailable: the card, or the alias, cannot be read.
            ArtifactTooNew: a later version of this program wrote it.
        """
        model_id = self.id_of(name)
        if self._bundled is not None and model_id in (DEFAULT, self._bundled_id):
            return self._bundled.card
        return self._cards.get_or_load(model_id, lambda: self._read_card(model_id))

    def id_of(self, name: str) -> str:
        """The id of the model that an alias points to, moved or not; any other name is returned as it is.

        Raises:
            ArtifactCorrupt, StoreUnavailable: the alias cannot be read.
        """
        alias = self.alias(name)
        return (self._unmoved(name) or name) if alias is None else alias.model_id

    def serve(self, name: str) -> ServedModel:
        """The model to forecast with, loaded, by its id or by an alias.

        The alias of a ticker that was never moved, or whose model cannot be loaded, is served by ``default``, in the
        second case with a warning. Where the store is down before ``default`` was ever read, the bundled model is
        served with a warning, because the alias may point to another model.

        Raises:
            ModelNotFound, ArtifactCorrupt, ArtifactTooNew, StoreUnavailable: as ``card`` and ``load``.
        """
        if not name.startswith(OF_TICKER):
            return self._served.get_or_load(name, lambda: self._serve(name))
        try:
            found = self._champions.get_or_load(name, lambda: self._champion(name))
        except StoreUnavailable as error:
            found = error
        if isinstance(found, ServedModel):
            return found
        return self.serve(DEFAULT) if found is None else self.stand_in(name, found)

    def serve_each(self, names: Iterable[str]) -> dict[str, ServedModel | AppError]:
        """``serve`` of many names at once, each with its model or its error."""

        def served_or_error(name: str) -> ServedModel | AppError:
            try:
                return self.serve(name)
            except AppError as error:
                return error

        distinct = list(dict.fromkeys(names))
        if len(distinct) > 1:
            with suppress(AppError):  # once, before each thread would do the same
                self._aliases_of_tickers()
                self.serve(DEFAULT)
        with ThreadPoolExecutor(READERS) as readers:
            return dict(zip(distinct, readers.map(served_or_error, distinct), strict=True))

    def stand_in(self, name: str, error: AppError) -> ServedModel:
        """``default`` in the place of the alias of a ticker, with a warning that says why."""
        model = self.serve(DEFAULT)
        if isinstance(error, StoreUnavailable):
            reason = f"serving {model.card.model_id!r}, which may not be the current model of {name!r}"
            return replace(model, warnings=model.warnings or (f"storage unavailable; {reason}",))
        reason = f"the model of {name!r} cannot be used, {DEFAULT!r} answers: {error.message}"
        return replace(model, warnings=(*model.warnings, reason))

    def _champion(self, name: str) -> ServedModel | AppError | None:
        """The model of a ticker's alias; why it cannot be loaded; None where the alias was never moved."""
        try:
            return None if self.alias(name) is None else self._serve(name)
        except (ModelNotFound, ArtifactInvalid) as error:
            return error

    def _serve(self, name: str) -> ServedModel:
        try:
            card = self.card(name)
        except StoreUnavailable:
            bundled = self.bundled
            if name != DEFAULT or bundled is None:
                raise
            stands_in = f"serving bundled model {bundled.model_id!r}, which may not be the current default"
            return ServedModel(bundled, self.load(bundled), (f"storage unavailable; {stands_in}",), name)
        return ServedModel(card, self.load(card), alias=None if name == card.model_id else name)

    def alias(self, name: str) -> Alias | None:
        """The alias of this name; None where it was never moved, or the name cannot be an alias."""
        if not _ALIAS.fullmatch(name):
            return None
        if name.startswith(OF_TICKER) and name not in self._aliases_of_tickers():
            return None
        return self._aliases.get_or_load(name, lambda: self._read_alias(name))

    def aliases(self) -> tuple[Alias, ...]:
        """All aliases that were ever moved and are readable, those of tickers last, ordered by name."""
        names = sorted(self._alias_names(ALIASES), key=lambda name: (name.startswith(OF_TICKER), name))
        keys = map(_alias_key, names)
        records = readable_documents(self._store, keys, AliasRecord, self._meter, read_updated)
        return tuple(record.moved for record in records if record.moved is not None)

    def look_again(self, name: str) -> None:
        """Read the alias from the store the next time, even where it is cached."""
        self._ticker_aliases.clear()
        self._aliases.forget(name)
        self._served.forget(name)
        self._champions.forget(name)

    def move_alias(
        self,
        name: str,
        model_id: str,
        now: datetime,
        evidence: str | None = None,
        expected: str | None = None,
    ) -> Alias:
        """Point an alias to a model. Moves at the same moment follow one another, each with the others in its history.

        Args:
            name: the alias.
            model_id: a model, by its id or by an alias.
            now: the time.
            evidence: key of the evaluation that justifies the move.
            expected: the id of the model that the alias must point to before; None for any.

        Raises:
            ModelNotFound: there is no such model, or it is being deleted.
            AliasMoved: the alias does not point to ``expected``.
            StoreUnavailable: from the store, or others kept changing the alias.
        """
        card = self.card(model_id)
        unmoved = self._readable_unmoved(name)

        def moved(before: Alias | None) -> Alias:  # an unreadable alias is repaired by moving it
            previous = unmoved if before is None else before.model_id
            if expected is not None and previous != expected:
                raise AliasMoved(f"alias {name!r} points to {previous!r} now, not to {expected!r}", alias=name)
            return Alias(
                alias=name,
                model_id=card.model_id,
                previous_model_id=previous,
                moved_at=now,
                evidence=evidence,
                earlier=_moves_of(before)[:MAX_EARLIER],
            )

        try:
            return point_alias(
                self._store, _alias_key(name), name, card.model_id, lambda: self._validate_stored(card.model_id), moved
            )
        finally:
            self.look_again(name)

    def _validate_stored(self, model_id: str) -> None:
        if model_id != self._bundled_id and not self._store.exists(model_key(model_id, CARD)):
            self._cards.forget(model_id)
            raise ModelNotFound(f"no model {model_id!r}", model_id=model_id)

    def load(self, card: ModelCard) -> ServedForecaster:
        """The model of a card, read and checked once.

        Raises:
            ModelNotFound: a file is missing.
            ArtifactCorrupt: the checksum of a file differs from the card's.
        """
        key = _identity(card)
        self._meter.record(MODEL_CACHE, outcome="miss" if self._loaded.peek(key) is None else "hit")
        return self._loaded.get_or_load(key, lambda: self._read(card)).forecaster

    def load_seconds(self, card: ModelCard) -> float | None:
        """How long reading and checking the model took; None where it is not loaded."""
        loaded = self._loaded.peek(_identity(card))
        return None if loaded is None else loaded.seconds

    @property
    def store(self) -> ArtifactStore:
        return self._store

    @property
    def bundled(self) -> ModelCard | None:
        """The card of the bundled model; None where it is missing or unreadable: stored models serve without it."""
        try:
            return None if self._bundled is None else self._bundled.card
        except (ModelNotFound, ArtifactInvalid):
            return None

    def file(self, card: ModelCard, name: str) -> bytes:
        """One file of a model.

        Raises:
            ModelNotFound: it is missing.
            ArtifactCorrupt: its checksum differs from the card's.
        """
        try:
            content = self._content(card.model_id, name)
        except ArtifactNotFound:
            raise ModelNotFound(f"model {card.model_id!r} has no file {name}", model_id=card.model_id) from None
        if sha256(content).hexdigest() != card.files[name].sha256:
            raise ArtifactCorrupt(f"{name} of model {card.model_id!r} does not match the checksum in its card")
        return content

    def ids(self, prefix: str = "") -> list[str]:
        """Ids of the models that have a card, ascending."""
        found = (key.removeprefix("models/").rpartition("/") for key in self._store.list_keys(f"models/{prefix}"))
        return sorted(folder for folder, _, name in found if name == CARD)  # not key order: "-" sorts before "/"

    def delete(self, model_id: str) -> None:
        """Remove a model, its card first, so that it is never seen without its files.

        Raises:
            ModelNotFound: there is no such model.
            ModelInUse: an alias points to it, or it is the bundled model.
        """
        names = [alias.alias for alias in self.aliases() if alias.model_id == model_id]
        if names:
            raise in_use(model_id, names)
        if not self._store.exists(model_key(model_id, CARD)) and not self._store.exists(deletion_key(model_id)):
            if model_id == self._bundled_id:
                raise ModelInUse(f"model {model_id!r} is the bundled model and cannot be deleted", model_id=model_id)
            raise ModelNotFound(f"no model {model_id!r}", model_id=model_id)
        decide_deletion(self._store, model_id, lambda: document_keys(self._store, ALIASES))
        self._remove(model_id)

    def remove_leftovers(self, now: datetime) -> list[str]:
        """Delete what a crash has left of models, and return their ids.

        These are models whose deletion has begun and cannot be stopped, and files without a card whose model was
        ordered, by the day in its id, more than ``UNFINISHED_FOR`` ago: no training takes that long.
        """
        stored = {tuple(key.removeprefix("models/").split("/", 1)) for key in self._store.list_keys("models/")}
        whole = {folder for folder, name in stored if name == CARD}
        unfinished = [folder for folder in sorted({folder for folder, _ in stored} - whole) if _is_old(folder, now)]
        begun = [
            model_id
            for model_id in deletions(self._store)
            if model_id not in whole or is_decided(self._store, model_id)
        ]
        for model_id in begun:
            self.delete(model_id)
        for model_id in unfinished:
            self._remove(model_id)
        return [*begun, *unfinished]

    def _remove(self, model_id: str) -> None:
        self._store.delete(model_key(model_id, CARD))
        self._cards.forget(model_id)
        self._forget_served()
        for key in self._store.list_keys(f"models/{model_id}/"):
            self._store.delete(key)
        end_deletion(self._store, model_id)

    def _forget_served(self) -> None:
        self._served.clear()
        self._champions.clear()

    def _aliases_of_tickers(self) -> frozenset[str]:
        """Names of the aliases of tickers: most tickers have none, and one list spares a read for each."""
        prefix = f"{ALIASES}{OF_TICKER}"
        return self._ticker_aliases.get_or_load(prefix, lambda: frozenset(self._alias_names(prefix)))

    def _alias_names(self, prefix: str) -> list[str]:
        names = [_alias_name(key) for key in document_keys(self._store, prefix)]
        return [name for name in names if _ALIAS.fullmatch(name)]

    def _read_card(self, model_id: str) -> ModelCard:
        if model_id.startswith(OF_TICKER):  # neither the ticker nor ``default`` has a model
            raise ModelNotFound(f"no model {model_id!r}", model_id=model_id)
        try:
            content = self._store.get(model_key(model_id, CARD))
        except ArtifactNotFound:
            raise ModelNotFound(f"no model {model_id!r}", model_id=model_id) from None
        card = read_card(content, model_id)
        if card.model_id != model_id:
            raise ArtifactCorrupt(f"the card of {model_id!r} names another model, {card.model_id!r}")
        return card

    def _read_alias(self, name: str) -> Alias | None:
        try:
            return read_updated(self._store, _alias_key(name), AliasRecord).moved
        except ArtifactNotFound:
            return None

    def _readable_alias(self, name: str) -> Alias | None:
        try:
            return self._read_alias(name)
        except ArtifactCorrupt:
            return None

    def _readable_unmoved(self, name: str) -> str | None:
        try:
            return self._unmoved(name, fresh=True)
        except ArtifactCorrupt:
            return None

    def _unmoved(self, name: str, *, fresh: bool = False) -> str | None:
        """The model that an alias points to before it is ever moved; ``fresh``: not from the cache."""
        if name == DEFAULT:
            return self._bundled_id
        if not (name.startswith(OF_TICKER) and _ALIAS.fullmatch(name)):
            return None
        alias = self._read_alias(DEFAULT) if fresh else self.alias(DEFAULT)
        return self._bundled_id if alias is None else alias.model_id

    def _read(self, card: ModelCard) -> _Loaded:
        started = time.perf_counter()
        spec = MODEL_SPECS[card.model]
        needed = {*spec.files, CALIBRATION}
        missing = needed - set(card.files)
        if missing:
            raise ArtifactCorrupt(f"the card of {card.model_id!r} lists no file {', '.join(sorted(missing))}")
        files = {name: self.file(card, name) for name in sorted(needed)}
        forecaster = spec.load(files, card.quantile_levels)
        calibration = calibration_from_json(files[CALIBRATION])
        if (forecaster.lookback, forecaster.horizon) != (card.lookback, card.horizon):
            raise ArtifactCorrupt(f"the network of {card.model_id!r} does not fit its card")
        model = served(forecaster, calibration, card.calibration)
        if len(calibration.scores) >= card.horizon:  # with fewer, ``validate`` refuses the steps that are missing
            validate_model(model)
        return _Loaded(model, time.perf_counter() - started)

    def _content(self, model_id: str, name: str) -> bytes:
        if self._bundled is not None and model_id == self._bundled_id:
            return self._bundled.read(name)
        return self._store.get(model_key(model_id, name))

    @property
    def _bundled_id(self) -> str | None:
        return None if self.bundled is None else self.bundled.model_id


def _identity(card: ModelCard) -> Hashable:
    """Everything that decides how the model of a card forecasts; its files by their checksums."""
    files = tuple(sorted((name, file.sha256) for name, file in card.files.items()))
    return card.model_id, card.model, card.lookback, card.horizon, card.calibration, card.quantile_levels, files


def _is_old(model_id: str, now: datetime) -> bool:
    ordered = _ORDERED.search(model_id)
    return ordered is not None and now.date() - date(*map(int, ordered.groups())) > UNFINISHED_FOR


def _moves_of(alias: Alias | None) -> tuple[AliasMove, ...]:
    if alias is None:
        return ()
    return (AliasMove(model_id=alias.model_id, moved_at=alias.moved_at, evidence=alias.evidence), *alias.earlier)


def ticker_alias(ticker: str) -> str:
    """The alias of a ticker's own model.

    >>> ticker_alias("PETR4.SA")
    'ticker/PETR4.SA'
    """
    return f"{OF_TICKER}{ticker}"


def ticker_of_alias(name: str) -> str | None:
    """The ticker whose alias this is; None for any other name.

    >>> ticker_of_alias("ticker/^GSPC"), ticker_of_alias("default")
    ('^GSPC', None)
    """
    return name.removeprefix(OF_TICKER) if name.startswith(OF_TICKER) else None


def alias_folder(name: str) -> str:
    """An alias in the alphabet of storage keys, where it names documents and folders.

    >>> alias_folder("ticker/M&M.NS"), alias_folder("default")
    ('ticker/M^M.NS', 'default')
    """
    ticker = ticker_of_alias(name)
    return name if ticker is None else ticker_alias(key_name(ticker))


def _alias_key(name: str) -> str:
    return f"{ALIASES}{alias_folder(name)}.json"


def _alias_name(key: str) -> str:
    name = key.removeprefix(ALIASES).removesuffix(".json")
    folder = ticker_of_alias(name)
    return name if folder is None else ticker_alias(ticker_of(folder))


def model_key(model_id: str, name: str) -> str:
    """The key of a model's file in the store.

    >>> model_key("petr4-sa-20240719-1a2b3c4d", "metadata.json")
    'models/petr4-sa-20240719-1a2b3c4d/metadata.json'
    """
    return f"models/{model_id}/{name}"


def file_report(content: bytes) -> FileReport:
    return FileReport(sha256=sha256(content).hexdigest(), n_bytes=len(content))


def calibration_to_json(calibration: Calibration) -> bytes:
    """Conformity scores per step, as a JSON list of lists."""
    return _SCORES.dump_json(tuple(tuple(float(f"{score:.6g}") for score in step) for step in calibration.scores))


def calibration_from_json(content: bytes) -> Calibration:
    """The inverse of ``calibration_to_json``.

    Raises:
        ArtifactCorrupt: the content is not a list of lists of scores, which are finite, not negative and ascend.
    """
    if len(content) > MAX_CALIBRATION_BYTES:
        limit = f"the limit is {MAX_CALIBRATION_BYTES}"
        raise ArtifactCorrupt(f"the stored calibration has {len(content)} bytes; {limit}")
    try:
        scores = tuple(np.array(step, dtype=np.float64) for step in _SCORES.validate_json(content))
    except ValidationError as error:
        raise ArtifactCorrupt("the stored calibration is not readable") from error
    if not 1 <= len(scores) <= MAX_STEPS or not all(_are_scores(step) for step in scores):
        raise ArtifactCorrupt("the stored calibration does not have ascending scores of each step")
    return Calibration(scores)


def _are_scores(step: NDArray[np.float64]) -> bool:
    return bool(step.size and np.isfinite(step).all() and step[0] >= 0 and (np.diff(step) >= 0).all())
