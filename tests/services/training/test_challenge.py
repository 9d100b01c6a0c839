"""Challengers of an alias, with real models of a random walk: who wins, what is stored, and a store that fails."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache

import numpy as np
import pytest
from scipy import stats

from errors import AliasMoved, StoreUnavailable, TickerNotFound
from models.base import CLOSE
from schemas.challenge import ChallengerEvaluation
from schemas.job import JobEnd
from schemas.train import ModelName, TrainRequest, TrainResult
from services.evaluation.significance import block_p_value
from services.jobs.job import Jobs
from services.prices.series import PriceHistory
from services.storage.cards import write_card
from services.storage.evaluations import evaluation_key, evaluation_page
from services.storage.registry import ModelRegistry
from services.training.challenge import (
    MAX_TICKERS,
    MIN_GAIN,
    MIN_UNSEEN,
    SEEN,
    Challenger,
    _decision,
    evaluate_challenger,
)
from services.training.train import TrainedModel, train_model
from services.training.universe import NO_UNIVERSES, Universes
from services.training.work import WorkerContext, run_training
from tests.fakes import (
    EMPTY_REGISTRY,
    FakePriceSource,
    InMemoryArtifactStore,
    UnreliableStore,
    history_of,
    job_spec,
    new_york_sessions,
    random_walk,
    walk_history,
    write_prices,
)

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
JOB = "20240719t220000-1a2b3c4d"
LONG_AGO = date(2012, 6, 1)  # before the newest fifth of the walk
ONLY_WALK = "no universe of prices of either model is installed: only WALK decided"


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


@cache
def trained_once(model_id: str, request: str) -> TrainedModel:
    return train_model(TrainRequest.model_validate_json(request), PRICES, EMPTY_REGISTRY, model_id, NOW, lambda _: None)


def trained(registry: ModelRegistry, model_id: str, model: ModelName, **more: object) -> Challenger:
    """A model in the registry, ready to be compared with the champion of ``default``."""
    request = TrainRequest.model_validate({"ticker": "WALK", "model": model, "calibration": "static", **more})
    made = trained_once(model_id, request.model_dump_json())
    registry.publish(made.card, made.files)
    return Challenger("default", JOB, made.card, NOW)


def reigning(registry: ModelRegistry, model: ModelName, end: date | None = LONG_AGO, **more: object) -> str:
    trained(registry, "champion-1", model, end_date=end, **more)
    registry.move_alias("default", "champion-1", NOW)
    return "champion-1"


def pointed_to(store: InMemoryArtifactStore) -> str:
    """Where the alias points, as a process would see it that has just begun."""
    return ModelRegistry(store).card("default").model_id


def test_a_clearly_worse_champion_loses_its_alias_and_the_evidence_says_why(
    store: UnreliableStore, registry: ModelRegistry
) -> None:
    champion = reigning(registry, "persistence")

    evaluation = evaluate_challenger(trained(registry, "challenger-1", "ewma"), registry, PRICES, NO_UNIVERSES)

    assert evaluation.won
    assert evaluation.champion_score is not None
    assert evaluation.challenger_score is not None
    assert evaluation.p_value is not None
    assert evaluation.challenger_score < evaluation.champion_score
    assert evaluation.max_p_value == 0.01
    assert evaluation.p_value < 0.01
    assert evaluation.gain == pytest.approx(1 - evaluation.challenger_score / evaluation.champion_score)
    assert evaluation.tickers == ("WALK",)
    assert evaluation.persistence_score is not None
    assert evaluation.challenger_score < evaluation.persistence_score
    assert evaluation.first_origin is not None
    assert evaluation.first_origin > LONG_AGO  # only sessions that the champion has not seen
    assert evaluation.n_origins >= MIN_UNSEEN
    assert evaluation.warnings == (ONLY_WALK,)
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

    evaluation = evaluate_challenger(challenger, registry, Meanwhile(grown_wild()), NO_UNIVERSES)

    assert not evaluation.won
    assert "moved to another model meanwhile" in evaluation.reason
    assert pointed_to(store) == "third-1"


def test_an_alias_that_is_moved_after_the_evaluation_was_stored_stays_there(
    store: UnreliableStore, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = reigning(registry, "persistence")
    trained(registry, "third-1", "ewma")
    create = store.create

    def then_moved(key: str, data: bytes) -> bool:
        created = create(key, data)
        if key == evaluation_key("default", JOB):
            ModelRegistry(store).move_alias("default", "third-1", NOW)  # by another process
        return created

    monkeypatch.setattr(store, "create", then_moved)

    with pytest.raises(AliasMoved, match=f"points to 'third-1' now, not to '{champion}'"):
        evaluate_challenger(trained(registry, "challenger-1", "ewma"), registry, PRICES, NO_UNIVERSES)

    assert pointed_to(store) == "third-1"


def test_an_equal_champion_stays(store: UnreliableStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "ewma", end=None)

    evaluation = evaluate_challenger(trained(registry, "challenger-1", "ewma"), registry, PRICES, NO_UNIVERSES)

    assert (evaluation.won, evaluation.p_value, evaluation.gain) == (False, None, 0)
    assert evaluation.champion_score == evaluation.challenger_score
    assert SEEN not in evaluation.warnings  # the test part of the champion is unseen by it too
    assert pointed_to(store) == champion


def test_a_champion_that_has_seen_the_sessions_is_compared_on_them_and_a_warning_says_so(
    store: UnreliableStore, registry: ModelRegistry
) -> None:
    champion = reigning(registry, "ewma", end=None, train_size=0.95)
    challenger = trained(registry, "challenger-1", "ewma")

    evaluation = evaluate_challenger(challenger, registry, PRICES, NO_UNIVERSES)

    assert not evaluation.won
    assert pointed_to(store) == champion
    test = challenger.card.series[0].split.test
    assert test is not None
    assert evaluation.first_origin == test.first_origin
    assert evaluation.warnings == (SEEN, ONLY_WALK)


def test_a_better_champion_stays(store: UnreliableStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "ewma", end=None)
    challenger = trained(registry, "challenger-1", "persistence", train_size=0.6)  # of calm sessions only

    evaluation = evaluate_challenger(challenger, registry, PRICES, NO_UNIVERSES)

    assert not evaluation.won
    assert pointed_to(store) == champion


def test_a_repeated_evaluation_changes_nothing(store: UnreliableStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "persistence")
    challenger = trained(registry, "challenger-1", "ewma")
    first = evaluate_challenger(challenger, registry, PRICES, NO_UNIVERSES)
    registry.move_alias("default", champion, NOW)

    again = evaluate_challenger(challenger, registry, PRICES, NO_UNIVERSES)

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
        evaluate_challenger(challenger, registry, PRICES, NO_UNIVERSES)

    assert pointed_to(store) == champion


def test_models_of_different_prices_are_not_compared(store: UnreliableStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "persistence")

    evaluation = evaluate_challenger(
        trained(registry, "challenger-1", "ewma", target_column="Open"), registry, PRICES, NO_UNIVERSES
    )

    assert (evaluation.won, evaluation.n_origins, evaluation.champion_id) == (False, 0, champion)
    assert "forecasts Close, not Open" in evaluation.reason
    assert evaluation_page(store, "default", 10, None).evaluations == (evaluation,)


def test_an_unreadable_champion_is_not_compared(store: UnreliableStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "persistence")
    challenger = trained(registry, "challenger-1", "ewma")
    store.put(f"models/{champion}/metadata.json", b"{")

    evaluation = evaluate_challenger(challenger, ModelRegistry(store), PRICES, NO_UNIVERSES)

    assert (evaluation.won, evaluation.champion_id) == (False, None)
    assert evaluation.reason.startswith("not compared: ")


def pooled(registry: ModelRegistry, model_id: str, model: ModelName, **more: object) -> Challenger:
    request = TrainRequest.model_validate({"tickers": ("WALK", "OTHER"), "model": model, **more})
    made = trained_once(model_id, request.model_dump_json())
    registry.publish(made.card, made.files)
    return Challenger("default", JOB, made.card, NOW)


def test_without_a_universe_the_challengers_own_tickers_decide_and_a_warning_says_so(registry: ModelRegistry) -> None:
    reigning(registry, "persistence")

    evaluation = evaluate_challenger(pooled(registry, "pooled-1", "ewma"), registry, PRICES, NO_UNIVERSES)

    assert evaluation.tickers == ("WALK", "OTHER")
    assert evaluation.won
    assert evaluation.warnings == (ONLY_WALK.replace("WALK", "WALK, OTHER"),)


def for_ticker(challenger: Challenger, ticker: str = "WALK") -> Challenger:
    return replace(challenger, alias=f"ticker/{ticker}")


def test_the_first_champion_of_a_ticker_is_the_default_and_only_the_ticker_gets_the_challenger(
    store: UnreliableStore, registry: ModelRegistry
) -> None:
    champion = reigning(registry, "persistence")

    evaluation = evaluate_challenger(
        for_ticker(trained(registry, "challenger-1", "ewma")), registry, PRICES, NO_UNIVERSES
    )

    assert (evaluation.won, evaluation.champion_id, evaluation.warnings) == (True, champion, ())
    assert pointed_to(store) == champion
    alias = ModelRegistry(store).alias("ticker/WALK")
    assert alias is not None
    assert (alias.model_id, alias.previous_model_id) == ("challenger-1", champion)
    assert alias.evidence == "contests/ticker/WALK/20240719t220000-1a2b3c4d.json"
    assert evaluation_page(store, "ticker/WALK", 10, None).evaluations == (evaluation,)


def test_a_pooled_challenger_for_a_ticker_is_compared_on_that_ticker_alone(registry: ModelRegistry) -> None:
    reigning(registry, "persistence")

    evaluation = evaluate_challenger(
        for_ticker(pooled(registry, "pooled-1", "ewma"), "OTHER"), registry, PRICES, NO_UNIVERSES
    )

    assert (evaluation.tickers, evaluation.champion_id) == (("OTHER",), "champion-1")


def test_a_ticker_without_prices_is_an_error_and_moves_nothing(store: UnreliableStore, registry: ModelRegistry) -> None:
    reigning(registry, "persistence")
    challenger = for_ticker(trained(registry, "challenger-1", "ewma"), "NOPE")

    with pytest.raises(TickerNotFound):
        evaluate_challenger(challenger, registry, PRICES, NO_UNIVERSES)

    assert ModelRegistry(store).alias("ticker/NOPE") is None


@pytest.fixture(scope="module")
def universes(tmp_path_factory: pytest.TempPathFactory) -> Universes:
    folder = tmp_path_factory.mktemp("universes")
    (folder / "walks").mkdir()
    for seed in range(MAX_TICKERS + 5):
        write_prices(folder / "walks", walk_history(f"W{seed}", n_sessions=900, seed=seed))
    write_prices(folder / "walks", walk_history("YOUNG", n_sessions=30))
    return Universes(folder)


def of_universe(registry: ModelRegistry, challenger: Challenger, name: str = "walks") -> Challenger:
    card = challenger.card.model_copy(update={"universe": name})
    registry.store.put(f"models/{card.model_id}/metadata.json", write_card(card))
    return replace(challenger, card=card)


def test_a_sample_of_the_universe_decides_for_an_alias_of_every_ticker(
    registry: ModelRegistry, universes: Universes
) -> None:
    reigning(registry, "persistence")
    challenger = of_universe(registry, trained(registry, "challenger-1", "ewma"))

    evaluation = evaluate_challenger(challenger, registry, PRICES, universes)

    assert (evaluation.won, evaluation.warnings) == (True, ())
    assert len(set(evaluation.tickers)) == MAX_TICKERS
    assert "YOUNG" not in evaluation.tickers
    assert evaluation.n_origins >= MAX_TICKERS * MIN_UNSEEN


def test_the_universe_of_the_champion_will_do_and_the_sample_depends_on_the_job_alone(
    store: UnreliableStore, registry: ModelRegistry, universes: Universes
) -> None:
    of_universe(registry, trained(registry, "champion-1", "persistence", end_date=LONG_AGO))
    registry = ModelRegistry(store)
    registry.move_alias("mine", "champion-1", NOW)
    challenger = replace(trained(registry, "challenger-1", "persistence"), alias="mine")

    def sample(job_id: str, alias: str) -> Sequence[str]:
        registry.move_alias(alias, "champion-1", NOW)
        again = replace(challenger, job_id=job_id, alias=alias)
        return evaluate_challenger(again, registry, PRICES, universes).tickers

    first = sample(JOB, "mine")
    assert sample(JOB, "yours") == first
    assert sample(f"{JOB[:-1]}e", "mine") != first


def test_a_challenger_of_a_universe_that_is_not_installed_is_compared_on_its_own_tickers(
    registry: ModelRegistry, universes: Universes
) -> None:
    reigning(registry, "persistence")
    challenger = of_universe(registry, trained(registry, "challenger-1", "ewma"), "gone")

    evaluation = evaluate_challenger(challenger, registry, PRICES, universes)

    assert (evaluation.tickers, evaluation.warnings) == (("WALK",), (ONLY_WALK,))


@pytest.mark.parametrize(
    ("gain", "p", "position", "won"),
    [
        (0.05, 0.009, 1, True),
        (0.05, 0.011, 1, False),
        (0.05, 0.009, 2, False),
        (0.05, 0.00001, 200, True),
        (0.05, 0.00005, 200, False),  # 0.01 / 200, which Bonferroni would take only if the number were known before
        (MIN_GAIN / 2, 0.0, 1, False),
        (-0.05, 0.0, 1, False),
        (0.05, None, 1, False),
    ],
)
def test_a_challenger_wins_by_enough_and_by_more_than_chance_of_the_whole_night(
    registry: ModelRegistry, gain: float, p: float | None, position: int, *, won: bool
) -> None:
    challenger = replace(trained(registry, "challenger-1", "persistence"), family_position=position)

    assert _decision(gain, p, challenger)[0] is won


def losses_of_equals(rng: np.random.Generator, n_sessions: int, n_pairs: int) -> np.ndarray:
    """Relative differences of the CRPS of two equally good forecasts of volatility, shape (n_pairs, n_sessions).

    The errors of each forecast stay alike for weeks, outcomes overlap by five sessions, and volatility changes.
    """
    volatility = np.exp(0.5 * slowly(rng, 1, n_sessions + 5, 0.97)[0])
    moves = np.cumsum(volatility * rng.standard_t(5, (n_pairs, n_sessions + 5)), axis=1)
    outcome = np.abs(moves[:, 5:] - moves[:, :-5]) / np.sqrt(5)
    scale = volatility[:n_sessions]
    own, other = (scale * np.exp(0.15 * slowly(rng, n_pairs, n_sessions, 0.9)) for _ in range(2))
    differences: np.ndarray = crps_of_normal(outcome, own) - crps_of_normal(outcome, other)
    return differences


def slowly(rng: np.random.Generator, n_rows: int, n_steps: int, persistence: float) -> np.ndarray:
    values = rng.standard_normal((n_rows, n_steps))
    for step in range(1, n_steps):
        values[:, step] = persistence * values[:, step - 1] + np.sqrt(1 - persistence**2) * values[:, step]
    return values


def crps_of_normal(outcome: np.ndarray, spread: np.ndarray) -> np.ndarray:
    z = outcome / spread
    crps: np.ndarray = spread * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    return crps


@pytest.mark.parametrize("n_sessions", [100, 400])
def test_of_two_hundred_challengers_that_are_no_better_hardly_one_wins_in_twenty_nights(
    registry: ModelRegistry, n_sessions: int
) -> None:
    rng = np.random.default_rng(n_sessions)
    differences = losses_of_equals(rng, n_sessions, 2000)
    found = [block_p_value(sign * one) for one in differences for sign in (1, -1)]
    challenger = trained(registry, "challenger-1", "persistence")

    def n_winners(position: int, among: list[float | None]) -> int:
        tested = replace(challenger, family_position=position)
        return [_decision(1.0, p, tested)[0] for p in among].count(True)  # whatever the gain

    likely = [p for p in found if p is None or p < 0.05]  # no later challenger has a wider limit than the first
    expected = sum(n_winners(position, likely) for position in range(1, 201)) / len(found)
    assert 0 < n_winners(1, found) / len(found) < 0.02  # the test is able to reject
    assert expected < 0.05


def test_the_limits_of_any_number_of_challengers_sum_to_less_than_a_twentieth(registry: ModelRegistry) -> None:
    challenger = trained(registry, "challenger-1", "persistence")

    limits = [replace(challenger, family_position=position).max_p_value for position in range(1, 100_001)]

    assert limits[0] == 0.01
    assert sum(limits) + 0.01 * 4 * 100_000**-0.25 < 0.05  # what the rest adds is below the integral


def test_pages_of_evaluations_are_newest_first(store: UnreliableStore, registry: ModelRegistry) -> None:
    challenger = trained(registry, "challenger-1", "ewma")
    jobs = [f"2024071{day}t220000-1a2b3c4d" for day in range(1, 4)]
    for job_id in jobs:
        evaluate_challenger(Challenger("unset", job_id, challenger.card, NOW), registry, PRICES, NO_UNIVERSES)

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

    assert isinstance(end.result, TrainResult)
    assert end.result.evaluation is not None
    assert end.result.evaluation.won
    assert end.result.evaluation.family_position == 1
    assert pointed_to(store) == "made-1"


def test_a_job_counts_the_challengers_that_were_submitted_before_it(
    store: UnreliableStore, registry: ModelRegistry
) -> None:
    reigning(registry, "persistence")
    for earlier in range(4):
        job_id = f"20240719t21000{earlier}-1a2b3c4d"
        Jobs(store).add(job_spec(job_id, NOW, f"other-{earlier}", promote_to="ticker/OTHER"))

    end = worked(store, registry)

    assert isinstance(end.result, TrainResult)
    assert end.result.evaluation is not None
    assert end.result.evaluation.family_position == 5
    assert end.result.evaluation.max_p_value == pytest.approx(0.01 / 5**1.25)
    assert "challenger 5 of the night" in end.result.evaluation.reason


def test_a_failed_evaluation_fails_no_training(store: UnreliableStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "persistence")
    store.refuses = lambda key: key.startswith("contests/")

    end = worked(store, registry)

    assert end.state == "succeeded"
    assert isinstance(end.result, TrainResult)
    assert end.result.evaluation is None
    assert end.result.warnings[-1].endswith("failed, the alias was not moved: the store is down")
    assert pointed_to(store) == champion
