"""Owners that die without moving the cursor are counted; the command they die of is parked undecided (design §4)."""

from typing import Any, Self

import pytest
from tests.contract.chats import CONFIG
from tests.contract.deployments import Deployment, client_of, opened
from tests.contract.redis_deployments import RedisDeployment
from tests.contract.samples import batch_of, command, taken

from turnstream import AddMessage, CreateSession, InvalidCommand, Turnstream, user_message
from turnstream.application.commands.decoder import CommandDecoder
from turnstream.application.commands.owner_memory import OwnerMemory, ParkingLimits
from turnstream.application.processor import PartitionProcessor
from turnstream.application.recovery import crash_isolation
from turnstream.application.recovery.crash_isolation import MAX_DEATHS
from turnstream.catalogue import default_catalogue
from turnstream.commands import GetSession, ListSessions
from turnstream.domain.commands import RedriveParked
from turnstream.errors import CommandParked
from turnstream.ports import START, Backend, Batch, Loaded, Needs, PartitionState, SessionStore
from turnstream.signals import Fenced


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 1, "batch_commands": 4}


# ── the port ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def died(deployment: Deployment, backend: Backend, state: PartitionState, successor: str) -> PartitionState:
    """Let the owner die, and another worker take the partition."""
    await deployment.expire(state)
    return await taken(backend, successor)


async def test_commands_are_suspect_after_their_owner_died(deployment: Deployment, backend: Backend) -> None:
    first = await taken(backend, "w1")
    assert first.suspects == 0
    await backend.queue.publish(0, [command("c1"), command("c2")])
    second = await died(deployment, backend, first, "w2")
    assert second.suspects == 2


async def test_no_more_commands_are_suspect_than_an_owner_had_in_flight(real: RedisDeployment) -> None:
    deployment, backend = real, await opened(real)
    first = await taken(backend, "w1")
    await backend.queue.publish(0, [command(f"c{number}") for number in range(9)])
    assert (await died(deployment, backend, first, "w2")).suspects == 4


async def test_no_command_is_suspect_in_an_empty_partition(deployment: Deployment, backend: Backend) -> None:
    assert (await died(deployment, backend, await taken(backend, "w1"), "w2")).suspects == 0


async def test_no_command_is_suspect_after_an_owner_that_committed(deployment: Deployment, backend: Backend) -> None:
    first = await taken(backend, "w1")
    await backend.queue.publish(0, [command("c1"), command("c2")])
    entries = (await backend.queue.read({0: START}, 10, 1.0))[0]
    moved = batch_of(first, cursor=entries[0].entry_id)
    await backend.store.commit(moved)
    assert (await died(deployment, backend, moved.after, "w2")).suspects == 0


async def test_no_command_is_suspect_after_an_owner_that_left(backend: Backend) -> None:
    first = await taken(backend, "w1")
    await backend.queue.publish(0, [command("c1")])
    await backend.ownership.release([first])
    second = await taken(backend, "w2")
    assert second.suspects == 0
    # Nor where a living worker takes its own partition again.
    assert (await taken(backend, "w2")).suspects == 0


async def test_the_suspicion_outlives_an_owner_that_left(deployment: Deployment, backend: Backend) -> None:
    first = await taken(backend, "w1")
    await backend.queue.publish(0, [command("c1")])
    second = await died(deployment, backend, first, "w2")
    await backend.ownership.release([second])
    assert (await taken(backend, "w3")).suspects == 1


async def test_each_death_of_an_owner_counts_as_an_attempt(deployment: Deployment, backend: Backend) -> None:
    attempt = backend.quarantine.attempt
    await backend.queue.publish(0, [command("c1")])
    state = await taken(backend, "w0")
    assert await attempt(state, "5-0") == 0
    assert await attempt(state, "5-0") == 0
    state = await died(deployment, backend, state, "w1")
    assert await attempt(state, "5-0") == 1
    # An owner that lives on, or leaves, did not die of it.
    await backend.ownership.release([state])
    state = await taken(backend, "w2")
    assert await attempt(state, "5-0") == 1
    state = await died(deployment, backend, await taken(backend, "w2"), "w3")
    assert await attempt(state, "5-0") == 2
    # Another command at the same cursor, or the same after another cursor, starts with no attempts.
    assert await attempt(state, "6-0") == 0
    moved = batch_of(state)
    await backend.store.commit(moved)
    assert await attempt(moved.after, "6-0") == 0
    state = await died(deployment, backend, moved.after, "w4")
    assert await attempt(state, "6-0") == 1
    assert state.suspects == 1


