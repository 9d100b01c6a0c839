from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import pairwise

import numpy as np
import pytest

from config import BUNDLED
from errors import CalibrationTooSmall, InsufficientHistory, InvalidRequest, ZeroVariance
from models.fitting import Epoch
from schemas.train import TrainRequest
from services.prices.series import PriceHistory
from services.storage.bundled import BundledModel
from services.storage.registry import ModelRegistry
from services.training.train import DEFAULT_SESSIONS, TrainedModel, train_model, train_result
from services.training.train import trained as trained_answer
from tests.fakes import (
    EMPTY_REGISTRY,
    FakePriceSource,
    InMemoryArtifactStore,
    history_of,
    new_york_sessions,
    random_walk,
    walk_history,
)

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
QUICK = {"epochs": 1, "sequence_length": 20}


def train(history: PriceHistory, on_epoch: Callable[[Epoch], None] = lambda _: None, **request: object) -> TrainedModel:
    asked = TrainRequest.model_validate({"ticker": history.series.ticker, **QUICK, **request})
    return train_model(asked, FakePriceSource(history), EMPTY_REGISTRY, "walk-1", NOW, on_epoch)


def test_the_card_lists_blocks_that_follow_each_other(trained: TrainedModel) -> None:
    split = trained.card.series[0].split

    blocks = [block for block in (split.fit, split.early_stopping, split.calibration, split.test) if block]

    assert len(blocks) == 4
    assert [block.first_origin for block in blocks] == sorted(block.first_origin for block in blocks)
    assert all(one.last_origin < following.first_origin for one, following in pairwise(blocks))


def test_the_card_compares_every_step_with_persistence(trained: TrainedModel) -> None:
    test = trained.card.test[0]

    assert [report.step for report in trained.card.test] == list(range(1, 31))
    assert test.skill.mae == pytest.approx(1 - test.model.mae / test.persistence.mae, abs=2e-5)
    assert test.persistence.mape == pytest.approx(0.008, rel=0.3)  # E|N(0, 0.01)|
    assert test.p_value.mape is not None
    assert 0 <= test.p_value.mape <= 1


def test_no_skill_is_claimed_on_a_random_walk(trained: TrainedModel) -> None:
    assert trained.card.test[0].skill.mae is not None
    assert trained.card.test[0].skill.mae < 0.03


def test_evidence_is_accuracy_and_coverage_of_the_same_sessions_at_the_step_asked_for(trained: TrainedModel) -> None:
    for step in (1, 7, 30):
        tickers, report = trained.card.evidence("WALK", step)

        assert (tickers, report.step) == (("WALK",), step)
        assert [one.level for one in report.coverage] == [0.5, 0.8, 0.9, 0.95]
        assert {one.n_origins for one in report.coverage} == {report.n_origins}


@pytest.fixture(scope="module")
def quick() -> TrainedModel:
    return train(walk_history())


def test_the_same_seed_and_prices_give_the_same_files_and_another_seed_others(quick: TrainedModel) -> None:
    second, other = train(walk_history()), train(walk_history(), seed=1)

    assert quick.files == second.files
    assert other.files != quick.files


def test_altering_the_test_part_changes_no_weight_and_no_calibration(quick: TrainedModel) -> None:
    history = walk_history()
    bars = history.series.bars.copy()
    bars[-95:, :4] *= 3.0  # the test part's origins are the last 96 of 480 windows

    assert train(history_of(bars)).files == quick.files


def test_every_epoch_is_reported() -> None:
    epochs: list[Epoch] = []

    train(walk_history(), epochs.append, epochs=3, patience=3)

    assert [epoch.number for epoch in epochs] == [1, 2, 3]


def test_a_spent_budget_still_leaves_a_model() -> None:
    model = train(walk_history(), max_seconds=0.001, epochs=50)

    assert model.card.training.stopped_by == "max_seconds"
    assert model.card.training.seconds < 30


def test_another_target_than_the_close_is_forecast_from_its_own_past() -> None:
    model = train(walk_history(), target_column="High")

    history = walk_history()
    assert model.card.target_column == "High"
    assert model.card.test[0].persistence.mae == pytest.approx(
        np.abs(np.diff(history.series.bars[-97:, 1])).mean(), rel=0.05
    )


