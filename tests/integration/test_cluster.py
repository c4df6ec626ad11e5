"""A cluster whose slots move and whose nodes end: commands are applied once, in order, and every caller is answered."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace
from tests.contract.chats import CONFIG, a_session, id_in, persistently, texts_of
from tests.contract.deployments import client_of, opened
from tests.contract.hearing import take
from tests.contract.samples import batch_of, command, committed, created, message, stored, taken
from tests.contract.workers import worker_of
from tests.integration.groups import OnGroup, on_group
from tests.topologies import Node, RunningCluster, running_cluster, slot_on_its_way
from tests.waiting import SOON, wait_until

from turnstream import AddMessage, CreateSession, Unavailable, user_message
from turnstream.domain.position import LogPosition
from turnstream.errors import ConfigurationError
from turnstream.events import MessageAdded
from turnstream.ports import START, Backend, MessageRange, Needs, SessionNeeds, SessionWrite
from turnstream.signals import Fenced

OURS = id_in(0, 4)
"""A session of the partition that moves."""

QUICK = 1_000
"""Milliseconds until a node counts as lost."""


@pytest.fixture
def moving() -> Iterator[RunningCluster]:
    """A cluster of the test's own."""
    with running_cluster(QUICK) as running:
        yield running


@pytest.fixture
async def group(moving: RunningCluster) -> AsyncIterator[OnGroup]:
    async with on_group(moving.url) as deployment:
        yield deployment


def ends_of(moving: RunningCluster, group: OnGroup, partition: int = 0) -> tuple[str, Node, Node, list[Node]]:
    """Return a key of a partition, who holds it, who shall, and the other primaries."""
    key = group.keys.partitions[partition].partition
    source = moving.holder(key)
    target, *others = moving.others(source)
    return key, source, target, others


async def read_one(backend: Backend, cursor: str = START) -> list[bytes]:
    """Read the next commands of the first partition, however many calls that takes."""
    async with asyncio.timeout(SOON):
        while True:
            found = await backend.queue.read({0: cursor}, 10, 1.0)
            if found:
                return [entry.fields[b"id"] for entry in found[0]]


# ── slots move ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("endpoint", ["ip", "unknown-endpoint"])
async def test_commands_follow_a_slot_that_moved(moving: RunningCluster, group: OnGroup, endpoint: str) -> None:
    """Nodes that do not know their public names announce only ports."""
    for node in moving.nodes:
        node.call("CONFIG", "SET", "cluster-preferred-endpoint-type", endpoint)
    worker = await worker_of(group)
    client, reader = await client_of(group, worker=False), await opened(group)
    session = await a_session(client, "one", session_id=OURS)
    with slot_on_its_way(*ends_of(moving, group)) as move:
        move()
    assert len((await reader.reader.messages(session.id, MessageRange()))[1]) == 1
    for text in ("two", "three"):
        await persistently(client, AddMessage(session.id, user_message(text)))
    moved = await client.sessions.get(session.id)
    assert moved is not None
    assert (texts_of(moved.messages), moved.version) == (["one", "two", "three"], 4)
    assert not worker.task.done()


async def test_commands_flow_while_a_slot_moves_to_and_fro(moving: RunningCluster, group: OnGroup) -> None:
    for _ in range(2):
        await worker_of(group)
    client = await client_of(group, worker=False)
    names = [(await a_session(client, session_id=id_in(partition, 4))).id for partition in (0, 0, 1, 2)]

    async def chat(name: str) -> None:
        for turn in range(30):
            await persistently(client, AddMessage(name, user_message(str(turn))))

    chats = asyncio.gather(*map(chat, names))
    key, source, target, others = ends_of(moving, group)
    while not chats.done():
        with slot_on_its_way(key, source, target, others) as move:
            await asyncio.to_thread(move)
        source, target = target, source
        await asyncio.sleep(0.5)
    await chats
    for name in names:
        session = await client.sessions.get(name)
        assert session is not None
        assert (texts_of(session.messages), session.version) == ([str(turn) for turn in range(30)], 31)


