"""Challengers of an alias, with real models of a random walk: who wins, what is stored, and a store that fails."""

from datetime import UTC, date, datetime

import numpy as np
import pytest

from errors import StoreUnavailable
from models.base import CLOSE
from schemas.challenge import ChallengerEvaluation
from schemas.job import JobEnd
from schemas.train import ModelName, TrainRequest
from services.jobs.job import Jobs
from services.prices.series import PriceHistory
from services.storage.evaluations import evaluation_key, evaluation_page
from services.storage.registry import ModelRegistry
from services.training.challenge import MIN_UNSEEN, Challenger, evaluate_challenger
from services.training.train import train_model
from services.training.work import WorkerContext, run_training
from tests.fakes import (
    NO_UNIVERSES,
    FakePriceSource,
    InMemoryArtifactStore,
    UnreliableStore,
    history_of,
    job_spec,
    new_york_sessions,
    random_walk,
    walk_history,
)

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
JOB = "20240719t220000-1a2b3c4d"
LONG_AGO = date(2012, 6, 1)  # before the newest fifth of the walk


def grown_wild() -> PriceHistory:
    """A walk that moves ten times as far each session from ``LONG_AGO`` on."""
    sessions = new_york_sessions(900)
    n_calm = int(np.searchsorted(sessions, np.datetime64(LONG_AGO), side="right"))
    calm = random_walk(n_calm, daily_volatility=0.003)
    wild = random_walk(900 - n_calm, seed=1, daily_volatility=0.03, start=float(calm[-1, CLOSE]))
    return history_of(np.concatenate([calm, wild]))


PRICES = FakePriceSource(grown_wild(), walk_history("OTHER", n_sessions=900, seed=5))


@pytest.fixture
def store() -> UnreliableStore:
    return UnreliableStore()


@pytest.fixture
def registry(store: UnreliableStore) -> ModelRegistry:
    return ModelRegistry(store)


def trained(registry: ModelRegistry, model_id: str, model: ModelName, **more: object) -> Challenger:
    """A model in the registry, ready to be compared with the champion of ``default``."""
    request = TrainRequest.model_validate({"ticker": "WALK", "model": model, "calibration": "static", **more})
    made = train_model(request, PRICES, registry, model_id, NOW, lambda _: None)
    registry.publish(made.card, made.files)
    return Challenger("default", JOB, made.card, NOW)


def reigning(registry: ModelRegistry, model: ModelName, end: date | None = LONG_AGO) -> str:
    trained(registry, "champion-1", model, end_date=end)
    registry.move_alias("default", "champion-1", NOW)
    return "champion-1"


def pointed_to(store: InMemoryArtifactStore) -> str:
    """Where the alias points, as a process would see it that has just begun."""
    return ModelRegistry(store).card("default").model_id


def test_a_clearly_worse_champion_loses_its_alias_and_the_evidence_says_why(
    store: UnreliableStore, registry: ModelRegistry
) -> None:
    champion = reigning(registry, "persistence")

    evaluation = evaluate_challenger(trained(registry, "challenger-1", "ewma"), registry, PRICES)

    assert evaluation.won
    assert evaluation.champion_score is not None
    assert evaluation.challenger_score is not None
    assert evaluation.p_value is not None
    assert evaluation.challenger_score < evaluation.champion_score
    assert evaluation.p_value < 0.1
    assert evaluation.persistence_score is not None
    assert evaluation.challenger_score < evaluation.persistence_score
    assert evaluation.first_origin is not None
    assert evaluation.first_origin > LONG_AGO  # only sessions that the champion has not seen
    assert evaluation.n_origins >= MIN_UNSEEN
    assert evaluation.warnings == ()
    alias = ModelRegistry(store).alias("default")
    assert alias is not None
    assert (alias.model_id, alias.previous_model_id) == ("challenger-1", champion)
    assert alias.evidence == evaluation_key("default", JOB)
    assert ChallengerEvaluation.model_validate_json(store.get(alias.evidence)) == evaluation


def test_an_alias_that_was_moved_elsewhere_meanwhile_stays_there(
    store: UnreliableStore, registry: ModelRegistry
) -> None:
    reigning(registry, "persistence")
    trained(registry, "third-1", "ewma")
    challenger = trained(registry, "challenger-1", "ewma")

    class Meanwhile(FakePriceSource):
        def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
            ModelRegistry(store).move_alias("default", "third-1", NOW)  # by another process
            return super().history(ticker, now)

    evaluation = evaluate_challenger(challenger, registry, Meanwhile(grown_wild()))

    assert not evaluation.won
    assert "moved to another model meanwhile" in evaluation.reason
    assert pointed_to(store) == "third-1"


def test_an_equal_champion_that_has_seen_the_sessions_stays_and_a_warning_says_so(
    store: UnreliableStore, registry: ModelRegistry
) -> None:
    champion = reigning(registry, "ewma", end=None)
    challenger = trained(registry, "challenger-1", "ewma")

    evaluation = evaluate_challenger(challenger, registry, PRICES)

    assert (evaluation.won, evaluation.p_value) == (False, None)
    assert evaluation.champion_score == evaluation.challenger_score
    assert pointed_to(store) == champion
    test = challenger.card.series[0].split.test
    assert test is not None
    assert evaluation.first_origin == test.first_origin
    assert "it has seen some" in evaluation.warnings[0]