async def test_only_the_owner_attempts(deployment: Deployment, backend: Backend) -> None:
    first = await taken(backend, "w1")
    second = await died(deployment, backend, first, "w2")
    with pytest.raises(Fenced, match="token"):
        await backend.quarantine.attempt(first, "5-0")
    assert await backend.quarantine.attempt(second, "5-0") == 0


# ── a command that kills ─────────────────────────────────────────────────────────────────────────────────────────────


class Death(BaseException):
    """The end of a process."""


class Mortal:
    """A store that ends the process when it is asked to commit a certain command."""

    def __init__(self, store: SessionStore, killer: str) -> None:
        self._store = store
        self._killer = killer
        self.sizes: list[int] = []

    async def load(self, partition: int, needs: Needs) -> Loaded:
        return await self._store.load(partition, needs)

    async def commit(self, batch: Batch) -> None:
        statuses = {recorded.command_id: recorded.outcome.status for recorded in batch.outcomes}
        redriven = {recorded.command_id for recorded in batch.parking.outcomes} if batch.parking else set[str]()
        if statuses.get(self._killer) in {"ok", "rejected"} or self._killer in redriven:
            raise Death
        self.sizes.append(len(batch.outcomes))
        await self._store.commit(batch)


class Lives:
    """Workers, one after the other, until one has applied everything."""

    def __init__(self, deployment: Deployment, backend: Backend, killer: str) -> None:
        self._deployment = deployment
        self._backend = backend
        self._killer = killer
        self.deaths = 0
        self.sizes: list[int] = []

    async def live(self) -> Self:
        while not await self._life():
            self.deaths += 1
            assert self.deaths < 20
        return self

    async def _life(self) -> bool:
        backend = self._backend
        state = await taken(backend, f"w{self.deaths}")
        store = Mortal(backend.store, self._killer)
        processor = processor_of(backend, state, store)
        try:
            while await self._deployment.backlog(0):
                found = await backend.queue.read({0: processor.state.cursor}, 4, 1.0)
                await processor.process(found.get(0, ()))
        except Death:
            await self._deployment.expire(state)
            return False
        finally:
            self.sizes += store.sizes
        await backend.ownership.release([processor.state])
        return True


def processor_of(backend: Backend, state: PartitionState, store: SessionStore) -> PartitionProcessor:
    intake = CommandDecoder(0, 1, 100_000, lambda channel: backend.channels.is_reply_channel(0, channel))
    memory = OwnerMemory.empty(backend.quarantine, 0, 10, ParkingLimits())
    answers: Any = None
    return PartitionProcessor(state, intake, store, answers, default_catalogue(), memory)


async def lives(deployment: Deployment, killer: str = "killer") -> Lives:
    return await Lives(deployment, await opened(deployment), killer).live()


async def several(ts: Turnstream, killer: int, count: int) -> None:
    """Send commands on two sessions, of which one kills."""
    for name in ("s", "t"):
        await ts.send(CreateSession(CONFIG, name), command_id=f"create {name}")
    for number in range(count):
        name = "s" if number % 2 == killer % 2 else "t"
        command_id = "killer" if number == killer else f"c{number}"
        await ts.send(AddMessage(name, user_message(str(number))), command_id=command_id)


@pytest.mark.parametrize("killer", [0, 3, 9])
async def test_it_ends_parked_and_everything_else_applied(deployment: Deployment, killer: int) -> None:
    ts = await client_of(deployment, worker=False)
    await several(ts, killer, 12)
    lived = await lives(deployment)
    # Those before the attempts: one that had moved the cursor in its life, one that had not, one that tried several.
    assert MAX_DEATHS < lived.deaths <= MAX_DEATHS + 3
    of_others = [message.id for message in await ts.sessions.messages("t")]
    assert len(of_others) == 6
    behind = [number for number in range(12) if number % 2 == killer % 2 and number >= killer]
    (info,) = [each async for each in ts.admin.parked.list()]
    assert (info.session_id, info.commands, info.error) == ("s", len(behind), "3 workers died on it")