async def test_a_command_stream_that_has_moved_already_is_found(moving: RunningCluster, group: OnGroup) -> None:
    """`ASK`: the slot's holder does not have the key any more, the next one does."""
    backend = await opened(group)
    await backend.queue.publish(0, [command("one")])
    with slot_on_its_way(*ends_of(moving, group)) as move:
        move(group.keys.partitions[0].commands)
        await asyncio.gather(*(backend.queue.publish(0, [command(name)]) for name in ("two", "three")))
    assert await read_one(backend) == [b"one", b"two", b"three"]


async def test_a_commit_on_the_way_writes_nothing(moving: RunningCluster, group: OnGroup) -> None:
    """A script that met a key that is gone would stop half-way: after the events, before the messages."""
    backend = await opened(group)
    state = await committed(backend, await taken(backend), created(OURS, ["m"]))
    await backend.queue.publish(0, [command("c")])
    again = SessionWrite(OURS, stored(OURS, message_count=1), stored(OURS, version=2, message_count=1), cleared=True)
    again.put, again.placed = {"n": message("n")}, {"n": 0}
    key, source, target, others = ends_of(moving, group)
    with slot_on_its_way(key, source, target, others):
        with pytest.raises(Unavailable):
            await backend.store.commit(batch_of(state, again))
        with pytest.raises(Unavailable):
            await backend.store.load(0, Needs({"elsewhere": SessionNeeds()}, {}))
        assert source.call("XLEN", group.keys.partitions[0].events) == 1
    with pytest.raises(Fenced, match="replid"):
        await backend.store.commit(batch_of(state, again))
    new = await taken(backend)
    assert new.cursor == state.cursor
    await backend.store.commit(batch_of(replace(state, token=new.token, replication_id=new.replication_id), again))
    assert [m.id for m in (await backend.reader.messages(OURS, MessageRange()))[1]] == ["n"]


async def test_a_reader_that_waits_follows_its_stream(moving: RunningCluster, group: OnGroup) -> None:
    backend, peer = await opened(group), await opened(group)
    waiting = asyncio.create_task(read_one(backend))
    await wait_until(lambda: _waits(ends_of(moving, group)[1]))
    with slot_on_its_way(*ends_of(moving, group)) as move:
        move()
    await peer.queue.publish(0, [command("one")])
    assert await waiting == [b"one"]


def _waits(node: Node) -> bool:
    return int(node.call("INFO", "clients")["blocked_clients"]) > 0


async def test_a_subscription_follows_a_slot_that_moves(moving: RunningCluster, group: OnGroup) -> None:
    await worker_of(group)
    client = await client_of(group, worker=False)
    session = await a_session(client, session_id=OURS)
    async with client.subscribe(MessageAdded) as events:
        await client.execute(AddMessage(session.id, user_message("one")))
        with slot_on_its_way(*ends_of(moving, group)) as move:
            move()
        await persistently(client, AddMessage(session.id, user_message("two")))
        assert [event.version for event in await take(events, 2)] == [2, 3]


# ── nodes end ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_primary_is_killed(moving: RunningCluster, group: OnGroup) -> None:
    worker = await worker_of(group)
    client, reader = await client_of(group, worker=False), await opened(group)
    names = [(await a_session(client, "one", session_id=id_in(partition, 4))).id for partition in range(4)]
    assert await reader.reader.count() == 4
    _, lost, *_ = ends_of(moving, group)
    # Commands missing on the replica would be lost with the primary.
    await wait_until(lambda: _is_copied(moving, lost))
    lost.stop()
    for name in names:
        await persistently(client, AddMessage(name, user_message("two")))
        assert texts_of(await client.sessions.messages(name)) == ["one", "two"]
    assert not worker.task.done()
    assert moving.replica_of(lost).call("ROLE")[0] == "master"
    # One that has made calls only, and learns of the loss by the first that fails.
    await wait_until(lambda: _is_readable(reader))


