"""Tidying of a command stream that another program has changed: a lost command is counted once."""

import time
from collections.abc import Sequence
from typing import Any, cast

import pytest
from msgspec.structs import replace
from tests.contract.deployments import opened
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.samples import batch_of, command, committed, created, outcome, taken

from turnstream.adapters.redis.backend import RedisBackend
from turnstream.ports import START, Backend, Needs, PartitionState, RawEntry

AHEAD = 4_102_444_800_000
"""Milliseconds since 1970, far in the future."""


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 1}


async def queued(backend: Backend, count: int = 5) -> Sequence[RawEntry]:
    """Queue commands, and return all waiting ones."""
    await backend.queue.publish(0, [command(f"c{number}") for number in range(count)])
    return (await backend.queue.read({0: START}, 100, 1.0))[0]


async def applied(backend: Backend, state: PartitionState, entries: Sequence[RawEntry]) -> PartitionState:
    after = replace(state, cursor=entries[-1].entry_id, passed=state.passed + len(entries))
    await backend.store.commit(replace(batch_of(state, events=()), after=after))
    return after


async def lost(real: EmbeddedDeployment) -> int | None:
    count = await real.call("HGET", real.keys.partitions[0].partition, "lost")
    return None if count is None else int(count)


async def looks(backend: Backend, state: PartitionState, times: int = 3) -> None:
    for _ in range(times):
        assert list(await backend.ownership.tidy([state])) == []


async def delete(real: EmbeddedDeployment, entries: Sequence[RawEntry]) -> None:
    await real.call("XDEL", real.keys.partitions[0].commands, *(entry.entry_id for entry in entries))


