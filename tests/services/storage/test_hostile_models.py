"""Whatever is stored as a model ends in ``artifact_corrupt`` or ``artifact_too_new``, never in a number or a crash."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from errors import AppError, ArtifactCorrupt, ArtifactInvalid, ArtifactTooNew
from models import runtime
from models.fitting import NETWORK, PARAMETERS, WEIGHTS, FitBlocks, FitSettings
from models.specs import BASELINES, MODEL_SPECS
from schemas.card import ModelCard
from services.storage.registry import CALIBRATION, CARD, ModelRegistry, model_key
from services.training.train import TrainedModel
from tests.fakes import InMemoryArtifactStore, random_walk
from tests.hostile_models import (
    constant_network,
    hostile_calibrations,
    hostile_cards,
    hostile_networks,
    hostile_parameters,
    hungry_networks,
    sealed,
    slow_networks,
    table,
)

BARS = random_walk(700)
ENDS = np.array([400, 699])
LIMIT_S = 1.0


def outcome(card: ModelCard, content: bytes, files: Mapping[str, bytes]) -> str:
    """``corrupt``, ``too new``, ``sound`` or what went wrong, for a model that is stored, listed and used."""
    store = InMemoryArtifactStore()
    for name, data in {**files, CARD: content}.items():
        store.put(model_key(card.model_id, name), data)
    try:
        served = ModelRegistry(store).serve(card.model_id)
        prices = served.forecaster.predict_quantiles(BARS, ENDS).prices
    except ArtifactCorrupt:
        return "corrupt"
    except ArtifactTooNew:
        return "too new"
    except AppError as error:
        return error.code
    except Exception as error:  # noqa: BLE001 - what a test of crashes is for
        return f"{type(error).__name__}: {error}"
    right = np.isfinite(prices).all() and (prices > 0).all() and (np.diff(prices, axis=-1) >= 0).all()
    return "sound" if right else "wrong prices"


def test_every_hostile_card_is_refused(trained: TrainedModel) -> None:
    found = {name: outcome(trained.card, card, trained.files) for name, card in hostile_cards(trained.card)}

    assert len(found) > 120
    assert {name: end for name, end in found.items() if end not in ("corrupt", "too new")} == {}


def test_every_hostile_calibration_is_corrupt(trained: TrainedModel) -> None:
    found = {}
    for name, content in hostile_calibrations(trained.files[CALIBRATION]):
        files = {**trained.files, CALIBRATION: content}
        found[name] = outcome(trained.card, sealed(trained.card, files), files)

    assert {name: end for name, end in found.items() if end != "corrupt"} == {}


def with_network(card: ModelCard, trained: Mapping[str, bytes], content: bytes) -> str:
    files = {**trained, NETWORK: content}
    return outcome(card, sealed(card, files), files)


def test_a_network_that_forecasts_no_prices_is_refused_when_it_is_loaded(trained: TrainedModel) -> None:
    files = {**trained.files, NETWORK: constant_network(-table())}
    store, card = InMemoryArtifactStore(), ModelCard.model_validate_json(sealed(trained.card, files))
    ModelRegistry(store).publish(card, files)

    with pytest.raises(ArtifactCorrupt, match="not finite prices"):
        ModelRegistry(store).load(card)


def test_every_hostile_network_is_corrupt(trained: TrainedModel) -> None:
    sound = trained.files[NETWORK]
    found = {name: with_network(trained.card, trained.files, one) for name, one in hostile_networks(sound)}

    assert {name: end for name, end in found.items() if end != "corrupt"} == {}


def test_the_sound_neighbours_of_hostile_models_are_served(trained: TrainedModel) -> None:
    """What makes the others hostile is the one thing that differs."""
    assert outcome(trained.card, sealed(trained.card, trained.files), trained.files) == "sound"
    assert with_network(trained.card, trained.files, constant_network(table())) == "sound"


def test_a_hungry_network_is_refused_before_it_takes_the_memory(trained: TrainedModel) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, content in hungry_networks():
        assert with_network(trained.card, trained.files, content) == "corrupt", name

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * runtime.MEMORY_LIMIT / 1024


@pytest.mark.parametrize(
    ("name", "content"), [*slow_networks()], ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_slow_network_is_stopped_and_not_tried_again(
    name: str, content: bytes, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "RUN_LIMIT_S", LIMIT_S)

    started = time.monotonic()
    first = with_network(trained.card, trained.files, content)
    monkeypatch.setattr(runtime, "RUN_LIMIT_S", 3600.0)
    second = with_network(trained.card, trained.files, content)

    assert (first, second) == ("corrupt", "corrupt")
    assert time.monotonic() - started < 60  # each takes minutes


@pytest.fixture(scope="module")
def parameters() -> Mapping[str, bytes]:
    """Of each kind of model without a network."""
    block = FitBlocks(random_walk(500), range(250, 460), range(460, 500))
    bounds = FitSettings(lookback=60, horizon=30, max_epochs=1, patience=1, max_seconds=60, seed=0)
    return {kind: spec.fit([block], bounds, lambda _: None).files[PARAMETERS] for kind, spec in BASELINES.items()}


def test_hostile_parameters_are_corrupt_or_the_forecast_is_one(
    parameters: Mapping[str, bytes], trained: TrainedModel
) -> None:
    found = {}
    for kind, name, content in hostile_parameters(parameters):
        lookback = MODEL_SPECS[kind].lookback or trained.card.lookback
        card = trained.card.model_copy(update={"model": kind, "lookback": lookback})
        files = {PARAMETERS: content, CALIBRATION: trained.files[CALIBRATION]}
        found[kind, name] = outcome(card, sealed(card, files), files)

    assert set(BASELINES) == {kind for kind, _ in found}
    assert {place: end for place, end in found.items() if end not in ("corrupt", "sound")} == {}


@pytest.mark.parametrize("missing", [NETWORK, CALIBRATION])
def test_a_card_that_does_not_list_a_needed_file_is_corrupt(missing: str, trained: TrainedModel) -> None:
    files = {name: content for name, content in trained.files.items() if name != missing}

    assert outcome(trained.card, sealed(trained.card, files), files) == "corrupt"


def test_files_that_serving_does_not_need_are_not_read(trained: TrainedModel) -> None:
    listed = {**trained.files, "notes.txt": b"x" * 10}

    assert outcome(trained.card, sealed(trained.card, listed), trained.files) == "sound"


Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda _: b"\xff" * 100, lambda one: one[:100], lambda one: one[:-1], lambda one: one + b"x"],
)
def test_damaged_weights_are_corrupt_when_a_training_continues_from_them(damage: Damage, trained: TrainedModel) -> None:
    pytest.importorskip("torch")
    from models.lstm.serialization import from_bytes

    with pytest.raises(ArtifactInvalid):
        from_bytes(damage(trained.files[WEIGHTS]))
