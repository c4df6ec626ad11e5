"""Routing: a session has a partition by its id and their number only, and doubling the number splits each in two."""

from collections import Counter

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from tests.unit.given import unhurried

from turnstream.domain.models import partition_of

session_ids = st.text(st.characters(exclude_categories=["Cs"]))


@unhurried
@for_all(session_ids, st.integers(0, 11).map(lambda power: 2**power))
def test_doubling_splits_every_partition_in_two(session_id: str, partitions: int) -> None:
    assert partition_of(session_id, 2 * partitions) // 2 == partition_of(session_id, partitions)


@unhurried
@for_all(session_ids, st.integers(0, 12).map(lambda power: 2**power))
def test_every_session_has_a_partition(session_id: str, partitions: int) -> None:
    assert 0 <= partition_of(session_id, partitions) < partitions


@pytest.mark.parametrize(
    ("session_id", "partitions", "partition"),
    [("123456789", 4_096, 0x1C3), ("123456789", 64, 0x1C3 // 64), ("123456789", 1, 0), ("", 64, 0)],
)
def test_the_bucket_is_the_well_known_check_value(session_id: str, partitions: int, partition: int) -> None:
    """CRC16-XMODEM of "123456789" is 0x31C3; its last 12 bits are the bucket. Stored sessions depend on it."""
    assert partition_of(session_id, partitions) == partition


def test_sessions_spread_evenly() -> None:
    sizes = Counter(partition_of(f"session-{number}", 64) for number in range(64_000))
    assert len(sizes) == 64
    assert max(sizes.values()) < 1.2 * 1_000
