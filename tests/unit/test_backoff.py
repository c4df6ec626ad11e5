"""Backoff: longer with every failure in a row, up to a bound, never quite the same."""

from turnstream.backoff import FIRST, LONGEST, Backoff


def test_it_waits_longer_with_every_failure_up_to_a_bound() -> None:
    backoff = Backoff()
    for number in range(2_000):
        bound = min(LONGEST, FIRST * 2 ** min(number, 60))
        assert bound / 2 <= backoff.failed() <= bound


def test_a_success_makes_it_short_again() -> None:
    backoff = Backoff()
    for _ in range(10):
        backoff.failed()
    backoff.succeeded()
    assert backoff.failed() <= FIRST


def test_it_knows_whether_the_last_attempt_failed() -> None:
    backoff = Backoff()
    seen = [backoff.failing]
    for event in (backoff.failed, backoff.failed, backoff.succeeded, backoff.failed):
        event()
        seen.append(backoff.failing)
    assert seen == [False, True, True, False, True]


def test_many_that_fail_together_do_not_come_back_together() -> None:
    assert len({Backoff().failed() for _ in range(20)}) > 10
