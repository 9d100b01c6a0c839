"""Writers that interleave and die between any two calls of the store lose nothing and leave nothing half done.

Hypothesis chooses the order. These are a few thousand steps; ``python -m benchmarks.races --steps 50000`` is the long
run, on one kind of store or on all of them.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from services.training.train import TrainedModel
from tests.races.machine import race_on, small_model

N_RACES = {"memory": 20, "local": 5, "moto": 1, "ignoring": 1}


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return small_model()


@pytest.mark.parametrize("kind", N_RACES)
def test_interleaved_and_dying_writers_lose_nothing(
    request: pytest.FixtureRequest, model: TrainedModel, kind: str
) -> None:
    server = None if kind in ("memory", "local") else request.getfixturevalue("moto_endpoint")

    run_state_machine_as_test(
        race_on(kind, model, server),
        settings=settings(
            max_examples=N_RACES[kind],
            stateful_step_count=50,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
