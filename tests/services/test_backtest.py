"""Backtests of a stored model: their figures can be formed again, and nothing looks ahead."""

from datetime import UTC, date, datetime

import numpy as np
import pytest

from errors import HorizonTooLong, InsufficientHistory, InvalidRequest
from models.conformal import Calibration
from models.specs import BASELINES
from schemas.backtest import BacktestRequest, BacktestResponse
from services.backtest import backtest
from services.evaluation.backtesting import BacktestConfig, walk_forward
from services.storage.registry import ModelRegistry
from services.training.train import TrainedModel
from tests.fakes import FakePriceSource, InMemoryArtifactStore, forecasting, history_of, new_york_sessions, walk_history

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
HISTORY = walk_history()
PRICES = FakePriceSource(HISTORY, walk_history("OTHER", seed=5), walk_history("SHORT", n_sessions=15))
LEVELS = (0.1, 0.5, 0.9)


@pytest.fixture(scope="module")
def registry(trained: TrainedModel) -> ModelRegistry:
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(trained.card, trained.files)
    return registry


def run(registry: ModelRegistry, prices: FakePriceSource = PRICES, **request: object) -> BacktestResponse:
    asked = BacktestRequest.model_validate({"horizon": 3, "quantile_levels": LEVELS, **request})
    return backtest(registry.ids()[0], asked, registry, prices, NOW)


@pytest.fixture(scope="module")
def answer(registry: ModelRegistry) -> BacktestResponse:
    return run(registry, levels=[0.5, 0.8, 0.9, 0.95], include_forecasts=True)


def test_by_default_the_origins_are_those_of_the_test_part(answer: BacktestResponse, trained: TrainedModel) -> None:
    assert answer.first_origin == trained.card.test_start
    assert answer.n_origins == trained.card.test[0].n_origins
    assert answer.warnings == ()


def test_its_figures_are_those_of_the_card(answer: BacktestResponse, trained: TrainedModel) -> None:
    assert len(answer.model_report.steps) == 3
    for found, kept in zip(answer.model_report.steps, trained.card.test, strict=False):
        assert (found.step, found.n_origins) == (kept.step, kept.n_origins)
        for name in ("model", "persistence", "skill", "p_value"):
            expected = getattr(kept, name).model_dump()
            assert getattr(found, name).model_dump(include=set(expected)) == pytest.approx(expected, rel=1e-5)
        for own, theirs in zip(found.coverage, kept.coverage, strict=True):
            expected = theirs.model_dump()
            assert own.model_dump(include=set(expected)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["static", "adaptive"])
@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_an_interval_is_served_as_it_was_backtested(kind: str, level: float, trained: TrainedModel) -> None:
    registry = ModelRegistry(InMemoryArtifactStore())
    card = trained.card.model_copy(update={"calibration": kind})
    registry.publish(card, trained.files)
    config = BacktestConfig(
        np.array([HISTORY.series.sessions.searchsorted(np.datetime64(card.test_start))]), 3, (level,)
    )

    tested = walk_forward(lambda _: registry.load(card), HISTORY.series.bars, config)

    served = forecasting(registry, PRICES).forecast_ticker(card.model_id, "WALK", 3, (level,), NOW, card.test_start)
    np.testing.assert_allclose(served.lower, tested.lower[0], rtol=1e-12)
    np.testing.assert_allclose(served.upper, tested.upper[0], rtol=1e-12)


def test_every_figure_can_be_formed_again_from_the_forecasts_answered(answer: BacktestResponse) -> None:
    assert answer.forecasts is not None
    quantiles = np.array([one.quantiles for one in answer.forecasts])  # (n, horizon, levels)
    actuals = np.array([[np.nan if a is None else a for a in one.actuals] for one in answer.forecasts])
    for step in answer.model_report.steps:
        assert step.step is not None
        known = ~np.isnan(actuals[:, step.step - 1])
        actual, median = actuals[known, step.step - 1], quantiles[known, step.step - 1, 1]
        assert step.n_origins == known.sum()
        assert step.model.mae == pytest.approx(np.abs(actual - median).mean())
        losses = [
            max(level * (a - q), (level - 1) * (a - q))
            for a, row in zip(actual, quantiles[known, step.step - 1], strict=True)
            for level, q in zip(LEVELS, row, strict=True)
        ]
        assert step.model.pinball == pytest.approx(np.mean(losses))


def test_a_forecast_answered_is_the_one_that_serving_gives(registry: ModelRegistry, answer: BacktestResponse) -> None:
    assert answer.forecasts is not None
    past = answer.forecasts[7]

    served = forecasting(registry, PRICES).forecast_ticker(answer.model_id, None, 3, (0.8,), NOW, past.origin)

    assert served.given.sessions == past.sessions
    quantiles = np.column_stack([served.lower, served.median, served.upper])
    np.testing.assert_allclose(quantiles, past.quantiles, rtol=1e-9)


def test_altering_the_future_alters_no_earlier_forecast(registry: ModelRegistry, answer: BacktestResponse) -> None:
    bars = HISTORY.series.bars.copy()
    bars[450:, :4] *= 5.0

    before = answer.forecasts
    after = run(registry, FakePriceSource(history_of(bars)), include_forecasts=True).forecasts

    assert before is not None
    assert after is not None
    cut = HISTORY.series.sessions[450]
    early = [(b, a) for b, a in zip(before, after, strict=True) if np.datetime64(b.origin) < cut]
    assert len(early) > 40
    assert all(b.quantiles == a.quantiles for b, a in early)


