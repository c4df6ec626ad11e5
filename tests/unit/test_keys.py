"""Keys: all of a partition in one hash slot, the slots of the partitions spread evenly, names that never change."""

import re
from binascii import crc_hqx
from itertools import pairwise

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from tests.unit.given import unhurried

from turnstream.adapters.redis.connection.slots import SLOTS, slot_of
from turnstream.adapters.redis.keys import Keys, PartitionKeys, tags

POWERS = [1, 2, 4, 16, 64, 256, 1_024]


def slot(key: str) -> int:
    """Return a key's hash slot as a cluster computes it: of the part between the first braces, if there is one."""
    start = key.find("{")
    end = key.find("}", start + 1)
    hashed = key[start + 1 : end] if start >= 0 and end > start + 1 else key
    return crc_hqx(hashed.encode(), 0) % 16_384


@pytest.mark.parametrize("partitions", POWERS)
def test_the_slot_of_every_tag_is_in_the_partitions_equal_share_of_all_slots(partitions: int) -> None:
    part = SLOTS // partitions
    assert [slot(tag) // part for tag in tags(partitions)] == list(range(partitions))


@pytest.mark.parametrize("shards", range(1, 17))
def test_any_number_of_shards_gets_an_even_load(shards: int) -> None:
    """A cluster gives each shard a contiguous part of the slots."""
    load = [0] * shards
    for tag in tags(64):
        load[slot(tag) * shards // SLOTS] += 1
    assert max(load) - min(load) <= 2


def test_the_tags_of_a_deployment_never_change() -> None:
    """Stored data uses these names: when this test fails, the code is wrong, or the layout needs a new version."""
    assert tags(4) == ("1.4.0.1", "1.4.1.3", "1.4.2.1", "1.4.3.3")
    assert [tags(64)[partition] for partition in (0, 1, 31, 63)] == [
        *("1.64.0.59", "1.64.1.70", "1.64.31.101", "1.64.63.63")
    ]


@unhurried
@for_all(st.text(st.sampled_from("ab:{}é"), max_size=8))
def test_the_slot_of_any_key_is_found(key: str) -> None:
    assert slot_of(key) == slot(key)


def test_no_two_partitions_of_any_layout_share_a_tag() -> None:
    every = [tag for partitions in POWERS for tag in tags(partitions)]
    assert len(set(every)) == len(every) == sum(POWERS)


def fixed(keys: PartitionKeys) -> list[str]:
    return [
        *(keys.commands, keys.lease, keys.partition, keys.index, keys.events, keys.malformed, keys.parked),
        *(keys.absent, keys.live),
    ]


ids = st.text(min_size=1, max_size=20) | st.sampled_from(["{", "}", "{x}", "}{", ":", "s"])


@unhurried
@for_all(ids, st.integers(0, 63))
def test_everything_of_a_partition_is_in_one_slot(session_id: str, partition: int) -> None:
    """Whatever the session's id is: braces in it do not count."""
    keys = Keys("ts", 64).partitions[partition]
    of_session = [keys.session(session_id), keys.messages(session_id), keys.order(session_id), keys.queue(session_id)]
    every = [*fixed(keys), *of_session, keys.outcomes(5), keys.reply_channel("client")]
    assert {slot(key) for key in every} == {slot(tags(64)[partition])}
    assert all(re.match(rf"ts:[a-z]+:{re.escape(keys.tag)}(:|$)", key) for key in every)


@unhurried
@for_all(ids, ids)
def test_no_two_things_share_a_key(one: str, other: str) -> None:
    keys = Keys("ts", 2)
    every: list[str] = [keys.layout, keys.workers, keys.changes]
    for partition in keys.partitions:
        every += [*fixed(partition), partition.outcomes(1), partition.outcomes(11)]
        for session_id in {one, other}:
            every += [partition.session(session_id), partition.messages(session_id), partition.order(session_id)]
            every += [partition.queue(session_id)]
    assert len(set(every)) == len(every)


def test_namespaces_do_not_meet() -> None:
    one, two = Keys("one", 4), Keys("two", 4)
    assert not {key for p in one.partitions for key in fixed(p)} & {key for p in two.partitions for key in fixed(p)}
    assert one.layout != two.layout
    assert one.event_channel("message-added") != two.event_channel("message-added")


def test_channels_are_those_of_the_design() -> None:
    keys = Keys("ts", 4)
    assert keys.event_channel("message-added") == "ts:events:message-added"
    assert keys.session_channel("s-1") == "ts:session:s-1"


def test_outcomes_have_a_key_a_bucket() -> None:
    keys = Keys("ts", 4).partitions[0]
    assert [keys.outcomes(bucket).removeprefix(keys.outcomes_prefix) for bucket in (0, 17)] == ["0", "17"]
    assert all(first != second for first, second in pairwise(keys.outcomes(bucket) for bucket in range(50)))


@pytest.mark.parametrize(
    ("channel", "valid"),
    [
        ("ts:reply:{1.4.0.1}:client-1_X", True),
        ("ts:reply:{1.4.0.1}:" + "c" * 64, True),
        ("ts:reply:{1.4.0.1}:" + "c" * 65, False),
        ("ts:reply:{1.4.0.1}:", False),
        ("ts:reply:{1.4.0.1}:client\n", False),
        ("ts:reply:{1.4.0.1}:a b", False),
        ("ts:reply:{1.4.0.1}:a:b", False),
        ("ts:reply:{1.4.1.3}:client", False),
        ("ts:reply:{1x4.0.1}:client", False),
        ("us:reply:{1.4.0.1}:client", False),
        ("xts:reply:{1.4.0.1}:client", False),
        ("ts:events:message-added", False),
        ("ts:session:s", False),
        ("", False),
    ],
)
def test_only_its_own_reply_channels_are_valid(channel: str, valid: bool) -> None:
    assert Keys("ts", 4).partitions[0].is_reply_channel(channel) is valid
