from services.jobs.waiters import Waiters

JOB = "20240719t220000-1a2b3c4d"


def test_the_last_caller_that_leaves_is_known() -> None:
    waiters = Waiters()
    waiters.begin(JOB)

    assert waiters.join(JOB)
    assert [waiters.leave(JOB), waiters.leave(JOB)] == [False, True]


def test_a_job_that_all_callers_left_cannot_be_joined() -> None:
    waiters = Waiters()
    waiters.begin(JOB)
    waiters.leave(JOB)

    assert not waiters.join(JOB)
    assert not waiters.leave(JOB)


def test_a_job_whose_id_is_known_goes_on_without_callers() -> None:
    waiters = Waiters()
    waiters.begin(JOB)
    waiters.join(JOB)
    waiters.publish(JOB)

    assert [waiters.leave(JOB), waiters.leave(JOB), waiters.leave(JOB)] == [False, False, False]
    assert waiters.join(JOB)


def test_a_job_of_another_process_is_neither_joined_nor_ended() -> None:
    waiters = Waiters()

    waiters.publish(JOB)

    assert (waiters.join(JOB), waiters.leave(JOB)) == (False, False)
