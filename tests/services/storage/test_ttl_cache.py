from collections.abc import Callable

import pytest

from errors import ArtifactCorrupt, StoreUnavailable
from services.storage import ttl_cache
from services.storage.ttl_cache import TtlCache


class Source:
    """Answers how often it was asked, or fails."""

    def __init__(self) -> None:
        self.n_asked = self.n_tried = 0
        self.broken: Exception | None = None
        self.takes: Callable[[], None] = lambda: None

    def __call__(self, name: str) -> int:
        self.n_tried += 1
        self.takes()
        if self.broken is not None:
            raise self.broken
        self.n_asked += 1
        return self.n_asked


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [0.0]
    monkeypatch.setattr("services.storage.ttl_cache.time.monotonic", lambda: now[0])

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    return pass_time


def test_what_was_said_holds_for_a_while(pass_time: Callable[[float], None]) -> None:
    memory, source = TtlCache[int](), Source()

    said = [memory.get_or_load("a", source)]
    pass_time(ttl_cache.TTL_S - 0.1)
    said.append(memory.get_or_load("a", source))
    pass_time(0.2)
    said.append(memory.get_or_load("a", source))

    assert said == [1, 1, 2]


def test_while_one_asks_a_store_that_hangs_others_go_by_what_is_known(pass_time: Callable[[float], None]) -> None:
    memory, source, meanwhile = TtlCache[int](), Source(), list[int]()
    memory.get_or_load("a", source)
    pass_time(ttl_cache.TTL_S)
    source.takes = lambda: meanwhile.append(memory.get_or_load("a", source))

    assert memory.get_or_load("a", source) == 2
    assert meanwhile == [1]


def test_what_is_no_more_is_not_answered_with_what_was(pass_time: Callable[[float], None]) -> None:
    memory, source = TtlCache[int](), Source()
    memory.get_or_load("a", source)
    pass_time(ttl_cache.TTL_S)
    source.broken = ArtifactCorrupt("broken")

    for _ in range(2):
        with pytest.raises(ArtifactCorrupt):
            memory.get_or_load("a", source)


def test_what_was_forgotten_is_asked_again() -> None:
    memory, source = TtlCache[int](), Source()
    memory.get_or_load("a", source)

    memory.forget("a")

    assert memory.get_or_load("a", source) == 2


def test_while_the_store_is_down_the_last_known_holds(pass_time: Callable[[float], None]) -> None:
    memory, source = TtlCache[int](), Source()
    memory.get_or_load("a", source)
    source.broken = StoreUnavailable("down")

    pass_time(100 * ttl_cache.TTL_S)

    assert memory.get_or_load("a", source) == 1


@pytest.mark.parametrize("error", [StoreUnavailable("down"), ArtifactCorrupt("broken")])
def test_a_failure_is_told_where_nothing_is_known(error: Exception) -> None:
    memory, source = TtlCache[int](), Source()
    source.broken = error

    with pytest.raises(type(error)):
        memory.get_or_load("a", source)


def test_only_an_outage_is_bridged(pass_time: Callable[[float], None]) -> None:
    memory, source = TtlCache[int](), Source()
    memory.get_or_load("a", source)
    source.broken = ArtifactCorrupt("broken")
    pass_time(2 * ttl_cache.TTL_S)

    with pytest.raises(ArtifactCorrupt):
        memory.get_or_load("a", source)


def test_a_store_that_has_failed_is_left_alone_for_a_while(pass_time: Callable[[float], None]) -> None:
    memory, source = TtlCache[int](), Source()
    source.broken = StoreUnavailable("down")
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="down"):
            memory.get_or_load("a", source)
    source.broken = None
    n_tried = source.n_tried

    pass_time(ttl_cache.PAUSE_S - 0.1)
    with pytest.raises(StoreUnavailable, match="down"):
        memory.get_or_load("a", source)
    pass_time(0.2)

    assert (n_tried, memory.get_or_load("a", source)) == (1, 1)


def test_a_store_that_fails_slowly_is_left_alone_from_the_end_of_its_failure(
    pass_time: Callable[[float], None],
) -> None:
    memory, source = TtlCache[int](), Source()
    memory.get_or_load("a", source)
    pass_time(ttl_cache.TTL_S)
    source.broken = StoreUnavailable("down")
    source.takes = lambda: pass_time(60)

    said = [memory.get_or_load("a", source) for _ in range(3)]

    assert (said, source.n_tried) == ([1, 1, 1], 2)
