"""Outcomes in buckets of time: those in the window are always found, expired ones can never be looked up again."""

from hypothesis import given as for_all
from hypothesis import strategies as st
from tests.unit.given import unhurried

from turnstream.adapters.redis.outcome_times import OutcomeBuckets, lookup_range

windows = st.sampled_from([0.0005, 0.001, 0.0015, 0.1, 1.0, 120.0, 3_600.0])
times = st.integers(0, 10_000) | st.integers(1_700_000_000_000, 1_700_001_000_000)


def cursor(entry_ms: int) -> str:
    return f"{entry_ms}-0"


@unhurried
@for_all(windows, times, st.data())
def test_an_outcome_within_the_window_is_found(window: float, first_ms: int, data: st.DataObject) -> None:
    buckets = OutcomeBuckets(window)
    again_ms = first_ms + data.draw(st.integers(0, int(window * 1_000)))
    assert buckets.of(first_ms) in lookup_range(buckets.of(again_ms))
    looked_up = buckets.lookups({"c1": again_ms})
    assert looked_up[buckets.of(first_ms)] == ["c1"]


@unhurried
@for_all(windows, times, st.integers(0, 10_000_000), st.integers(0, 10_000_000), st.integers(0, 3_600_000))
def test_no_later_command_looks_into_buckets_before_the_cursor(
    window: float, before_ms: int, moved: int, later: int, back: int
) -> None:
    buckets = OutcomeBuckets(window)
    now_ms = before_ms + moved
    expired = buckets.expired(cursor(before_ms), cursor(now_ms))
    assert not set(expired) & set(lookup_range(buckets.of(now_ms + later)))
    if back <= window * 1_000 and now_ms >= back:
        assert buckets.of(now_ms - back) not in expired


@unhurried
@for_all(windows, st.lists(st.integers(0, 200_000), min_size=1, max_size=30))
def test_every_bucket_before_the_cursor_expires_once(window: float, steps: list[int]) -> None:
    """Of commands that are applied one by one, so that the cursor stops at each of them."""
    buckets = OutcomeBuckets(window)
    kept: set[int] = set()
    now_ms = 0
    for step in steps:
        expired = buckets.expired(cursor(now_ms), cursor(now_ms + step))
        now_ms += step
        kept = (kept | {buckets.of(now_ms)}) - set(expired)
    assert kept <= set(lookup_range(buckets.of(now_ms)))


def test_the_first_move_of_a_new_partition_looks_at_few_buckets() -> None:
    """From 0 to now there would be millions."""
    assert len(OutcomeBuckets(120.0).expired("0-0", "1700000000000-0")) <= 2
    assert len(OutcomeBuckets(120.0).expired("1700000000000-0", "1800000000000-0")) <= 2


def test_a_cursor_that_stays_in_its_bucket_expires_nothing() -> None:
    assert list(OutcomeBuckets(120.0).expired("1700000000000-0", "1700000000001-5")) == []


def test_commands_are_looked_up_together() -> None:
    looked_up = OutcomeBuckets(1.0).lookups({"c1": 5_100, "c2": 5_900, "c3": 6_000})
    assert {bucket: sorted(ids) for bucket, ids in looked_up.items()} == {
        4: ["c1", "c2"],
        5: ["c1", "c2", "c3"],
        6: ["c3"],
    }