def test_every_baseline_that_the_history_carries_is_scored_from_the_same_origins(answer: BacktestResponse) -> None:
    assert {baseline.name for baseline in answer.baselines} == set(BASELINES)
    assert {baseline.overall.n_origins for baseline in answer.baselines} == {answer.model_report.overall.n_origins}


def test_persistence_has_no_skill_against_itself(answer: BacktestResponse) -> None:
    (persistence,) = [one for one in answer.baselines if one.name == "persistence"]

    assert persistence.overall.skill.mae == 0
    assert persistence.overall.skill.crps == 0
    assert persistence.overall.p_value.crps is None
    assert persistence.overall.model.crps == pytest.approx(persistence.overall.model.mae)


def test_no_skill_is_claimed_on_a_random_walk(answer: BacktestResponse) -> None:
    skill = answer.model_report.overall.skill.mae

    assert skill is not None
    assert skill < 0.05


def test_a_stride_skips_origins(registry: ModelRegistry, answer: BacktestResponse) -> None:
    fifth = run(registry, stride=5)

    assert fifth.n_origins == -(-answer.n_origins // 5)
    assert fifth.first_origin == answer.first_origin


def test_refitting_uses_only_what_was_known(registry: ModelRegistry) -> None:
    answer = run(registry, refit_every=60, include_forecasts=True)
    cut = HISTORY.as_of
    shorter = FakePriceSource(HISTORY.between(None, date(2011, 11, 30)))

    again = run(registry, shorter, refit_every=60, include_forecasts=True)

    assert answer.n_refits == 2
    assert cut > date(2011, 11, 30)
    assert answer.forecasts is not None
    assert again.forecasts is not None
    assert answer.forecasts[0].quantiles == again.forecasts[0].quantiles


def test_another_ticker_is_scored_and_said(registry: ModelRegistry) -> None:
    answer = run(registry, ticker="OTHER")

    assert answer.ticker == "OTHER"
    assert answer.warnings == ("the model was fitted and tested on WALK, not on OTHER",)


def test_origins_that_the_model_has_seen_are_said_to_be(registry: ModelRegistry) -> None:
    answer = run(registry, start=date(2011, 1, 3))

    assert any("has seen some" in warning for warning in answer.warnings)


def test_a_baseline_that_needs_more_history_is_left_out_by_name(registry: ModelRegistry) -> None:
    answer = run(registry, start=date(2010, 3, 1), end=date(2010, 6, 1))

    assert "rolling_empirical" not in {baseline.name for baseline in answer.baselines}
    assert any("rolling_empirical is left out: need" in warning for warning in answer.warnings)
    assert answer.model_report.overall.skill.crps_vs_rolling_empirical is None


def test_the_sessions_of_forecasts_beyond_the_history_are_the_exchanges(answer: BacktestResponse) -> None:
    assert answer.forecasts is not None
    last = answer.forecasts[-1]
    assert last.actuals[1:] == (None, None)
    expected = new_york_sessions(len(HISTORY.series) + 2)[-3:].astype(object).tolist()
    assert list(last.sessions) == expected


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({"start": date(2010, 6, 1), "refit_every": 5}, InvalidRequest, "raise refit_every to"),
        (
            {
                "start": date(2010, 3, 1),
                "horizon": 30,
                "quantile_levels": [round(k / 100, 2) for k in range(1, 100)],
                "include_forecasts": True,
            },
            InvalidRequest,
            "figures; the limit is",
        ),
        ({"ticker": "SHORT"}, InsufficientHistory, "found 15"),
    ],
    ids=["too many refits", "too many figures", "no origin"],
)
def test_what_one_request_cannot_do_is_refused(
    registry: ModelRegistry, request_: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(registry, PRICES, **request_)


def test_more_steps_than_the_model_has_are_refused(trained: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(trained.card, trained.files)
    forecaster = registry.load(trained.card)
    monkeypatch.setattr(forecaster, "calibration", Calibration(forecaster.calibration.scores[:2]))

    with pytest.raises(HorizonTooLong):
        run(registry)


def test_an_origin_too_early_for_any_outcome_leaves_baselines_out_not_the_answer(registry: ModelRegistry) -> None:
    answer = run(registry, start=date(2010, 2, 2), end=date(2010, 9, 1))

    assert "persistence" in {baseline.name for baseline in answer.baselines}
    assert any("volatility_regression is left out" in warning for warning in answer.warnings)


def test_without_scikit_learn_gradient_boosting_is_left_out_and_named(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.specs.find_spec", lambda name: None if name == "sklearn" else object())

    answer = run(registry)

    assert {baseline.name for baseline in answer.baselines} == set(BASELINES) - {"gradient_boosting"}
    (warning,) = answer.warnings
    assert warning.startswith("gradient_boosting is left out: scikit-learn is not installed")


def test_without_scipy_what_needs_it_is_left_out_and_named(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("models.specs", "services.evaluation.significance"):
        monkeypatch.setattr(f"{module}.find_spec", lambda name: None if name == "scipy" else object())

    answer = run(registry)

    without = {"gjr_garch", "volatility_regression", "gradient_boosting"}
    assert {baseline.name for baseline in answer.baselines} == set(BASELINES) - without
    assert answer.model_report.steps[0].p_value.mae is None
    assert ["scipy" in warning for warning in answer.warnings] == [True, True, True, True]
