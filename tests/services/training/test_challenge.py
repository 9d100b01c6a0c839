"""A contest for an alias, with real models of a random walk: who wins, what is kept, what a failing store leaves."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from errors import ArtifactCorrupt, StoreUnavailable
from models.base import CLOSE
from schemas.challenge import ChallengerEvaluation
from schemas.job import JobEnd, JobSpec
from schemas.train import CalibrationKind, ModelName, TargetColumn, TrainRequest
from services.jobs.job import Jobs
from services.prices.cleaning import clean
from services.prices.series import PriceHistory
from services.storage.contests import contest_key, contest_page
from services.storage.registry import ModelRegistry
from services.training.challenge import MIN_UNSEEN, Challenger, evaluate_challenger
from services.training.train import train_model
from services.training.work import WorkerContext, run_training
from tests.fakes import FakePriceSource, InMemoryArtifactStore, new_york_sessions, random_walk, walk_history

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
JOB = "20240719t220000-1a2b3c4d"
LONG_AGO = date(2012, 6, 1)  # before the newest fifth of the walk


def grown_wild() -> PriceHistory:
    """A walk that moves ten times as far each session from ``LONG_AGO`` on."""
    sessions = new_york_sessions(900)
    n_calm = int(np.searchsorted(sessions, np.datetime64(LONG_AGO), side="right"))
    calm = random_walk(n_calm, daily_volatility=0.003)
    wild = random_walk(900 - n_calm, seed=1, daily_volatility=0.03, start=float(calm[-1, CLOSE]))
    series, defects = clean("WALK", sessions, np.concatenate([calm, wild]), "USD")
    return PriceHistory(series, source="fake", defects=defects)


PRICES = FakePriceSource(grown_wild(), walk_history("OTHER", n_sessions=900, seed=5))


class LosingStore(InMemoryArtifactStore):
    """A store that from some moment on denies every write below a folder."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = "nothing/"

    def put(self, key: str, data: bytes) -> None:
        self._validate_there(key)
        super().put(key, data)

    def create(self, key: str, data: bytes) -> bool:
        self._validate_there(key)
        return super().create(key, data)

    def _validate_there(self, key: str) -> None:
        if key.startswith(self.lost):
            raise StoreUnavailable("the bucket is gone")


@pytest.fixture
def store() -> LosingStore:
    return LosingStore()


@pytest.fixture
def registry(store: LosingStore) -> ModelRegistry:
    return ModelRegistry(store)


def trained(
    registry: ModelRegistry,
    model_id: str,
    model: ModelName,
    end: date | None = None,
    target: TargetColumn = "Close",
    calibration: CalibrationKind = "static",
    train_size: float = 0.8,
) -> Challenger:
    """A model in the registry, ready to challenge for ``default``."""
    request = TrainRequest(
        ticker="WALK",
        model=model,
        end_date=end,
        target_column=target,
        calibration=calibration,
        train_size=train_size,
    )
    made = train_model(request, PRICES, registry, model_id, NOW, lambda _: None)
    registry.publish(made.card, made.files)
    return Challenger("default", JOB, made.card, NOW)


def reigning(registry: ModelRegistry, model: ModelName, end: date | None = LONG_AGO) -> str:
    trained(registry, "champion-1", model, end)
    registry.move_alias("default", "champion-1", NOW)
    return "champion-1"


def pointed_to(store: InMemoryArtifactStore) -> str:
    """Where the alias points, as a process would see it that has just begun."""
    return ModelRegistry(store).card("default").model_id


def test_a_clearly_worse_champion_loses_its_alias_and_the_evidence_says_why(
    store: LosingStore, registry: ModelRegistry
) -> None:
    champion = reigning(registry, "persistence")

    contest = evaluate_challenger(trained(registry, "challenger-1", "ewma"), registry, PRICES)

    assert contest.won
    assert contest.champion_score is not None
    assert contest.challenger_score is not None
    assert contest.p_value is not None
    assert contest.challenger_score < contest.champion_score
    assert contest.p_value < 0.1
    alias = ModelRegistry(store).alias("default")
    assert alias is not None
    assert (alias.model_id, alias.previous_model_id) == ("challenger-1", champion)
    assert alias.evidence == contest_key("default", JOB)
    assert ChallengerEvaluation.model_validate_json(store.get(alias.evidence)) == contest


def test_an_alias_that_was_moved_elsewhere_while_they_met_stays_there(
    store: LosingStore, registry: ModelRegistry
) -> None:
    reigning(registry, "persistence")
    trained(registry, "third-1", "ewma")
    challenger = trained(registry, "challenger-1", "ewma")

    class Meanwhile(FakePriceSource):
        def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
            ModelRegistry(store).move_alias("default", "third-1", NOW)  # by another process
            return super().history(ticker, now)

    contest = evaluate_challenger(challenger, registry, Meanwhile(grown_wild()))

    assert not contest.won
    assert "moved to another model meanwhile" in contest.reason
    assert pointed_to(store) == "third-1"


def test_persistence_scores_what_persistence_as_a_champion_does(registry: ModelRegistry) -> None:
    reigning(registry, "persistence")

    contest = evaluate_challenger(trained(registry, "challenger-1", "ewma"), registry, PRICES)

    assert contest.persistence_score is not None
    assert contest.challenger_score is not None
    assert contest.challenger_score < contest.persistence_score


def test_an_equal_champion_stays(store: LosingStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "ewma", end=None)

    contest = evaluate_challenger(trained(registry, "challenger-1", "ewma"), registry, PRICES)

    assert (contest.won, contest.p_value) == (False, None)
    assert contest.champion_score == contest.challenger_score
    assert pointed_to(store) == champion