def test_by_default_the_last_2000_sessions_are_used() -> None:
    history = walk_history("LONG", n_sessions=2300)

    model = train(history, model="ewma")

    assert model.card.series[0].data.n_sessions == DEFAULT_SESSIONS
    assert model.card.last_session == history.as_of


def test_dates_bound_the_prices_used_inclusively() -> None:
    start, end = date(2010, 2, 1), date(2011, 11, 30)

    model = train(walk_history(), model="ewma", start_date=start, end_date=end)

    assert (model.card.series[0].data.first_session, model.card.last_session) == (start, end)


def test_too_short_a_history_is_refused_with_needed_and_found() -> None:
    with pytest.raises(InsufficientHistory, match="need 264 sessions of WALK, found 100"):
        train(walk_history(n_sessions=100))


def test_prices_that_never_move_are_refused_by_name() -> None:
    flat = np.tile([5.0, 5.0, 5.0, 5.0, 100.0], (500, 1))

    with pytest.raises(ZeroVariance, match="FLAT never move from 5"):
        train(history_of(flat, "FLAT"))


def test_clients_of_legacy_contract_v1_find_their_fields(trained: TrainedModel) -> None:
    store = InMemoryArtifactStore()
    ModelRegistry(store).publish(trained.card, trained.files)

    answer = trained_answer(train_result(trained.card)).model_dump(mode="json")

    assert set(answer) == {"message", "result"}
    assert set(answer["result"]["metrics"]) == {"train", "test"}
    assert set(answer["result"]["metrics"]["test"]) == {"mae", "mape", "rmse", "r2"}
    paths = answer["result"]["paths"]
    assert set(paths) == {"model_s3_path", "scaler_s3_path", "metadata_s3_path"}
    assert paths["scaler_s3_path"] is None
    assert store.exists(paths["model_s3_path"])
    assert store.exists(paths["metadata_s3_path"])


POOL = FakePriceSource(walk_history(), walk_history("OTHER", n_sessions=450, seed=5))


def pooled(**request: object) -> TrainedModel:
    asked = TrainRequest.model_validate({"tickers": ["WALK", "OTHER"], **QUICK, **request})
    return train_model(asked, POOL, EMPTY_REGISTRY, "pooled-1", NOW, lambda _: None)


def test_several_tickers_make_one_model_that_reports_on_each() -> None:
    card = pooled(model="ewma").card

    assert card.tickers == ("WALK", "OTHER")
    n_origins = [series.test[0].n_origins for series in card.series]
    assert n_origins == [series.split.test.n_origins for series in card.series if series.split.test]
    assert card.test[0].n_origins == sum(n_origins)
    assert card.evidence("OTHER", 5) == (("OTHER",), card.series[1].test[4])
    for unknown in ("ELSE", None):
        assert card.evidence(unknown, 5) == (("WALK", "OTHER"), card.test[4])


def test_the_blocks_of_several_tickers_begin_on_the_same_days() -> None:
    splits = [series.split for series in pooled(model="ewma").card.series]

    for name in ("calibration", "test"):
        first, second = (getattr(split, name).first_origin for split in splits)
        assert first == second