async def test_an_entry_missing_at_two_looks_is_lost(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await taken(backend)
    entries = await queued(backend)
    await looks(backend, state)
    assert await lost(real) is None
    await delete(real, entries[:1])
    await looks(backend, state, 1)
    assert await lost(real) is None
    await delete(real, entries[1:3])
    await looks(backend, state, 1)
    # The others may be on their way to the worker.
    assert await lost(real) == 1
    await looks(backend, state)
    assert await lost(real) == 3
    state = await applied(backend, state, entries[3:])
    await looks(backend, state)
    assert await lost(real) == 3


async def test_commands_that_a_worker_has_read_are_not_lost(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await taken(backend)
    entries = await queued(backend)
    state = await applied(backend, state, entries[:2])
    await looks(backend, state)
    await delete(real, entries[2:])
    ids = [entry.entry_id for entry in entries]
    for _ in range(3):
        await backend.ownership.tidy([state], lambda _: ids)
    assert await lost(real) == 0 or await lost(real) is None
    state = await applied(backend, state, entries[2:])
    await looks(backend, state)
    assert not await lost(real)


async def test_late_entries_are_not_lost(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await taken(backend)
    entries = await queued(backend)
    await looks(backend, state)
    await delete(real, entries)
    await looks(backend, state)
    assert await lost(real) == 5
    state = await applied(backend, state, entries)
    await looks(backend, state)
    assert await lost(real) == 0
    more = await queued(backend, 2)
    await delete(real, more)
    await looks(backend, state)
    assert await lost(real) == 2


async def test_a_former_owner_changes_nothing(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await taken(backend)
    entries = await queued(backend)
    await looks(backend, state, 1)
    await delete(real, entries)
    await looks(backend, state, 1)
    await real.call("HSET", real.keys.partitions[0].partition, "token", "another")
    await queued(backend)
    before = await real.dump()
    await looks(backend, state)
    assert await real.dump() == before
    keys = real.keys.partitions[0]
    arguments = (state.token, "turnstream", keys.lost, 0, 0, 5)
    server = cast("RedisBackend", backend).server
    answer: list[Any] = await server.scripts.lost.run(server.calls(0), [keys.partition, keys.commands], arguments)
    assert answer[:2] == [0, 0]
    assert await real.dump() == before


@pytest.mark.parametrize("again", [True, False])
async def test_another_stream(real: EmbeddedDeployment, *, again: bool) -> None:
    """Whether or not an entry exists there by then."""
    backend, keys = await opened(real), real.keys.partitions[0]
    state = await taken(backend)
    entries = await queued(backend)
    state = await applied(backend, state, entries[:2])
    await looks(backend, state)
    await real.call("DEL", keys.commands)
    if again:
        await queued(backend, 2)
    await looks(backend, state)
    assert await lost(real) == 3
    if not again:
        await queued(backend, 2)
    fresh = (await backend.queue.read({0: state.cursor}, 100, 1.0))[0]
    assert len(fresh) == 2
    state = await applied(backend, state, fresh)
    await looks(backend, state)
    assert await lost(real) == 3
    await delete(real, await queued(backend, 1))
    await looks(backend, state)
    assert await lost(real) == 4


@pytest.mark.parametrize("entry", [True, False])
async def test_a_stream_with_ids_in_front_of_the_cursor_is_read_from_its_start(
    real: EmbeddedDeployment, *, entry: bool
) -> None:
    """Also if none is there yet, and the clock was set back."""
    backend, keys = await opened(real), real.keys.partitions[0]
    state = await taken(backend)
    await real.call("XADD", keys.commands, "*" if entry else f"{AHEAD}-0", "id", "x")
    entries = (await backend.queue.read({0: START}, 100, 1.0))[0]
    await real.call("XADD", keys.commands, "*", "id", "y")
    await looks(backend, state, 1)
    state = await applied(backend, state, entries)
    await real.call("DEL", keys.commands)
    if entry:
        await real.call("XADD", keys.commands, "5-5", "id", "z")
    assert list(await backend.ownership.tidy([state])) == [0]
    state = await taken(backend)
    assert state.cursor == START
    assert await lost(real) == 1
    assert list(await backend.ownership.tidy([state])) == []


async def test_an_owner_that_finds_no_hash_counts_nothing(real: EmbeddedDeployment) -> None:
    """It was lost together with the count of applied commands; events are numbered after the existing ones."""
    backend, keys = await opened(real), real.keys.partitions[0]
    state = await taken(backend)
    entries = await queued(backend)
    await looks(backend, state)
    state = await applied(backend, state, entries[:4])
    await committed(backend, state, created("s"))
    former = await taken(backend)
    await real.call("DEL", keys.partition)
    state = await taken(backend)
    assert state.generation != former.generation
    assert state.sequence == former.sequence > 0
    assert await real.call("XLEN", keys.events) == former.sequence
    await looks(backend, state)
    assert await lost(real) is None
    await delete(real, entries[4:])
    await looks(backend, state)
    assert await lost(real) == 1


async def test_commands_lost_before_the_first_worker_are_counted(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    await delete(real, (await queued(backend))[:2])
    state = await taken(backend)
    await looks(backend, state)
    assert await lost(real) == 2


@pytest.mark.parametrize("clock", [True, False])
async def test_outcomes_are_found_when_a_stream_was_replaced_also_by_another_owner(
    real: EmbeddedDeployment, *, clock: bool
) -> None:
    """Whether the ids were ahead because a program chose them, or because the server's clock was."""
    backend, keys = await opened(real), real.keys.partitions[0]
    state = await taken(backend)
    now = int(time.time() * 1_000)
    await backend.store.commit(first := batch_of(state, outcomes=[outcome("c", now)], cursor=f"{now}-0"))
    if clock:
        # As the owner saw it until an operator corrected it.
        backend.server.clock(0).observe(AHEAD)  # type: ignore[attr-defined]
    await real.call("XADD", keys.commands, f"{AHEAD}-0", "id", "x")
    entries = (await backend.queue.read({0: first.after.cursor}, 100, 1.0))[0]
    second = batch_of(first.after, events=(), outcomes=[outcome("d", AHEAD)], cursor=entries[0].entry_id)
    await backend.store.commit(second)
    state = second.after
    assert list(await backend.ownership.tidy([state])) == [0]
    # A command applied before the clock was ahead is as old as its id by then.
    known = ["d"] if clock else ["c", "d"]
    again = Needs({}, dict.fromkeys("cd", now + 1_000))
    await backend.ownership.release([state])
    for number in range(2):
        owner = await opened(real)
        state = await taken(owner, f"worker-{number}")
        assert list((await owner.store.load(0, again)).outcomes) == known
        await owner.ownership.release([state])


async def test_a_stream_ahead_of_the_clock_is_kept_while_something_waits_there(real: EmbeddedDeployment) -> None:
    backend, keys = await opened(real), real.keys.partitions[0]
    state = await taken(backend)
    for number in range(2):
        await real.call("XADD", keys.commands, f"{AHEAD}-{number}", "id", "x")
    entries = (await backend.queue.read({0: START}, 100, 1.0))[0]
    await looks(backend, state)
    state = await applied(backend, state, entries[:1])
    await looks(backend, state)
    assert await real.backlog(0) == 1
    state = await applied(backend, state, entries[1:])
    assert list(await backend.ownership.tidy([state])) == [0]


async def test_commands_applied_during_tidying_do_not_count_as_in_flight(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    state = await taken(backend)
    entries = await queued(backend)
    state = await applied(backend, state, entries)
    await looks(backend, state)
    await real.call("DEL", real.keys.partitions[0].commands)
    # A command in flight a moment ago, before the rest was read and all of it applied.
    before = [entry.entry_id for entry in entries[:3]]
    for _ in range(3):
        await backend.ownership.tidy([state], lambda _: before)
    await looks(backend, state)
    assert await lost(real) == 0
