from datetime import UTC, datetime, timedelta

import pytest

from errors import AppError, PricesEmpty, PricesRateLimited, PricesUnreachable, TickerNotFound
from services.prices.cache.breaker import FAILURES_TO_OPEN, LONGEST_PAUSE_S, CircuitBreaker

NOW = datetime(2024, 3, 15, 14, tzinfo=UTC)
PAUSE_S = 45.0


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def request(breaker: CircuitBreaker, seconds: float, error: AppError | None = None) -> bool:
    """Whether the request got through."""
    passed = False
    try:
        with breaker.request(at(seconds)):
            passed = True
            if error is not None:
                raise error
    except AppError:
        pass
    return passed


def fail(breaker: CircuitBreaker, seconds: float) -> bool:
    return request(breaker, seconds, PricesUnreachable("down"))


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker("yahoo", PAUSE_S)


@pytest.fixture
def opened(breaker: CircuitBreaker) -> CircuitBreaker:
    for _ in range(FAILURES_TO_OPEN):
        fail(breaker, 0)
    return breaker


def test_three_failures_in_a_row_open_the_circuit(breaker: CircuitBreaker) -> None:
    assert [fail(breaker, second) for second in range(5)] == [True, True, True, False, False]


@pytest.mark.parametrize("answer", [None, TickerNotFound("no such ticker"), PricesEmpty("no rows")])
def test_any_answer_resets_the_count(breaker: CircuitBreaker, answer: AppError | None) -> None:
    for _ in range(5):
        fail(breaker, 0)
        fail(breaker, 0)
        assert request(breaker, 0, answer)


def test_refusal_says_when_the_next_try_is(opened: CircuitBreaker) -> None:
    with pytest.raises(PricesUnreachable, match="next try in 5 s, at 14:00:45 UTC") as refused, opened.request(at(40)):
        pass

    assert refused.value.retry_after_s == 5


def test_refusal_names_at_least_a_second(opened: CircuitBreaker) -> None:
    with pytest.raises(PricesUnreachable, match="next try in 1 s") as refused, opened.request(at(44.8)):
        pass

    assert refused.value.retry_after_s == 1


def test_no_first_pause_is_longer_than_a_quarter_of_an_hour() -> None:
    patient = CircuitBreaker("yahoo", 5000.0)
    for _ in range(FAILURES_TO_OPEN):
        fail(patient, 0)

    assert [patient.is_open(at(second)) for second in (0, 899, 900)] == [True, True, False]


def test_rate_limited_trial_pauses_no_shorter_than_a_failed_one(opened: CircuitBreaker) -> None:
    request(opened, 45, PricesRateLimited("slow down", retry_after_s=5))

    assert [opened.is_open(at(second)) for second in (45 + 89, 45 + 90)] == [True, False]


def test_one_trial_is_let_through_and_others_wait_for_it(opened: CircuitBreaker) -> None:
    with opened.request(at(45)):
        meanwhile = [request(opened, second) for second in (45, 46)]

    assert meanwhile == [False, False]
    assert request(opened, 46)


def test_trial_that_never_ends_is_followed_by_another(opened: CircuitBreaker) -> None:
    trial = opened.request(at(45))
    trial.__enter__()

    assert [request(opened, seconds) for seconds in (89, 90)] == [False, True]


def test_failed_trials_double_the_pause_up_to_a_quarter_of_an_hour(opened: CircuitBreaker) -> None:
    moment, pauses = 45.0, []
    for _ in range(7):
        assert fail(opened, moment)
        with pytest.raises(PricesUnreachable) as refused, opened.request(at(moment)):
            pass
        pauses.append(refused.value.retry_after_s)
        moment += pauses[-1] or 0

    assert pauses == [90, 180, 360, 720, 900, 900, 900]


def test_success_of_a_trial_forgets_the_longer_pause(opened: CircuitBreaker) -> None:
    fail(opened, 45)
    assert request(opened, 45 + 90)
    for _ in range(FAILURES_TO_OPEN):
        fail(opened, 200)

    assert [request(opened, seconds) for seconds in (244, 245)] == [False, True]


def test_requests_that_began_earlier_change_nothing_while_the_circuit_is_open(breaker: CircuitBreaker) -> None:
    early = [breaker.request(at(0)) for _ in range(FAILURES_TO_OPEN + 2)]
    for begun in early:
        begun.__enter__()
    error = PricesUnreachable("down")
    for begun in early[:-1]:
        begun.__exit__(type(error), error, None)
    early[-1].__exit__(None, None, None)

    assert [request(breaker, seconds) for seconds in (44, 45)] == [False, True]


@pytest.mark.parametrize(("asked_s", "pause_s"), [(120, 120), (5, 5), (None, 45), (10**9, LONGEST_PAUSE_S)])
def test_one_rate_limit_opens_the_circuit_for_as_long_as_the_server_asks(
    breaker: CircuitBreaker, asked_s: int | None, pause_s: float
) -> None:
    request(breaker, 0, PricesRateLimited("slow down", retry_after_s=asked_s))

    with pytest.raises(PricesRateLimited) as refused, breaker.request(at(0)):
        pass

    assert refused.value.retry_after_s == pause_s


def test_mistake_of_ours_is_no_failure_of_the_server(breaker: CircuitBreaker) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), breaker.request(at(0)):
            raise ZeroDivisionError

    assert not breaker.is_open(at(0))
