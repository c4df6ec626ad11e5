"""Retention: which events tidying takes, by age, by length and by bytes."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.contract.deployments import Deployment, also_on_sentinel, opened
from tests.contract.redis_deployments import EmbeddedDeployment, RedisDeployment
from tests.contract.samples import added, batch_of, event, taken
from tests.waiting import time_passes, wait_until

from turnstream.adapters.redis import retention
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.client.subscriptions import start
from turnstream.messages import user_message
from turnstream.ports import AGE_PRECISION, SIZE_PRECISION, Backend, EventPage, PartitionState

SHORT = 0.3
"""Seconds that may pass in a test."""

by_age = pytest.mark.parametrize("overrides", [{"partitions": 2, "event_retention_age": SHORT}])


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 2, "event_retention": 150}


async def happened(backend: Backend, state: PartitionState, count: int) -> PartitionState:
    """Let so many events happen."""
    events = [event(state.sequence + n, partition=state.partition) for n in range(1, count + 1)]
    batch = batch_of(state, events=events)
    await backend.store.commit(batch)
    return batch.after


async def kept(deployment: Deployment, partition: int = 0) -> list[int]:
    return [e.meta.sequence for e in await deployment.events(partition) if e.meta]


async def tidied_to(deployment: Deployment, backend: Backend, state: PartitionState, first: int) -> None:
    """Tidy until the oldest event is this one; that no younger one goes."""

    async def reached() -> bool:
        await backend.ownership.tidy([state])
        left = await kept(deployment, state.partition)
        assert set(range(first, state.sequence + 1)) <= set(left)
        return left == list(range(first, state.sequence + 1))

    await wait_until(reached)


@also_on_sentinel
async def test_so_many_are_kept(deployment: Deployment, backend: Backend) -> None:
    state = await happened(backend, await taken(backend), 500)
    for _ in range(2):
        await backend.ownership.tidy([state])
        assert await kept(deployment) == list(range(351, 501))
    state = await happened(backend, state, 1)
    await backend.ownership.tidy([state])
    assert await kept(deployment) == list(range(352, 502))


async def test_within_both_limits_nothing_goes(deployment: Deployment, backend: Backend) -> None:
    state = await happened(backend, await taken(backend), 150)
    for _ in range(3):
        await backend.ownership.tidy([state])
    assert await kept(deployment) == list(range(1, 151))


async def test_a_partition_without_events(deployment: Deployment, backend: Backend) -> None:
    state = await taken(backend)
    for _ in range(2):
        await backend.ownership.tidy([state])
    assert await kept(deployment) == []
    assert (await backend.events.read(0, 0, 1)).oldest == 1
    await happened(backend, state, 1)


@by_age
@also_on_sentinel
async def test_old_events_are_trimmed(deployment: Deployment, backend: Backend) -> None:
    """All of it: nothing need happen for that."""
    state = await happened(backend, await taken(backend), 5)
    await backend.ownership.tidy([state])
    await time_passes(SHORT)
    state = await happened(backend, state, 5)
    await tidied_to(deployment, backend, state, first=6)
    await tidied_to(deployment, backend, state, first=11)
    page = await backend.events.read(0, 0, 10)
    assert (page.oldest, page.head, page.payloads) == (11, 10, ())
    state = await happened(backend, state, 1)
    await backend.ownership.tidy([state])
    assert await kept(deployment) == [11]


@by_age
async def test_an_age_counts_from_when_it_was_seen_not_from_the_commands_time(
    deployment: Deployment, backend: Backend
) -> None:
    """The samples' events are of a past day, as those of a command that was parked are."""
    state = await happened(backend, await taken(backend), 3)
    await backend.ownership.tidy([state])
    assert await kept(deployment) == [1, 2, 3]


@pytest.mark.parametrize("overrides", [{"partitions": 2, "event_retention": 4, "event_retention_age": SHORT}])
async def test_the_narrower_of_both_limits_holds(deployment: Deployment, backend: Backend) -> None:
    state = await happened(backend, await taken(backend), 10)
    await backend.ownership.tidy([state])
    assert await kept(deployment) == [7, 8, 9, 10]
    await time_passes(SHORT)
    state = await happened(backend, state, 2)
    await tidied_to(deployment, backend, state, first=11)


@by_age
async def test_ages_outlast_an_owner(deployment: Deployment, backend: Backend, peer: Backend) -> None:
    state = await happened(backend, await taken(backend), 5)
    await backend.ownership.tidy([state])
    await backend.ownership.release([state])
    await time_passes(SHORT)
    next_state = await happened(peer, await taken(peer, "worker-2"), 5)
    await peer.ownership.tidy([next_state])
    assert await kept(deployment) == [6, 7, 8, 9, 10]


async def test_a_former_owner_takes_nothing(deployment: Deployment, backend: Backend) -> None:
    state = await happened(backend, await taken(backend), 200)
    await taken(backend)
    await backend.ownership.tidy([state])
    assert await kept(deployment) == list(range(1, 201))


