"""Workers side by side on a real server: they divide the partitions, and nothing is lost, doubled or reordered."""

import asyncio
from collections.abc import Sequence
from typing import Any, Self

import pytest
from msgspec.structs import replace
from tests.contract.chats import CONFIG, a_session, id_in, texts_of
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.samples import taken
from tests.contract.workers import RunningWorker, worker_of
from tests.waiting import SOON, wait_until

from turnstream import AddMessage, CreateSession, Ticket, Turnstream, Unavailable, UpdateTokenMetrics, user_message
from turnstream.commands import Command
from turnstream.domain.models import partition_of
from turnstream.errors import ConfigurationError
from turnstream.ports import Batch, PartitionState
from turnstream.signals import Fenced
from turnstream.worker import stream_feeder
from turnstream.worker import worker as worker_module
from turnstream.worker.partition_leases import RELEASED_SHARE

PARTITIONS = 8
NAMES = [f"session-{number}" for number in range(0, 16_000, 1_000)]


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": PARTITIONS, "lease": 1.0}


def divided(*workers: RunningWorker) -> bool:
    """Whether every partition has one owner, and no worker many more than another."""
    shares = [worker.owned for worker in workers]
    return sorted(partition for share in shares for partition in share) == list(range(PARTITIONS)) and all(
        len(share) <= -(-PARTITIONS // len(workers)) for share in shares
    )


class Chatter:
    """Producers that write numbered messages to many sessions, and know what they have sent."""

    def __init__(self, ts: Turnstream) -> None:
        self._ts = ts
        self._tickets: list[Ticket] = []
        self._turns = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._tickets += await self._ts.send_many([CreateSession(CONFIG, name) for name in NAMES])
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await self.turn()

    async def turn(self) -> None:
        text = str(self._turns)
        self._turns += 1
        self._tickets += await self._ts.send_many([AddMessage(name, user_message(text)) for name in NAMES])

    async def settled(self) -> None:
        """End, wait for every command, and check that each session has its messages, once and in order."""
        await self.__aexit__()
        for ticket in self._tickets:
            await ticket
        for name in NAMES:
            texts = texts_of(await self._ts.sessions.messages(name))
            assert texts == [str(turn) for turn in range(len(texts))]
            assert len(texts) >= self._turns - 1


# ── dividing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_two_workers_divide_the_partitions(real: EmbeddedDeployment) -> None:
    first = await worker_of(real)
    assert first.owned == set(range(PARTITIONS))
    second = await worker_of(real)
    await wait_until(lambda: divided(first, second))
    third = await worker_of(real)
    await wait_until(lambda: divided(first, second, third))


async def test_workers_that_start_together(real: EmbeddedDeployment) -> None:
    workers = await asyncio.gather(*(worker_of(real) for _ in range(4)))
    await wait_until(lambda: divided(*workers))


async def test_more_workers_than_partitions(real: EmbeddedDeployment) -> None:
    workers = [await worker_of(real) for _ in range(PARTITIONS + 2)]
    await wait_until(lambda: divided(*workers))
    assert [len(worker.owned) for worker in workers].count(0) == 2


async def test_one_stops_and_the_other_takes_all(real: EmbeddedDeployment) -> None:
    first, second = await worker_of(real), await worker_of(real)
    await wait_until(lambda: divided(first, second))
    await first.stop()
    await wait_until(lambda: divided(second))
    assert await real.call("HKEYS", real.keys.workers) == [second.worker_id.encode()]


async def test_partitions_move_while_commands_flow(real: EmbeddedDeployment) -> None:
    client = await client_of(real, worker=False)
    first = await worker_of(real)
    async with Chatter(client) as chatter:
        second = await worker_of(real)
        await wait_until(lambda: divided(first, second))
        await first.stop()
        await wait_until(lambda: divided(second))
        third = await worker_of(real)
        await wait_until(lambda: divided(second, third))
        await second.stop()
        await wait_until(lambda: divided(third))
        await chatter.settled()


async def test_a_worker_that_died_is_replaced(real: EmbeddedDeployment) -> None:
    client = await client_of(real, worker=False)
    first, second = await worker_of(real), await worker_of(real)
    async with Chatter(client) as chatter:
        await wait_until(lambda: divided(first, second))
        await first.crash()
        await wait_until(lambda: divided(second))
        await chatter.settled()


@pytest.mark.parametrize("overrides", [{"partitions": PARTITIONS, "lease": 600.0}])
async def test_a_worker_that_died_on_a_living_host_is_replaced_long_before_its_lease_ends(
    real: EmbeddedDeployment,
) -> None:
    client = await client_of(real, worker=False)
    workers = [await worker_of(real) for _ in range(4)]
    async with Chatter(client) as chatter:
        await wait_until(lambda: divided(*workers))
        for dead in workers[:3]:
            await dead.crash()
        await wait_until(lambda: divided(workers[3]))
        await chatter.settled()


@pytest.mark.parametrize("overrides", [{"partitions": PARTITIONS, "lease": 600.0}])
async def test_partitions_change_hands_a_few_at_a_time(
    real: EmbeddedDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await worker_of(real)
    released: list[int] = []
    release = first.backend.ownership.release

    async def counted(states: Sequence[PartitionState]) -> None:
        released.append(len(states))
        await release(states)

    monkeypatch.setattr(first.backend.ownership, "release", counted)
    second = await worker_of(real)
    await wait_until(lambda: divided(first, second))
    assert max(released) == PARTITIONS // RELEASED_SHARE
    assert sum(released) == PARTITIONS // 2


async def test_leases_are_kept_for_as_long_as_the_worker_lives(real: EmbeddedDeployment) -> None:
    worker = await worker_of(real)
    leases = [keys.lease for keys in real.keys.partitions]
    tokens = await real.call("MGET", *leases)
    times: set[bytes] = set()

    async def beaten() -> bool:
        times.add(await real.call("HGET", real.keys.workers, worker.worker_id))
        return len(times) > 8

    # A worker beats four times in a lease time, so this is longer than two.
    await wait_until(beaten)
    assert await real.call("MGET", *leases) == tokens
    assert all([0 < await real.call("PTTL", lease) <= 1_000 for lease in leases])


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("overrides", [{"partitions": PARTITIONS, "batch_commands": 10}])
async def test_a_stopping_worker_finishes_its_batch(real: EmbeddedDeployment) -> None:
    client = await client_of(real, worker=False)
    worker = await worker_of(real)
    session = await a_session(client)
    commands: list[Command[Any]] = [AddMessage(session.id, user_message(str(number))) for number in range(2_000)]
    tickets = await client.send_many(commands)
    await tickets[25]
    await worker.stop()

    # Applied commands were answered, and the rest is still queued.
    partition = partition_of(session.id, PARTITIONS)
    applied = len(await client.sessions.messages(session.id))
    assert 25 < applied < 2_000
    assert await real.backlog(partition) == 2_000 - applied
    assert (await asyncio.wait_for(_last_version(tickets[:applied]), SOON)) == applied + 1
    assert await real.call("EXISTS", *(keys.lease for keys in real.keys.partitions)) == 0
    assert await real.call("ZCARD", real.keys.workers) == 0

    await worker_of(real)
    assert await _last_version(tickets) == 2_001
    assert texts_of(await client.sessions.messages(session.id)) == [str(number) for number in range(2_000)]


async def _last_version(tickets: list[Ticket]) -> int:
    return [(await ticket).version for ticket in tickets][-1]


async def test_a_worker_without_work_stops_at_once(real: EmbeddedDeployment) -> None:
    worker = await worker_of(real)
    worker._worker.stop()
    await wait_until(worker.task.done)


async def test_a_worker_starts_after_a_backlog_has_built_up(real: EmbeddedDeployment) -> None:
    client = await client_of(real, worker=False)
    tickets = await client.send_many([CreateSession(CONFIG, name) for name in NAMES])
    waiting = asyncio.ensure_future(client.execute(CreateSession(CONFIG)))
    await worker_of(real)
    await waiting
    assert [(await ticket).version for ticket in tickets] == [1] * len(NAMES)


# ── fencing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_worker_that_lost_its_token_stops_writing(
    real: EmbeddedDeployment, caplog: pytest.LogCaptureFixture
) -> None:
    """Another one takes the partition by force, and does nothing with it."""
    client = await client_of(real, worker=False)
    worker = await worker_of(real)
    name, elsewhere = id_in(0, PARTITIONS), id_in(1, PARTITIONS)
    await a_session(client, "one", session_id=name)

    thief = await real.open()
    real.resources.push_async_callback(thief.aclose)
    await real.expire_of(0)
    stolen = await taken(thief, "thief")
    ticket = await client.send(AddMessage(name, user_message("two")))
    before = await partition_dump(real, 0)
    await wait_until(lambda: 0 not in worker.owned)
    await a_session(client, session_id=elsewhere)
    assert await partition_dump(real, 0) == before
    assert await real.backlog(0) == 1

    await thief.ownership.release([stolen])
    await thief.ownership.depart("thief")
    assert (await ticket).version == 3
    assert texts_of(await client.sessions.messages(name)) == ["one", "two"]


async def partition_dump(real: EmbeddedDeployment, partition: int) -> dict[str, object]:
    """Everything of a partition but its lease, which both keep alive."""
    keys = real.keys.partitions[partition]
    whole = await real.dump()
    return {name: value for name, value in whole.items() if keys.tag in name and name != keys.lease}


@pytest.mark.parametrize("overrides", [{"partitions": 1, "lease": 30.0}])
async def test_a_batch_under_way_is_fenced_whole(
    real: EmbeddedDeployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The token is taken between the decision and the commit: the worst moment there is."""
    client = await client_of(real, worker=False)
    worker = await worker_of(real)
    session = await a_session(client, "one")
    thief = await real.open()
    real.resources.push_async_callback(thief.aclose)
    commit, fenced = worker.backend.store.commit, asyncio.Event()

    async def late_commit(batch: Batch) -> None:
        if fenced.is_set():
            await commit(batch)
            return
        await real.expire_of(0)
        stolen = await taken(thief, "thief")
        before = await real.dump()
        with pytest.raises(Fenced, match="token"):
            await commit(batch)
        assert await real.dump() == before
        await thief.ownership.release([stolen])
        await thief.ownership.depart("thief")
        fenced.set()
        raise Fenced(0, "token")

    monkeypatch.setattr(worker.backend.store, "commit", late_commit)
    after = await client.execute(AddMessage(session.id, user_message("two")))
    assert fenced.is_set()
    assert (texts_of(after.messages), after.version) == (["one", "two"], 3)


async def test_a_partition_changed_by_another_process_is_read_again(real: EmbeddedDeployment) -> None:
    """Every commit checks the worker's memory of a session."""
    client = await client_of(real, worker=False)
    await worker_of(real)
    session = await a_session(client, "one")
    keys = real.keys.partitions[partition_of(session.id, PARTITIONS)]
    await real.call("HSET", keys.session(session.id), "version", 41)
    assert (await client.execute(UpdateTokenMetrics(session.id, prompt_tokens=1))).version == 42


# ── deployments that do not fit ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_worker_of_another_deployment_is_refused(real: EmbeddedDeployment) -> None:
    await worker_of(real)
    other = EmbeddedDeployment(replace(real.settings, partitions=4))
    with pytest.raises(ConfigurationError, match=r"has 8 partitions .* set to 4 .*TURNSTREAM_PARTITIONS to 8"):
        await other.open()
    await other.raw.aclose()


@pytest.mark.parametrize("overrides", [{"partitions": 1}])
async def test_a_worker_refuses_a_partition_of_another_layout(real: EmbeddedDeployment) -> None:
    first = await worker_of(real)
    await first.stop()
    await real.call("HSET", real.keys.partitions[0].partition, "layout", 99)
    with pytest.raises(ConfigurationError, match="layout 99"):
        await worker_of(real)


@pytest.mark.parametrize("overrides", [{"partitions": 8, "lease": 0.2}])
async def test_a_worker_ends_when_another_deployment_replaces_its_own(real: EmbeddedDeployment) -> None:
    worker = await worker_of(real)
    await real.call("FLUSHALL")
    other = EmbeddedDeployment(replace(real.settings, partitions=4))
    await (await other.open()).aclose()
    with pytest.raises(ConfigurationError, match="has 4 partitions"):
        await worker.task
    await other.raw.aclose()


@pytest.mark.parametrize("overrides", [{"partitions": 1}])
async def test_a_client_whose_own_worker_cannot_start_fails_at_once(real: EmbeddedDeployment) -> None:
    first = await worker_of(real)
    await first.stop()
    await real.call("HSET", real.keys.partitions[0].partition, "layout", 99)
    async with asyncio.timeout(SOON) as limit:
        with pytest.raises(ConfigurationError, match="layout 99"):
            await client_of(real)
    assert not limit.expired()


async def test_a_client_learns_that_no_worker_runs(real: EmbeddedDeployment) -> None:
    client = await client_of(real, worker=False)
    with pytest.raises(Unavailable, match="No worker is registered"):
        await client.execute(CreateSession(CONFIG), timeout=4)


# ── what others have left ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_partition_that_cannot_be_tidied_does_not_end_the_worker(
    real: EmbeddedDeployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another program has written a string to the key of a partition's events."""
    monkeypatch.setattr(worker_module, "TIDY_EVERY", 0.01)
    events = real.keys.partitions[0].events
    await real.call("SET", events, "a text", "EX", 60)
    worker = await worker_of(real)
    await wait_until(lambda: "cannot be tidied" in caplog.text)
    client = await client_of(real, worker=False)
    for number in (1, 2, 3):
        await a_session(client, "one", session_id=id_in(number, PARTITIONS))
    assert caplog.text.count("cannot be tidied") == 1
    assert not worker.task.done()


@pytest.mark.parametrize("fails", [True, False])
async def test_a_worker_ends_even_if_a_cancellation_gets_lost(
    real: EmbeddedDeployment, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """As where one of many calls fails in the moment in which all of them are cancelled."""
    monkeypatch.setattr(worker_module, "TIDY_EVERY", 0.01)
    worker = await worker_of(real)
    tidying = asyncio.Event()

    async def swallows(states: Sequence[PartitionState], _: object) -> None:
        tidying.set()
        try:
            await asyncio.sleep(SOON)
        except asyncio.CancelledError:
            raise RuntimeError(f"{len(states)} calls") from None

    monkeypatch.setattr(worker.backend.ownership, "tidy", swallows)
    await tidying.wait()
    async with asyncio.timeout(SOON):
        if fails:
            worker._worker._member._leases._refused = ConfigurationError("no right")
            with pytest.raises(ConfigurationError):
                await worker.task
        else:
            await worker.stop()


@pytest.mark.parametrize("overrides", [{"partitions": PARTITIONS, "batch_commands": 16}])
async def test_no_wait_for_turns_without_a_gain(real: EmbeddedDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backlogs that end with a full read: all partitions are assumed to have more, and none has."""
    monkeypatch.setattr(stream_feeder, "BLOCK", 3_600.0)
    monkeypatch.setattr(stream_feeder, "ROUND_ENTRIES", 16)
    client = await client_of(real, worker=False)
    ids = [id_in(number, PARTITIONS) for number in range(PARTITIONS)]
    commands: list[Command[Any]] = [CreateSession(CONFIG, session_id) for session_id in ids]
    commands += [AddMessage(session_id, user_message("waits")) for session_id in ids for _ in range(63)]
    backlog = await client.send_many(commands, timeout=3 * SOON)
    await worker_of(real)
    for ticket in backlog:
        await ticket
    for session_id in reversed(ids):
        ticket = await client.send(AddMessage(session_id, user_message("does not wait")), timeout=SOON)
        assert (await ticket).version == 65