async def _is_readable(backend: Backend) -> bool:
    with suppress(Unavailable):
        return await backend.reader.count() == 4
    return False


def _is_copied(moving: RunningCluster, primary: Node) -> bool:
    written = primary.call("INFO", "replication")["master_repl_offset"]
    return bool(moving.replica_of(primary).call("INFO", "replication")["slave_repl_offset"] >= written)


async def test_a_primary_hands_over_to_its_replica(moving: RunningCluster, group: OnGroup) -> None:
    worker = await worker_of(group)
    client = await client_of(group, worker=False)
    session = await a_session(client, "one", session_id=OURS)
    _, primary, *_ = ends_of(moving, group)
    moving.replica_of(primary).call("CLUSTER", "FAILOVER")
    await wait_until(lambda: primary.call("ROLE")[0] == "slave")
    for text in ("two", "three"):
        await persistently(client, AddMessage(session.id, user_message(text)))
    assert texts_of(await client.sessions.messages(session.id)) == ["one", "two", "three"]
    assert not worker.task.done()


async def test_a_shard_that_is_lost_holds_no_other_partition_back(moving: RunningCluster, group: OnGroup) -> None:
    for node in moving.nodes:
        node.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
    first, backend = await worker_of(group), await opened(group)
    needed = [moving.holder(key) for key in (group.keys.workers, group.keys.layout)]
    lost = moving.others(*needed)[0]
    moving.replica_of(lost).stop()
    lost.stop()
    second = await worker_of(group)
    await first.stop()
    left = {number for number, keys in enumerate(group.keys.partitions) if moving.holder(keys.partition) != lost}
    await wait_until(lambda: left <= second.owned)
    for number in left:
        await backend.queue.publish(number, [command("c")])
        await wait_until(partial(_is_empty, moving, group.keys.partitions[number].commands))
    assert not second.task.done()


async def test_a_lost_shard_delays_only_its_own_partitions(moving: RunningCluster, group: OnGroup) -> None:
    for node in moving.nodes:
        node.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
    await worker_of(group)
    before = await client_of(group, worker=False)
    sessions = [await a_session(before, session_id=id_in(number, 4)) for number in range(4)]
    needed = [moving.holder(key) for key in (group.keys.workers, group.keys.layout)]
    lost = moving.others(*needed)[0]
    moving.replica_of(lost).stop()
    lost.stop()
    holders = [moving.holder(keys.partition) for keys in group.keys.partitions]
    gone = [session.id for session, holder in zip(sessions, holders, strict=True) if holder == lost]
    left = [session.id for session, holder in zip(sessions, holders, strict=True) if holder != lost]
    for client in (before, await client_of(group, worker=False)):
        with pytest.raises(Unavailable, match=f"127.0.0.1:{lost.port}") as unavailable:
            await client.send(AddMessage(gone[0], user_message("lost")), timeout=1.0)
        assert "may still be applied" in str(unavailable.value) or "connection for replies" in str(unavailable.value)
        for name in left:
            await client.execute(AddMessage(name, user_message("one")))
        await asyncio.gather(*[client.execute(AddMessage(name, user_message("two"))) for name in left])
    for name in left:
        assert texts_of(await before.sessions.messages(name)) == ["one", "two"] * 2


async def test_a_renewal_outlives_a_shard_that_is_lost(moving: RunningCluster, group: OnGroup) -> None:
    for node in moving.nodes:
        node.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
    backend = await opened(group)
    gone, kept = [await taken(backend, partition=partition) for partition in (0, 3)]
    lost = moving.holder(group.keys.partitions[0].lease)
    moving.replica_of(lost).stop()
    lost.stop()
    assert await backend.ownership.renew([gone, kept]) == [True, True]
    with pytest.raises(Unavailable):
        await backend.ownership.renew([gone])


