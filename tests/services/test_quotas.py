import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import quotas
from services.quotas import Budget, Quotas
from tests.fakes import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_without_limits_everything_is_admitted_and_nothing_stated() -> None:
    limits = Quotas()
    limits.charge("ci", 1e9)

    assert [limits.admit("ci") for _ in range(3)] == [(None, {})] * 3


def test_the_request_after_the_last_is_refused_until_one_has_come_back(clock: ManualClock) -> None:
    limits = Quotas(requests_per_minute=3, clock=clock)
    admitted = [limits.admit("ci").refusal for _ in range(3)]

    refusal = limits.admit("ci").refusal

    assert admitted == [None] * 3
    assert refusal is not None
    assert (refusal.retry_after_s, refusal.code) == (20, "rate_limited")
    clock.now = 19.9
    assert limits.admit("ci").refusal is not None
    clock.now = 20.0
    assert limits.admit("ci").refusal is None
    assert limits.admit("ci").refusal is not None


def test_the_fields_state_what_is_left(clock: ManualClock) -> None:
    limits = Quotas(requests_per_minute=2, clock=clock)

    stated = [limits.admit("ci").fields for _ in range(3)]

    assert [one["RateLimit-Policy"] for one in stated] == ['"requests";q=2;w=60'] * 3
    assert [one["RateLimit"] for one in stated] == [
        '"requests";r=1;t=30',
        '"requests";r=0;t=60',
        '"requests";r=0;t=60',
    ]


def test_callers_do_not_share_a_limit(clock: ManualClock) -> None:
    limits = Quotas(requests_per_minute=1, cpu_s_per_minute=1, clock=clock)
    limits.admit("one")
    limits.charge("one", 5)

    assert limits.admit("one").refusal is not None
    assert limits.admit("other").refusal is None


def test_a_debt_of_cpu_time_is_paid_off_before_the_next_request(clock: ManualClock) -> None:
    limits = Quotas(cpu_s_per_minute=6, clock=clock)
    assert limits.admit("ci").refusal is None
    limits.charge("ci", 8.0)

    refusal = limits.admit("ci").refusal

    assert refusal is not None
    assert refusal.retry_after_s == 20  # 2 s at 6 s a minute
    assert "seconds of CPU time" in refusal.message
    clock.now = 20.0
    assert limits.admit("ci").refusal is None


def test_what_is_not_overdrawn_admits(clock: ManualClock) -> None:
    limits = Quotas(cpu_s_per_minute=6, clock=clock)
    limits.charge("ci", 6.0)

    assert limits.admit("ci").refusal is None


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 10)), max_size=40), st.floats(0.1, 1000))
def test_no_more_is_spent_than_the_budget_and_what_has_come_back(
    steps: list[tuple[float, float]], limit: float
) -> None:
    clock, spent = ManualClock(), 0.0
    budget = Budget(limit, "units", clock)

    for pause, amount in steps:
        clock.now += pause
        if budget.spend("ci", amount, least=amount) >= amount:
            spent += amount

    assert spent <= (limit + clock.now * limit / 60) * (1 + 1e-9)


def test_the_wait_of_a_refusal_is_long_enough() -> None:
    for limit in (1, 7, 59, 61, 1000):
        clock = ManualClock()
        limits = Quotas(requests_per_minute=limit, clock=clock)
        while (refusal := limits.admit("ci").refusal) is None:
            pass
        assert refusal.retry_after_s is not None
        clock.now += refusal.retry_after_s

        assert limits.admit("ci").refusal is None, limit


def test_a_scan_from_many_addresses_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    monkeypatch.setattr(quotas, "MAX_CALLERS", 100)
    budget = Budget(2, "requests", clock)
    for number in range(1000):
        budget.spend(f"10.0.0.{number}", 1.0)
        budget.spend("busy", 0.0 if number else 2.0)

    assert len(budget._accounts) == 100
    assert budget.spend("busy", 0.0) == 0.0  # the most recent ones are kept


def test_threads_do_not_lose_a_charge(clock: ManualClock) -> None:
    budget = Budget(100_000, "seconds", clock)

    def charge() -> None:
        for _ in range(2000):
            budget.spend("ci", 1.0)

    threads = [threading.Thread(target=charge) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert budget.spend("ci", 0.0) == 100_000 - 8000


def test_an_address_with_too_many_wrong_keys_is_refused_alone_and_for_a_while(clock: ManualClock) -> None:
    limits = Quotas(clock=clock)
    first = [limits.refuse_key("192.0.2.1") for _ in range(quotas.WRONG_KEYS_PER_MINUTE)]

    refusal = limits.refuse_key("192.0.2.1")

    assert first == [None] * quotas.WRONG_KEYS_PER_MINUTE
    assert refusal is not None
    assert (refusal.code, refusal.retry_after_s) == ("rate_limited", 1)
    assert limits.refuse_key("192.0.2.2") is None
    clock.now = 1.0
    assert limits.refuse_key("192.0.2.1") is None
