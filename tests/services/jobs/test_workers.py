import pytest

from services.jobs.workers import OfKinds, Programs


class Recording(Programs):
    """Workers that remember whether they were closed."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def kinds() -> dict[str, Recording]:
    return {"a": Recording((), b""), "b": Recording((), b"")}


def test_a_job_has_the_workers_of_its_kind(kinds: dict[str, Recording]) -> None:
    workers = OfKinds(kinds, lambda job_id: job_id[0])

    assert [workers.of("a1"), workers.of("b1")] == [kinds["a"], kinds["b"]]


def test_all_kinds_are_closed(kinds: dict[str, Recording]) -> None:
    OfKinds(kinds, lambda job_id: job_id[0]).close()

    assert [one.is_closed for one in kinds.values()] == [True, True]