async def test_partitions_outside_a_lost_shard_are_released(moving: RunningCluster, group: OnGroup) -> None:
    for node in moving.nodes:
        node.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
    backend, peer = await opened(group), await opened(group)
    states = [await taken(backend, partition=number) for number in range(group.settings.partitions)]
    leases = [keys.lease for keys in group.keys.partitions]
    lost = moving.others(moving.holder(group.keys.workers))[0]
    changes = peer.ownership.changes()
    await anext(changes)
    moving.replica_of(lost).stop()
    lost.stop()
    with pytest.raises(Unavailable):
        await backend.ownership.release(states)
    left = [lease for lease in leases if moving.holder(lease) != lost]
    assert 0 < len(left) < len(leases)
    assert [moving.holder(lease).call("EXISTS", lease) for lease in left] == [0] * len(left)
    async with asyncio.timeout(SOON):
        await anext(changes)


async def test_a_reset_covers_the_partitions_outside_a_lost_shard(moving: RunningCluster, group: OnGroup) -> None:
    for node in moving.nodes:
        node.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
    backend = await opened(group)
    lost = moving.others(moving.holder(group.keys.subscriptions))[0]
    changes = backend.subscriptions.membership("billing").changes()
    await anext(changes)
    moving.replica_of(lost).stop()
    lost.stop()
    left = [number for number, keys in enumerate(group.keys.partitions) if moving.holder(keys.events) != lost]
    assert 0 < len(left) < group.settings.partitions
    with pytest.raises(Unavailable):
        await backend.subscriptions.reset(
            "billing", dict.fromkeys(range(group.settings.partitions), LogPosition("g", 5))
        )
    async with asyncio.timeout(SOON):
        await anext(changes)
    for number in left:
        state = await backend.subscriptions.membership("billing").take(number, "member-1")
        assert state is not None
        assert state.mark == ("g", 5)


def _is_empty(moving: RunningCluster, key: str) -> bool:
    return int(moving.holder(key).call("XLEN", key)) == 0


# ── what is shared by the tests of a process ─────────────────────────────────────────────────────────────────────────


async def test_an_idle_partition_is_not_asked_again_and_again(cluster: RunningCluster) -> None:
    async with on_group(cluster.url) as deployment:
        backend = await opened(deployment)
        cursors = dict.fromkeys(range(4), START)
        reads, connections = _count(cluster, "commandstats", "cmdstat_xread"), 0
        for _ in range(20):
            assert await backend.queue.read(cursors, 10, 0.01) == {}
            connections = connections or _count(cluster, "stats", "total_connections_received")
        assert _count(cluster, "stats", "total_connections_received") == connections
        for partition in range(4):
            await backend.queue.publish(partition, [command("c")])
        # A read is counted when it is answered.
        await wait_until(lambda: _count(cluster, "commandstats", "cmdstat_xread") == reads + 4)


def _count(cluster: RunningCluster, section: str, name: str) -> int:
    answers: list[dict[str, Any]] = [node.call("INFO", section) for node in cluster.nodes]
    if section == "commandstats":
        return sum(answer.get(name, {}).get("calls", 0) for answer in answers)
    return sum(answer[name] for answer in answers)


async def test_a_seed_may_be_down(cluster: RunningCluster) -> None:
    url = cluster.url.replace("//", "//127.0.0.1:1,")
    async with on_group(url) as deployment:
        client = await client_of(deployment)
        session = await client.execute(CreateSession(CONFIG))
        assert (await client.sessions.get(session.id)) == session


async def test_every_primary_is_checked(moving: RunningCluster) -> None:
    moving.nodes[2].call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    async with on_group(moving.url) as deployment:
        with pytest.raises(ConfigurationError, match="noeviction"):
            await deployment.open()