async def test_its_producer_is_notified(deployment: Deployment) -> None:
    ts = await client_of(deployment, worker=False)
    ticket = await ts.send(AddMessage("s", user_message("one")), command_id="killer")
    await lives(deployment)
    with pytest.raises(CommandParked):
        await ticket


async def test_a_redrive_that_kills_is_refused_and_the_queue_stays(deployment: Deployment) -> None:
    ts = await client_of(deployment, worker=False)
    await several(ts, 0, 3)
    await lives(deployment)
    ticket = await ts.send(RedriveParked(session_id="s"))
    await lives(deployment)
    with pytest.raises(InvalidCommand, match="3 workers died on it"):
        await ticket
    (info,) = [each async for each in ts.admin.parked.list()]
    assert info.commands == 2
    # A worker that survives it applies it.
    ticket = await ts.send(RedriveParked(session_id="s"))
    await lives(deployment, "nobody")
    assert (await ticket).version == 0
    assert [each async for each in ts.admin.parked.list()] == []


@pytest.mark.parametrize("query", [GetSession("s"), ListSessions()])
async def test_a_command_without_a_session_to_park_is_quarantined(
    deployment: Deployment, backend: Backend, query: GetSession | ListSessions
) -> None:
    ts = await client_of(deployment, worker=False)
    ticket = await ts.send(query)
    (entry,) = (await backend.queue.read({0: START}, 1, 1.0))[0]
    await died_of(deployment, backend, entry.entry_id, MAX_DEATHS)
    await lives(deployment)
    with pytest.raises(InvalidCommand, match="3 workers died on it"):
        await ticket
    assert [malformed.entry_id for malformed in await deployment.malformed(0)] == [entry.entry_id]


async def test_a_command_that_kills_its_readers_is_quarantined_unread(
    deployment: Deployment, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    ts = await client_of(deployment, worker=False)
    ticket = await ts.send(CreateSession(CONFIG, "s"))
    (entry,) = (await backend.queue.read({0: START}, 1, 1.0))[0]
    await died_of(deployment, backend, entry.entry_id, MAX_DEATHS + 1)

    def deadly(*_: object) -> None:
        raise Death

    monkeypatch.setattr(CommandDecoder, "read", deadly)
    await lives(deployment)
    with pytest.raises(InvalidCommand, match="4 workers died on it"):
        await ticket
    assert [each async for each in ts.admin.parked.list()] == []


async def died_of(deployment: Deployment, backend: Backend, entry_id: str, times: int) -> None:
    """Let so many owners die of a command."""
    for number in range(times):
        state = await taken(backend, f"died {number}")
        await backend.quarantine.attempt(state, entry_id)
        await deployment.expire(state)


async def test_a_worker_that_survives_the_suspects_works_in_batches_again(
    real: RedisDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crash_isolation, "COMMANDS_PER_TRY", 3)
    ts = await client_of(real, worker=False)
    backend = await opened(real)
    state = await taken(backend, "died")
    await several(ts, -1, 10)
    await real.expire(state)
    assert (await lives(real, "nobody")).sizes == [3, 1, 4, 4]


async def test_after_a_death_of_several_each_of_them_is_tried_alone(
    real: RedisDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crash_isolation, "COMMANDS_PER_TRY", 3)
    ts = await client_of(real, worker=False)
    backend = await opened(real)
    state = await taken(backend, "died")
    await several(ts, 4, 10)
    await real.expire(state)
    lived = await lives(real)
    # One dies of a batch after these four, one of the batch at its cursor, one of three together, the others of one.
    assert lived.deaths == 3 + MAX_DEATHS
    assert lived.sizes == [3, 1, *(1, 1), *(1, 1, 1), 1, 2]


async def test_a_stopping_worker_leaves_suspects_to_the_next_owner(
    real: RedisDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crash_isolation, "COMMANDS_PER_TRY", 1)
    ts = await client_of(real, worker=False)
    backend = await opened(real)
    state = await taken(backend, "died")
    await several(ts, -1, 10)
    await real.expire(state)
    worker = await taken(backend, "w")
    processor = processor_of(backend, worker, backend.store)
    entries = (await backend.queue.read({0: START}, 12, 1.0))[0]
    commit = backend.store.commit

    async def commit_and_stop(batch: Batch) -> None:
        await commit(batch)
        processor.stop()

    monkeypatch.setattr(backend.store, "commit", commit_and_stop)
    await processor.process(entries)
    assert START < processor.state.cursor < entries[-1].entry_id