async def test_partitions_are_tidied_separately(deployment: Deployment, backend: Backend) -> None:
    states = [await happened(backend, await taken(backend, partition=p), 160) for p in (0, 1)]
    await backend.ownership.tidy(states)
    assert await kept(deployment, 0) == await kept(deployment, 1) == list(range(11, 161))


# ── by bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

MOST = 640_000
PIECE = 20_000
MARGIN = retention.bytes_between_marks(MOST) + 2 * PIECE

by_bytes = pytest.mark.parametrize("overrides", [{"partitions": 2, "event_retention_bytes": MOST}])


async def grown(backend: Backend, state: PartitionState, *sizes: int) -> PartitionState:
    """Let messages of these sizes be added, by one commit."""
    events = [added(state.sequence + n, user_message("x" * size)) for n, size in enumerate(sizes, start=1)]
    batch = batch_of(state, events=events)
    await backend.store.commit(batch)
    return batch.after


async def kept_bytes(deployment: Deployment) -> int:
    return sum(len(each.to_json()) for each in await deployment.events(0))


@by_bytes
@also_on_sentinel
async def test_so_many_bytes_are_kept(deployment: Deployment, backend: Backend) -> None:
    state = await grown(backend, await taken(backend), *[PIECE] * 31)
    await backend.ownership.tidy([state])
    assert len(await kept(deployment)) == 31
    for sizes in ([PIECE] * 40, [PIECE], [100] * 50, [PIECE] * 200):
        state = await grown(backend, state, *sizes)
        await backend.ownership.tidy([state])
        assert MOST - MARGIN < await kept_bytes(deployment) <= MOST
    assert (await kept(deployment))[-1] == state.sequence


@by_bytes
async def test_a_larger_event_is_kept_until_the_next(deployment: Deployment, backend: Backend) -> None:
    state = await grown(backend, await taken(backend), 2 * MOST)
    for _ in range(2):
        await backend.ownership.tidy([state])
        assert await kept(deployment) == [1]
    state = await grown(backend, state, 1)
    await backend.ownership.tidy([state])
    assert await kept(deployment) == [2]