def test_training_continues_from_the_weights_of_a_base_model(quick: TrainedModel) -> None:
    base = train(walk_history("OTHER", seed=5))
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(base.card, base.files)
    asked = TrainRequest.model_validate({"ticker": "WALK", **QUICK, "base_model_id": base.card.model_id})

    continued = train_model(asked, FakePriceSource(walk_history()), registry, "walk-2", NOW, lambda _: None)

    assert continued.files != quick.files
    assert continued.card.request.base_model_id == base.card.model_id
    counts = zip(base.card.n_calibration, quick.card.n_calibration, strict=True)
    assert continued.card.n_calibration == tuple(
        of_base + -(-own // step) for step, (of_base, own) in enumerate(counts, 1)
    )


BUNDLED_REGISTRY = ModelRegistry(
    InMemoryArtifactStore(), BundledModel(BUNDLED / "model.onnx", BUNDLED / "metadata.json")
)


def warm(history: PriceHistory, **request: object) -> TrainedModel:
    asked = TrainRequest.model_validate({"ticker": "WALK", "epochs": 1, **request})
    return train_model(asked, FakePriceSource(history), BUNDLED_REGISTRY, "walk-1", NOW, lambda _: None)


def after_the_bundled() -> PriceHistory:
    return history_of(random_walk(500), sessions=new_york_sessions(500, date(2021, 5, 3)))


def test_a_model_of_later_sessions_starts_from_the_bundled_one() -> None:
    card = warm(after_the_bundled()).card

    assert BUNDLED_REGISTRY.bundled is not None
    assert card.base_model_id == BUNDLED_REGISTRY.bundled.model_id
    assert card.warnings == ()


@pytest.mark.parametrize(
    "request_", [{"warm_start": False}, {"sequence_length": 30}, {"model": "volatility_regression"}]
)
def test_a_model_that_cannot_or_must_not_starts_from_nothing(request_: dict[str, object]) -> None:
    assert warm(after_the_bundled(), **request_).card.base_model_id is None


def test_the_bundled_model_is_no_start_where_it_has_seen_the_test_part() -> None:
    assert warm(walk_history()).card.base_model_id is None


def test_a_base_model_that_has_seen_the_test_part_is_said_to() -> None:
    card = warm(walk_history(), base_model_id="default").card

    assert card.base_model_id is not None
    assert any("sessions it has seen" in warning for warning in card.warnings)


def test_forecasts_from_closes_alone_are_measured_with_static_intervals(quick: TrainedModel) -> None:
    follows, fixed = quick.card, train(walk_history(), calibration="static").card

    assert follows.test[0].model == fixed.test[0].model.model_copy(update={"crps": follows.test[0].model.crps})
    assert follows.test[0].coverage != fixed.test[0].coverage
    assert follows.test_closes_only == fixed.test_closes_only
    assert follows.test_closes_only.model.mae != follows.test[0].model.mae
    assert follows.test_closes_only.persistence == follows.test[0].persistence


def test_a_test_part_without_a_single_trade_is_refused() -> None:
    history = walk_history()
    bars = history.series.bars.copy()
    bars[-97:] = [*[bars[-98, 3]] * 4, 0.0]
    halted = PriceHistory(replace(history.series, bars=bars), "fake")

    with pytest.raises(ZeroVariance, match="no session of the test part traded"):
        train(halted)


def test_a_calibration_part_that_hardly_traded_is_refused_whatever_the_base_model_knows() -> None:
    history = walk_history()
    bars, card = history.series.bars.copy(), warm(history, base_model_id="default").card
    block = card.series[0].split.calibration
    assert block is not None
    first = int(np.searchsorted(history.series.sessions, np.datetime64(block.first_origin)))
    bars[first + 5 : first + block.n_origins] = [*[bars[first + 4, 3]] * 4, 0.0]
    halted = PriceHistory(replace(history.series, bars=bars), "fake")

    with pytest.raises(CalibrationTooSmall, match="too few sessions traded"):
        warm(halted, base_model_id="default")


def test_a_ticker_too_young_for_the_fit_of_a_pool_is_refused_by_name() -> None:
    young = history_of(random_walk(300), "YOUNG", new_york_sessions(1000)[-300:])
    prices = FakePriceSource(walk_history(n_sessions=1000), young)
    asked = TrainRequest.model_validate({"tickers": ["WALK", "YOUNG"], **QUICK})

    with pytest.raises(InsufficientHistory, match="sessions of YOUNG, found 300"):
        train_model(asked, prices, EMPTY_REGISTRY, "pooled-1", NOW, lambda _: None)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"target_column": "High"}, "return_lstm of High over 60 sessions from .* of Close over 60"),
        ({"sequence_length": 30}, "of Close over 30 sessions from .* over 60"),
    ],
)
def test_a_base_model_of_another_column_or_lookback_is_refused(request_: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        warm(after_the_bundled(), base_model_id="default", **request_)


def test_a_median_that_is_the_last_close_but_for_rounding_has_no_skill() -> None:
    card = train(walk_history(), model="ewma").card

    for report in card.test:
        assert (report.skill.mae, report.skill.mape, report.skill.rmse) == (0, 0, 0)
        assert (report.p_value.mae, report.p_value.mape, report.p_value.rmse) == (None, None, None)
    assert card.test[0].skill.crps != 0