def test_a_better_champion_stays(store: UnreliableStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "ewma", end=None)
    challenger = trained(registry, "challenger-1", "persistence", train_size=0.6)  # of calm sessions only

    evaluation = evaluate_challenger(challenger, registry, PRICES)

    assert not evaluation.won
    assert pointed_to(store) == champion


def test_a_repeated_evaluation_changes_nothing(store: UnreliableStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "persistence")
    challenger = trained(registry, "challenger-1", "ewma")
    first = evaluate_challenger(challenger, registry, PRICES)
    registry.move_alias("default", champion, NOW)

    again = evaluate_challenger(challenger, registry, PRICES)

    assert again == first
    assert pointed_to(store) == champion
    assert len(evaluation_page(store, "default", 10, None).evaluations) == 1


@pytest.mark.parametrize("lost", ["contests/", "aliases/"])
def test_a_store_that_fails_in_mid_evaluation_leaves_the_alias_where_it_was(
    store: UnreliableStore, registry: ModelRegistry, lost: str
) -> None:
    champion = reigning(registry, "persistence")
    challenger = trained(registry, "challenger-1", "ewma")
    store.refuses = lambda key: key.startswith(lost)

    with pytest.raises(StoreUnavailable):
        evaluate_challenger(challenger, registry, PRICES)

    assert pointed_to(store) == champion


def test_models_of_different_prices_are_not_compared(store: UnreliableStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "persistence")

    evaluation = evaluate_challenger(trained(registry, "challenger-1", "ewma", target_column="Open"), registry, PRICES)

    assert (evaluation.won, evaluation.n_origins, evaluation.champion_id) == (False, 0, champion)
    assert "forecasts Close, not Open" in evaluation.reason
    assert evaluation_page(store, "default", 10, None).evaluations == (evaluation,)


def test_an_unreadable_champion_is_not_compared(store: UnreliableStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "persistence")
    challenger = trained(registry, "challenger-1", "ewma")
    store.put(f"models/{champion}/metadata.json", b"{")

    evaluation = evaluate_challenger(challenger, ModelRegistry(store), PRICES)

    assert (evaluation.won, evaluation.champion_id) == (False, None)
    assert evaluation.reason.startswith("not compared: ")


def test_a_champion_of_more_tickers_is_named_in_a_warning(registry: ModelRegistry) -> None:
    request = TrainRequest(tickers=("WALK", "OTHER"), model="persistence", end_date=LONG_AGO)
    pooled = train_model(request, PRICES, registry, "pooled-1", NOW, lambda _: None)
    registry.publish(pooled.card, pooled.files)
    registry.move_alias("default", "pooled-1", NOW)

    evaluation = evaluate_challenger(trained(registry, "challenger-1", "ewma"), registry, PRICES)

    assert evaluation.warnings == ("the champion was made of WALK, OTHER; only WALK decided",)


def test_pages_of_evaluations_are_newest_first(store: UnreliableStore, registry: ModelRegistry) -> None:
    challenger = trained(registry, "challenger-1", "ewma")
    jobs = [f"2024071{day}t220000-1a2b3c4d" for day in range(1, 4)]
    for job_id in jobs:
        evaluate_challenger(Challenger("unset", job_id, challenger.card, NOW), registry, PRICES)

    first = evaluation_page(store, "unset", 2, None)
    rest = evaluation_page(store, "unset", 2, first.next_after)

    assert [evaluation.job_id for evaluation in (*first.evaluations, *rest.evaluations)] == jobs[::-1]
    assert rest.next_after is None


def worked(store: UnreliableStore, registry: ModelRegistry) -> JobEnd:
    """How a job ends that trains a challenger."""
    jobs = Jobs(store)
    jobs.add(job_spec(JOB, NOW, "made-1", model="ewma", promote_to="default"))
    end = run_training(JOB, "w1", WorkerContext(jobs, PRICES, registry, lambda: NOW, NO_UNIVERSES))
    assert end is not None
    return end


def test_a_job_that_promotes_carries_the_evaluation(store: UnreliableStore, registry: ModelRegistry) -> None:
    reigning(registry, "persistence")

    end = worked(store, registry)

    assert end.result is not None
    assert end.result.evaluation is not None
    assert end.result.evaluation.won
    assert pointed_to(store) == "made-1"


def test_a_failed_evaluation_fails_no_training(store: UnreliableStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "persistence")
    store.refuses = lambda key: key.startswith("contests/")

    end = worked(store, registry)

    assert end.state == "succeeded"
    assert end.result is not None
    assert end.result.evaluation is None
    assert end.result.warnings[-1].endswith("failed, the alias was not moved: the store is down")
    assert pointed_to(store) == champion
