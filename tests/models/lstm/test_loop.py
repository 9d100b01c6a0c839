"""A training that is interrupted and continued gives the bytes of one that was not."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from models.fitting import WEIGHTS, Epoch, Fit, FitBlocks, FitProgress, FitSettings, FittedModel
from models.lstm import checkpoint, forecaster
from models.lstm.forecaster import fit_return_lstm
from models.lstm.loop import LoopReport
from models.lstm.network import ReturnLSTM
from models.lstm.point_forecaster import fit_ratio_lstm
from tests.fakes import walk_history

SETTINGS = FitSettings(lookback=20, horizon=5, max_epochs=3, patience=3, max_seconds=600, seed=7)


class KeptState:
    """A checkpoint in memory, that remembers how many states it was given."""

    def __init__(self, state: bytes | None = None) -> None:
        self.state = state
        self.n_saved = 0

    def load(self) -> bytes | None:
        return self.state

    def save(self, state: bytes) -> None:
        self.state, self.n_saved = state, self.n_saved + 1


class KilledError(Exception):
    """Stands for the death of the process."""


@pytest.fixture(autouse=True)
def three_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecaster, "POOLED", replace(forecaster.POOLED, max_epochs=3, batch_size=64))


@pytest.fixture(scope="module")
def series() -> list[FitBlocks]:
    bars = [walk_history(seed=seed, n_sessions=200).series.bars for seed in (1, 2)]
    return [FitBlocks(one, range(19, 140), range(140, 170)) for one in bars]


def killed_after(epoch: int) -> Callable[[Epoch], None]:
    def on_epoch(done: Epoch) -> None:
        if done.number == epoch:
            raise KilledError

    return on_epoch


def fitted(
    series: list[FitBlocks],
    settings: FitSettings = SETTINGS,
    fit: Fit = fit_return_lstm,
    epochs: list[int] | None = None,
) -> FittedModel:
    return fit(series, settings, lambda epoch: None if epochs is None else epochs.append(epoch.number))


@pytest.fixture(scope="module")
def undisturbed(series: list[FitBlocks]) -> Callable[[Fit], FittedModel]:
    """The model of a fit that nothing interrupts, for each kind of network."""
    return cache(lambda fit: fitted(series, fit=fit))


@pytest.mark.parametrize("fit", [fit_return_lstm, fit_ratio_lstm])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_fit_that_dies_between_epochs_continues_to_the_same_weights(
    series: list[FitBlocks], undisturbed: Callable[[Fit], FittedModel], fit: Fit, epoch: int
) -> None:
    kept, epochs = KeptState(), list[int]()

    with pytest.raises(KilledError):
        fit(series, replace(SETTINGS, checkpoint=kept), killed_after(epoch))
    saved = kept.n_saved
    continued = fitted(series, replace(SETTINGS, checkpoint=kept), fit, epochs)

    assert (saved, kept.n_saved) == (epoch, 3)  # the rest was trained, and no more
    assert continued == undisturbed(fit)
    assert epochs == [1, 2, 3]  # those of the first process are reported too


def test_a_fit_that_dies_after_its_last_epoch_trains_no_further(series: list[FitBlocks]) -> None:
    kept = KeptState()
    first = fitted(series, replace(SETTINGS, checkpoint=kept))
    again = KeptState(kept.state)

    assert fitted(series, replace(SETTINGS, checkpoint=again)) == first
    assert again.n_saved == 0


def test_an_unreadable_checkpoint_is_replaced(
    series: list[FitBlocks], undisturbed: Callable[[Fit], FittedModel]
) -> None:
    kept = KeptState(b"not a checkpoint")

    assert fitted(series, replace(SETTINGS, checkpoint=kept)) == undisturbed(fit_return_lstm)
    assert kept.n_saved == 3


def test_an_epoch_that_the_clock_ends_is_not_kept(series: list[FitBlocks]) -> None:
    kept, seen = KeptState(), list[FitProgress]()

    fit = fitted(series, replace(SETTINGS, checkpoint=kept, max_seconds=0.0, on_progress=seen.append))

    assert fit.stopped_by == "max_seconds"
    assert kept.n_saved == 0
    assert {(one.passes, one.seconds_left) for one in seen} == {(0, 0.0)}


def test_another_seed_draws_other_epochs(series: list[FitBlocks], undisturbed: Callable[[Fit], FittedModel]) -> None:
    other = fitted(series, replace(SETTINGS, seed=8))

    assert other.files[WEIGHTS] != undisturbed(fit_return_lstm).files[WEIGHTS]


def test_progress_rises_within_an_epoch_to_the_last(series: list[FitBlocks]) -> None:
    seen: list[FitProgress] = []

    fitted(series, replace(SETTINGS, on_progress=seen.append))

    passes = [one.passes for one in seen]
    assert passes == sorted(passes)
    assert passes[0] == 0
    assert passes[-1] == 3
    assert len(passes) > 4
    assert {one.max_epochs for one in seen} == {3}


@pytest.fixture
def improves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first fit of one ticker is best after two epochs; a random walk has nothing to learn."""
    train = forecaster._train

    def training(*args: Any) -> tuple[ReturnLSTM, LoopReport]:
        network, report = train(*args)
        return network, replace(report, best_epoch=2)

    monkeypatch.setattr(forecaster, "_train", training)


@pytest.mark.usefixtures("improves")
def test_the_second_fit_of_one_ticker_reports_its_progress_too(series: list[FitBlocks]) -> None:
    seen: list[FitProgress] = []

    fitted(series[:1], replace(SETTINGS, on_progress=seen.append, max_seconds=600))

    fits = [one.fit for one in seen]
    second = [one for one in seen if one.fit == 2]
    assert fits == sorted(fits)
    assert {one.fits for one in seen} == {2}
    assert [one.passes for one in second] == sorted(one.passes for one in second)
    assert second[-1].passes == second[-1].max_epochs
    assert all(0 < one.seconds_left <= 600 for one in seen)
    assert 200 < seen[0].seconds_left <= 300 < second[0].seconds_left  # half of the time, then what is left


@pytest.mark.usefixtures("improves")
def test_a_second_fit_that_is_stopped_ends(series: list[FitBlocks]) -> None:
    def stop(done: FitProgress) -> None:
        if done.fit == 2:
            raise KilledError

    with pytest.raises(KilledError):
        fitted(series[:1], replace(SETTINGS, on_progress=stop, max_seconds=600))


def test_a_checkpoint_is_read_as_it_was_written(series: list[FitBlocks]) -> None:
    kept = KeptState()
    fitted(series, replace(SETTINGS, checkpoint=kept))
    assert kept.state is not None

    state = checkpoint.from_bytes(kept.state)

    assert checkpoint.to_bytes(state) == kept.state
    assert state.loop.epoch == 3
    assert np.isfinite(state.loop.best_loss)
    assert b"pickle" not in kept.state
