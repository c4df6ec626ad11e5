"""The time by which outcomes are kept advances with the clock if ids carry no time, and never faster."""

import pytest

from turnstream.adapters.redis.outcome_times import OutcomeClock

NOW = 1_800_000_000_000
HOUR = 3_600_000


class Seconds:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def clock(seconds: Seconds) -> OutcomeClock:
    clock = OutcomeClock(1.0, seconds)
    clock.start(0, NOW, NOW)
    return clock


def commit(clock: OutcomeClock, entry_ms: int) -> int:
    time_ms = clock.now().of(entry_ms)
    clock.move(time_ms, from_id=time_ms == entry_ms)
    return time_ms


@pytest.mark.parametrize("between", [0.0003, 0.0009, 0.0013, 0.4])
def test_it_advances_however_fast_batches_come(clock: OutcomeClock, seconds: Seconds, between: float) -> None:
    for _ in range(5_000):
        seconds.now += between
        commit(clock, NOW + 1_000_000 * HOUR)
    assert clock.now().before == pytest.approx(NOW + 5_000_000 * between, abs=2)


def test_the_time_that_a_commit_takes_counts(clock: OutcomeClock, seconds: Seconds) -> None:
    for _ in range(1_000):
        moment = clock.now()
        seconds.now += 0.0009
        clock.move(moment.of(NOW + HOUR), from_id=False)
    assert clock.now().passed == pytest.approx(NOW + 900, abs=2)


def test_after_a_backlog_only_the_time_since_then_counts(clock: OutcomeClock, seconds: Seconds) -> None:
    """Its ids span less time than it took to apply it."""
    for second in range(60):
        seconds.now += 10
        assert commit(clock, NOW + 1_000 * second) == NOW + 1_000 * second
    seconds.now += 1
    assert commit(clock, NOW + HOUR) == NOW + 60_000
