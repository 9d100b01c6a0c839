from collections.abc import Callable
from types import SimpleNamespace

import pytest

from errors import ArtifactCorrupt, StoreUnavailable
from services.storage import ttl_cache
from services.storage.pause import PAUSE_S
from services.storage.ttl_cache import TtlCache


class Source:
    """Returns how often it was read, or fails."""

    def __init__(self) -> None:
        self.n_read = self.n_tried = 0
        self.broken: Exception | None = None
        self.takes: Callable[[], None] = lambda: None

    def __call__(self) -> int:
        self.n_tried += 1
        self.takes()
        if self.broken is not None:
            raise self.broken
        self.n_read += 1
        return self.n_read


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [0.0]
    for module in ("ttl_cache", "pause"):  # not the clock of all: threads such as a server's go by it
        monkeypatch.setattr(f"services.storage.{module}.time", SimpleNamespace(monotonic=lambda: now[0]))

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    return pass_time


def test_a_value_is_cached_for_a_while(pass_time: Callable[[float], None]) -> None:
    cache, source = TtlCache[str, int](), Source()

    values = [cache.get_or_load("a", source)]
    pass_time(ttl_cache.TTL_S - 0.1)
    values.append(cache.get_or_load("a", source))
    pass_time(0.2)
    values.append(cache.get_or_load("a", source))

    assert values == [1, 1, 2]


def test_while_one_thread_reads_a_slow_store_others_get_the_known_value(pass_time: Callable[[float], None]) -> None:
    cache, source, meanwhile = TtlCache[str, int](), Source(), list[int]()
    cache.get_or_load("a", source)
    pass_time(ttl_cache.TTL_S)
    source.takes = lambda: meanwhile.append(cache.get_or_load("a", source))

    assert cache.get_or_load("a", source) == 2
    assert meanwhile == [1]


def test_only_an_outage_is_answered_with_the_known_value(pass_time: Callable[[float], None]) -> None:
    cache, source = TtlCache[str, int](), Source()
    cache.get_or_load("a", source)
    pass_time(ttl_cache.TTL_S)
    source.broken = ArtifactCorrupt("broken")

    for _ in range(2):
        with pytest.raises(ArtifactCorrupt):
            cache.get_or_load("a", source)


def test_a_forgotten_value_is_read_again() -> None:
    cache, source = TtlCache[str, int](), Source()
    cache.get_or_load("a", source)

    cache.forget("a")

    assert cache.get_or_load("a", source) == 2


def test_while_the_store_is_down_the_last_known_value_is_served(pass_time: Callable[[float], None]) -> None:
    cache, source = TtlCache[str, int](), Source()
    cache.get_or_load("a", source)
    source.broken = StoreUnavailable("down")

    pass_time(100 * ttl_cache.TTL_S)

    assert cache.get_or_load("a", source) == 1


@pytest.mark.parametrize("error", [StoreUnavailable("down"), ArtifactCorrupt("broken")])
def test_a_failure_is_raised_where_no_value_is_known(error: Exception) -> None:
    cache, source = TtlCache[str, int](), Source()
    source.broken = error

    with pytest.raises(type(error)):
        cache.get_or_load("a", source)


def test_after_a_failure_the_store_is_not_read_for_a_while(pass_time: Callable[[float], None]) -> None:
    cache, source = TtlCache[str, int](), Source()
    source.broken = StoreUnavailable("down")
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="down"):
            cache.get_or_load("a", source)
    source.broken = None
    n_tried = source.n_tried

    pass_time(PAUSE_S - 0.1)
    with pytest.raises(StoreUnavailable, match="down"):
        cache.get_or_load("a", source)
    pass_time(0.2)

    assert (n_tried, cache.get_or_load("a", source)) == (1, 1)


def test_the_pause_after_a_slow_failure_begins_at_its_end(pass_time: Callable[[float], None]) -> None:
    cache, source = TtlCache[str, int](), Source()
    cache.get_or_load("a", source)
    pass_time(ttl_cache.TTL_S)
    source.broken = StoreUnavailable("down")
    source.takes = lambda: pass_time(60)

    values = [cache.get_or_load("a", source) for _ in range(3)]

    assert (values, source.n_tried) == ([1, 1, 1], 2)


def test_a_value_that_does_not_expire_is_read_once_and_dropped_when_it_is_the_least_recently_used(
    pass_time: Callable[[float], None],
) -> None:
    cache, source = TtlCache[str, int](2, expires=False), Source()
    for key in "ab":
        cache.get_or_load(key, source)
    pass_time(1e9)

    cache.get_or_load("a", source)
    cache.get_or_load("c", source)

    assert [cache.peek(key) for key in "abc"] == [1, None, 3]
