import pytest

from services.jobs.job import Jobs
from tests.fakes import InMemoryArtifactStore


@pytest.fixture
def store() -> InMemoryArtifactStore:
    return InMemoryArtifactStore()


@pytest.fixture
def jobs(store: InMemoryArtifactStore) -> Jobs:
    return Jobs(store)