@pytest.mark.parametrize(
    "overrides", [{"partitions": 2, "event_retention_bytes": MOST, "event_retention": 60, "event_retention_age": 60.0}]
)
async def test_bytes_are_counted_right_whatever_else_takes_events(deployment: Deployment, backend: Backend) -> None:
    """Events of all sizes, by commits of all lengths, and by both limits."""
    chance = random.Random(7)
    state, sizes = await taken(backend), [0]
    for _ in range(60):
        some = [chance.choice((100, PIECE // 4, PIECE)) for _ in range(chance.randrange(1, 40))]
        sizes += some
        state = await grown(backend, state, *some)
        await backend.ownership.tidy([state])
        left = await kept(deployment)
        assert left == list(range(left[0], state.sequence + 1))
        assert len(left) <= 60
        assert await kept_bytes(deployment) <= MOST
        if left[0] > 1 and len(left) < 60:
            assert await kept_bytes(deployment) > MOST - MARGIN


@by_bytes
async def test_bytes_outlast_an_owner(deployment: Deployment, backend: Backend, peer: Backend) -> None:
    state = await grown(backend, await taken(backend), *[PIECE] * 30)
    await backend.ownership.release([state])
    state = await grown(peer, await taken(peer, "worker-2"), *[PIECE] * 30)
    await peer.ownership.tidy([state])
    assert MOST - MARGIN < await kept_bytes(deployment) <= MOST


# ── on servers ───────────────────────────────────────────────────────────────────────────────────────────────────────

on_servers = pytest.mark.parametrize("deployment", ["fakeredis", "embedded", "cluster"], indirect=True)


@on_servers
async def test_a_huge_backlog_goes_in_bounded_steps(
    deployment: Deployment, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(deployment, RedisDeployment)
    assert isinstance(backend, RedisBackend)
    monkeypatch.setattr(retention, "STEP", 70)
    state = await happened(backend, await taken(backend), 1_000)
    trim, events = backend.server.scripts.trim, deployment.keys.partitions[0].events
    run, lengths = trim.run, [1_000]

    async def watched(*arguments: Any) -> Any:  # noqa: ANN401 - as the script's
        answer = await run(*arguments)
        lengths.append(int(await deployment.call("XLEN", events)))
        return answer

    monkeypatch.setattr(trim, "run", watched)
    await backend.ownership.tidy([state])
    assert lengths == [*range(1_000, 150, -70), 150]


@on_servers
async def test_unconfirmed_events_are_kept(deployment: Deployment, backend: Backend) -> None:
    assert isinstance(deployment, RedisDeployment)
    state = await happened(backend, await taken(backend), 500)
    key = deployment.keys.partitions[0].partition
    for safe, oldest in ((0, 1), (100, 101), (500, 351)):
        await deployment.call("HSET", key, "stable", safe)
        await backend.ownership.tidy([state])
        assert await kept(deployment) == list(range(oldest, 501))


@on_servers
@by_bytes
async def test_unconfirmed_events_are_kept_whatever_their_size(deployment: Deployment, backend: Backend) -> None:
    assert isinstance(deployment, RedisDeployment)
    state = await grown(backend, await taken(backend), *[PIECE] * 100)
    key = deployment.keys.partitions[0].partition
    for safe in (0, 30):
        await deployment.call("HSET", key, "stable", safe)
        await backend.ownership.tidy([state])
        assert await kept(deployment) == list(range(safe + 1, 101))


@on_servers
@by_bytes
async def test_marks_of_bytes_are_few_and_go_with_their_events(deployment: Deployment, backend: Backend) -> None:
    assert isinstance(deployment, RedisDeployment)
    state = await taken(backend)
    for _ in range(20):
        state = await grown(backend, state, *[PIECE] * 20)
        await backend.ownership.tidy([state])
        marks = (await deployment.call("HGET", deployment.keys.partitions[0].partition, "eventMarks")).decode().split()
        assert len(marks) <= SIZE_PRECISION


@on_servers
@by_age
async def test_marks_are_few_and_go_with_their_events(deployment: Deployment, backend: Backend) -> None:
    assert isinstance(deployment, RedisDeployment)
    state = await taken(backend)
    key = deployment.keys.partitions[0].partition
    for _ in range(200):
        state = await happened(backend, state, 1)
        await backend.ownership.tidy([state])
        marks = (await deployment.call("HGET", key, "marks")).decode().split()
        assert 0 < len(marks) <= AGE_PRECISION + 1
    await tidied_to(deployment, backend, state, first=201)
    assert await deployment.call("HGET", key, "marks") == b""


@on_servers
async def test_a_clock_that_was_wrong_once_does_no_harm(deployment: Deployment, backend: Backend) -> None:
    """A mark of the future is not waited for."""
    assert isinstance(deployment, RedisDeployment)
    state = await happened(backend, await taken(backend), 10)
    key = deployment.keys.partitions[0].partition
    future, past = 4_000_000_000_000, 1_000_000_000_000
    await deployment.call("HSET", key, "marks", f"{future}:3")
    await backend.ownership.tidy([state])
    first, second = (await deployment.call("HGET", key, "marks")).decode().split()
    assert (first, second.partition(":")[2]) == (f"{future}:3", "10")
    await deployment.call("HSET", key, "marks", f"{future}:3 {past}:8 {second}")
    await backend.ownership.tidy([state])
    assert await kept(deployment) == [9, 10]
    assert await deployment.call("HGET", key, "marks") == second.encode()


async def test_one_that_fails_holds_up_no_other(real: EmbeddedDeployment, caplog: pytest.LogCaptureFixture) -> None:
    backend = await opened(real)
    states = [await happened(backend, await taken(backend, partition=p), 160) for p in (0, 1)]
    await real.call("DEL", real.keys.partitions[0].events)
    await real.call("SET", real.keys.partitions[0].events, "a text", "EX", 60)
    await backend.ownership.tidy(states)
    (told,) = [vars(record) for record in caplog.records]
    assert (told["msg"], told["partition"]) == ("partition cannot be tidied", 0)
    assert told["error"].startswith(f"{real.keys.partitions[0].events} cannot be used: it is a string")
    assert await kept(real, 1) == list(range(11, 161))


# ── what marks say of the past ───────────────────────────────────────────────────────────────────────────────────────


async def test_marks_find_the_events_written_before_a_time(backend: Backend) -> None:
    state = await happened(backend, await taken(backend), 5)
    assert await backend.events.written_before(0, datetime.now(UTC)) == 0
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    await backend.ownership.tidy([state])
    await time_passes()
    after = datetime.now(UTC)
    await happened(backend, state, 3)
    assert await backend.events.written_before(0, before) == 0
    assert await backend.events.written_before(0, after) == 5
    assert await backend.events.written_before(1, after) == 0


@pytest.mark.parametrize("deployment", ["fakeredis", "embedded"], indirect=True)
async def test_marks_from_before_the_clock_was_set_back_count(deployment: Deployment, backend: Backend) -> None:
    assert isinstance(deployment, RedisDeployment)
    await taken(backend)
    await deployment.call("HSET", deployment.keys.partitions[0].partition, "marks", "3000:5 9000:8 4000:9")
    found = [await backend.events.written_before(0, datetime.fromtimestamp(at, UTC)) for at in (3, 5, 9, 10)]
    assert found == [0, 5, 5, 9]


async def test_a_position_by_time_is_searched_after_the_marks(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All events of the samples are of a past day: they say nothing."""
    monkeypatch.setattr(start, "MAX_CLOCK_DIFFERENCE", timedelta())
    state = await happened(backend, await taken(backend), 150)
    await backend.ownership.tidy([state])
    await time_passes()
    since = datetime.now(UTC)
    state = await happened(backend, state, 3)
    reads: list[tuple[int, int]] = []
    read = backend.events.read

    async def noted(partition: int, after: int, count: int, session_id: str | None = None) -> EventPage:
        reads.append((partition, after))
        return await read(partition, after, count, session_id)

    monkeypatch.setattr(backend.events, "read", noted)
    assert (await start.find_position(backend, since)).log_positions == ((state.generation, 153), ("", 0))
    assert sorted(reads) == [(0, 150), (1, 0)]
