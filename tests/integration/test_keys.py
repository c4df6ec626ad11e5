"""The keys of a deployment: under its namespace, each partition's in one slot, each with a time to live."""

import re
from collections.abc import Iterable

import pytest
from msgspec.structs import replace
from redis.crc import key_slot
from tests.contract.chats import CONFIG, id_in
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment, permanent_keys
from tests.waiting import wait_until

from turnstream import (
    AddMessage,
    CreateSession,
    DeleteSession,
    InvalidCommand,
    RemoveMessages,
    Turnstream,
    UpdateTokenMetrics,
    user_message,
)
from turnstream.adapters.redis.keys import Keys

ODD_IDS = ("a", "a:order", "{b}", "}{", "ü:\x00", "*", "events", "messages:a", "x" * 256)


async def everything(ts: Turnstream, real: EmbeddedDeployment) -> None:
    """Write a key of every kind in every partition."""
    for partition in range(real.settings.partitions):
        name = id_in(partition, real.settings.partitions)
        await ts.execute(CreateSession(CONFIG, name))
        await ts.execute(AddMessage(name, user_message("one")))
        await real.append(partition, {b"bad": b"entry"})
        await ts.execute(UpdateTokenMetrics(name, prompt_tokens=7_000))


async def test_every_key_of_a_partition_is_in_its_slot(real: EmbeddedDeployment) -> None:
    ts = await client_of(real)
    await everything(ts, real)
    slots = {keys.tag: key_slot(keys.commands.encode()) for keys in real.keys.partitions}
    assert len(set(slots.values())) == real.settings.partitions
    of_partitions = [name for name in await real.names() if name not in (real.keys.layout, real.keys.workers)]
    assert len(of_partitions) == real.settings.partitions * 10
    for name in of_partitions:
        tag = re.fullmatch(rf"{real.settings.namespace}:[a-z]+:({{.+?}})(:.+)?", name, re.DOTALL)
        assert tag
        assert key_slot(name.encode()) == slots[tag[1]]


async def test_only_leases_come_and_go(real: EmbeddedDeployment) -> None:
    ts = await client_of(real)
    await everything(ts, real)
    leases = {keys.lease for keys in real.keys.partitions}
    permanent = re.compile("|".join(permanent_keys(real.keys)), re.DOTALL)
    assert {name for name in await real.names() if not permanent.fullmatch(name)} == leases
    assert all([await real.call("PTTL", lease) > 0 for lease in leases])


async def test_a_leak_is_found(real: EmbeddedDeployment) -> None:
    """The check after every test of the suite can fail."""
    strangers = [
        f"{real.settings.namespace}:later",
        f"{real.settings.namespace}:later:{real.keys.partitions[0].tag}",
        "elsewhere",
    ]
    for name in strangers:
        await real.call("SET", name, "1")
    assert sorted(await real.leaks()) == sorted(strangers)
    lease = real.keys.partitions[0].lease
    await real.call("SET", lease, "1")
    assert lease in await real.leaks()
    for name in (*strangers, lease):
        await real.call("PEXPIRE", name, 100_000)
    assert await real.leaks() == []


async def test_sessions_of_odd_names_do_not_meet(real: EmbeddedDeployment) -> None:
    ts = await client_of(real)
    for name in ODD_IDS:
        await ts.execute(CreateSession(CONFIG, name))
        await ts.execute(AddMessage(name, user_message(name)))
    for name in ODD_IDS:
        session = await ts.sessions.get(name)
        assert session is not None
        assert (session.id, len(session.messages), session.version) == (name, 1, 2)
    for name in ODD_IDS:
        assert await ts.execute(DeleteSession(name))
    assert await kept(real, ("session", "messages", "order")) == []


async def test_emptied_and_deleted_sessions_leave_no_keys(real: EmbeddedDeployment) -> None:
    ts = await client_of(real)
    await ts.execute(CreateSession(CONFIG, "s"))
    await ts.execute(AddMessage("s", user_message("one")))
    await ts.execute(RemoveMessages("s", last=1))
    assert [name.split(":")[1] for name in await kept(real, ("session", "messages", "order"))] == ["session"]
    await ts.execute(DeleteSession("s"))
    await ts.execute(DeleteSession("never there"))
    assert await kept(real, ("session", "messages", "order")) == []


@pytest.mark.parametrize("overrides", [{"partitions": 1, "deduplication_window": 0.05}])
async def test_outcomes_do_not_pile_up(real: EmbeddedDeployment) -> None:
    ts = await client_of(real)
    await ts.execute(CreateSession(CONFIG, "s"))
    buckets: set[str] = set()

    async def many_windows_have_passed() -> bool:
        await ts.execute(UpdateTokenMetrics("s"))
        now = await kept(real, ("outcomes",))
        assert len(now) <= 3
        buckets.update(now)
        return len(buckets) >= 6

    await wait_until(many_windows_have_passed)


async def test_applied_commands_leave_the_stream(real: EmbeddedDeployment) -> None:
    ts = await client_of(real)
    await everything(ts, real)
    assert [await real.backlog(partition) for partition in range(real.settings.partitions)] == [0, 0, 0, 0]


@pytest.mark.parametrize("overrides", [{"partitions": 1, "malformed_retention": 100}])
async def test_malformed_entries_do_not_pile_up(real: EmbeddedDeployment) -> None:
    ts = await client_of(real)
    for _ in range(500):
        await real.append(0, {b"bad": b"entry"})
    with pytest.raises(InvalidCommand):
        await ts.execute(UpdateTokenMetrics("s", prompt_tokens=-1))
    await ts.execute(CreateSession(CONFIG, "s"))
    assert 100 <= len(await real.malformed(0)) <= 250


async def test_two_deployments_on_one_server(real: EmbeddedDeployment) -> None:
    other = EmbeddedDeployment(replace(real.settings, namespace=f"{real.settings.namespace}-other"))
    first, second = await client_of(real), await client_of(other)
    await first.execute(CreateSession(CONFIG, "s"))
    async with second.subscribe() as events:
        await first.execute(UpdateTokenMetrics("s", prompt_tokens=7_000))
        assert await second.sessions.get("s") is None
        await second.execute(CreateSession(CONFIG, "s"))
        assert (await anext(events)).type == "session-created"
    await other.resources.aclose()
    for name in await other.names():
        if name.startswith(f"{other.settings.namespace}:"):
            await other.call("UNLINK", name)
    await other.raw.aclose()


@pytest.mark.parametrize("partitions", [1, 2, 8, 64, 256])
def test_partitions_spread_evenly_over_any_number_of_shards(partitions: int) -> None:
    slots = [key_slot(keys.commands.encode()) for keys in Keys("ts", partitions).partitions]
    for shards in range(1, 33):
        loads = [0] * shards
        for slot in slots:
            loads[slot * shards // 16_384] += 1
        assert max(loads) <= -(-partitions // shards) + 1
        assert min(loads) >= partitions // shards - 1


def test_layouts_share_no_key() -> None:
    layouts = [{keys.commands for keys in Keys("ts", partitions).partitions} for partitions in (1, 2, 4, 8, 16, 32, 64)]
    assert len(set[str]().union(*layouts)) == sum(map(len, layouts))


async def kept(real: EmbeddedDeployment, kinds: Iterable[str]) -> list[str]:
    """Return the names of all keys of some kinds."""
    prefixes = tuple(f"{real.settings.namespace}:{kind}:{keys.tag}:" for keys in real.keys.partitions for kind in kinds)
    return sorted(name for name in await real.names() if name.startswith(prefixes))