def test_a_better_champion_stays(store: LosingStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "ewma", end=None)
    challenge = trained(registry, "challenger-1", "persistence", train_size=0.6)  # of calm sessions only

    contest = evaluate_challenger(challenge, registry, PRICES)

    assert not contest.won
    assert pointed_to(store) == champion


def test_only_sessions_that_the_champion_does_not_know_decide_where_there_are_enough(registry: ModelRegistry) -> None:
    reigning(registry, "persistence")

    contest = evaluate_challenger(trained(registry, "challenger-1", "ewma"), registry, PRICES)

    assert contest.first_origin is not None
    assert contest.first_origin > LONG_AGO
    assert contest.n_origins >= MIN_UNSEEN
    assert contest.warnings == ()


def test_a_champion_that_knows_the_sessions_is_met_on_the_whole_test_part_with_a_warning(
    registry: ModelRegistry,
) -> None:
    reigning(registry, "ewma", end=None)
    challenge = trained(registry, "challenger-1", "ewma")

    contest = evaluate_challenger(challenge, registry, PRICES)

    test = challenge.challenger.series[0].split.test
    assert test is not None
    assert contest.first_origin == test.first_origin
    assert "it has seen some" in contest.warnings[0]


def test_a_contest_held_again_changes_nothing(store: LosingStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "persistence")
    challenge = trained(registry, "challenger-1", "ewma")
    first = evaluate_challenger(challenge, registry, PRICES)
    registry.move_alias("default", champion, NOW)

    again = evaluate_challenger(challenge, registry, PRICES)

    assert again == first
    assert pointed_to(store) == champion
    assert len(contest_page(store, "default", 10, None).contests) == 1


@pytest.mark.parametrize("lost", ["contests/", "aliases/"])
def test_a_store_that_fails_in_mid_contest_leaves_the_alias_where_it_was(
    store: LosingStore, registry: ModelRegistry, lost: str
) -> None:
    champion = reigning(registry, "persistence")
    challenge = trained(registry, "challenger-1", "ewma")
    store.lost = lost

    with pytest.raises(StoreUnavailable):
        evaluate_challenger(challenge, registry, PRICES)

    assert pointed_to(store) == champion


def test_models_of_different_prices_do_not_meet(store: LosingStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "persistence")

    contest = evaluate_challenger(trained(registry, "challenger-1", "ewma", target="Open"), registry, PRICES)

    assert (contest.won, contest.n_origins, contest.champion_id) == (False, 0, champion)
    assert "forecasts Close, not Open" in contest.reason
    assert contest_page(store, "default", 10, None).contests == (contest,)


def test_an_unreadable_champion_is_not_met(store: LosingStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "persistence")
    challenge = trained(registry, "challenger-1", "ewma")
    store.put(f"models/{champion}/metadata.json", b"{")

    contest = evaluate_challenger(challenge, ModelRegistry(store), PRICES)

    assert (contest.won, contest.champion_id) == (False, None)
    assert contest.reason.startswith("no contest: ")


def test_a_champion_of_more_tickers_is_named_in_a_warning(registry: ModelRegistry) -> None:
    request = TrainRequest(tickers=("WALK", "OTHER"), model="persistence", end_date=LONG_AGO)
    pooled = train_model(request, PRICES, registry, "pooled-1", NOW, lambda _: None)
    registry.publish(pooled.card, pooled.files)
    registry.move_alias("default", "pooled-1", NOW)

    contest = evaluate_challenger(trained(registry, "challenger-1", "ewma"), registry, PRICES)

    assert contest.warnings == ("the champion was made of WALK, OTHER; only WALK decided",)


def test_pages_of_contests_are_newest_first(store: LosingStore, registry: ModelRegistry) -> None:
    challenge = trained(registry, "challenger-1", "ewma")
    jobs = [f"2024071{day}t220000-1a2b3c4d" for day in range(1, 4)]
    for job_id in jobs:
        evaluate_challenger(Challenger("nobody", job_id, challenge.challenger, NOW), registry, PRICES)

    first = contest_page(store, "nobody", 2, None)
    rest = contest_page(store, "nobody", 2, first.next_after)

    assert [contest.job_id for contest in (*first.contests, *rest.contests)] == jobs[::-1]
    assert rest.next_after is None


def test_evidence_that_cannot_be_read_is_told(store: LosingStore) -> None:
    store.put(contest_key("default", JOB), b"{")

    with pytest.raises(ArtifactCorrupt):
        contest_page(store, "default", 1, None)


def worked(store: LosingStore, registry: ModelRegistry) -> JobEnd:
    """How a job ends that trains a challenger."""
    request = TrainRequest(ticker="WALK", model="ewma", challenges="default")
    jobs = Jobs(store)
    jobs.add(
        JobSpec(id=JOB, created_at=NOW, claim_deadline=NOW + timedelta(hours=1), model_id="made-1", request=request)
    )
    end = run_training(JOB, "w1", WorkerContext(jobs, PRICES, registry, lambda: NOW))
    assert end is not None
    return end


def test_a_job_that_challenges_carries_the_evidence(store: LosingStore, registry: ModelRegistry) -> None:
    reigning(registry, "persistence")

    end = worked(store, registry)

    assert end.result is not None
    assert end.result.contest is not None
    assert end.result.contest.won
    assert pointed_to(store) == "made-1"


def test_a_contest_that_fails_takes_nothing_from_the_training(store: LosingStore, registry: ModelRegistry) -> None:
    champion = reigning(registry, "persistence")
    store.lost = "contests/"

    end = worked(store, registry)

    assert end.state == "succeeded"
    assert end.result is not None
    assert end.result.contest is None
    assert end.result.warnings[-1] == (
        "the evaluation against 'default' failed, the alias was not moved: the bucket is gone"
    )
    assert pointed_to(store) == champion
