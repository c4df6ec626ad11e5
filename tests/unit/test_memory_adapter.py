"""The memory adapter: its own behaviour, in addition to the suite that all adapters pass."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace
from tests import builders
from tests.builders import AT, CONFIG

from turnstream.adapters.memory import MemoryBackend
from turnstream.adapters.memory import channels as memory_channels
from turnstream.adapters.memory.partition import Partition
from turnstream.adapters.memory.retention import EventLimits
from turnstream.adapters.memory.stream import CommandStream
from turnstream.application.commands.decoder import CommandDecoder
from turnstream.application.commands.owner_memory import OwnerMemory, ParkingLimits
from turnstream.application.processor import PartitionProcessor
from turnstream.application.queries.query_handler import QueryHandler
from turnstream.catalogue import default_catalogue
from turnstream.codec.envelope import decode_entry, encode_command
from turnstream.codec.events import decode_event
from turnstream.codec.records import decode_replies, milliseconds
from turnstream.domain.commands import AddMessage, AddMessages, CreateSession, RemoveMessages, UpdateSession
from turnstream.domain.events import AnyEvent, EventMeta, SessionDeleted
from turnstream.domain.evolution import fold
from turnstream.domain.models import (
    ChatMessage,
    SessionConfig,
    SessionHeader,
    SessionInfo,
    TokenMetrics,
    session_of,
)
from turnstream.domain.patches import SessionPatch
from turnstream.domain.prices import PriceSource
from turnstream.errors import MessageNotFound, Overloaded, SessionNotFound, Unavailable
from turnstream.ports import (
    START,
    Backend,
    Batch,
    CommandEntry,
    IndexEntry,
    MalformedEntry,
    MessageRange,
    Needs,
    Outcome,
    Ownership,
    PartitionState,
    RawEntry,
    RecordedOutcome,
    Reply,
    SessionNeeds,
    SessionWrite,
    StoredHeader,
)
from turnstream.signals import Collision, Fenced

ENTRY_MS = milliseconds(AT)
SOON = 10.0
"""Seconds that a wait which must end may take."""
OUTCOME = Outcome("ok", "hash", 1, output=Raw(b"true"))


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend(partitions=1, max_backlog=3, deduplication_window=60.0, event_limits=EventLimits(2))


@pytest.fixture
async def state(backend: MemoryBackend) -> PartitionState:
    return await taken(backend.ownership, "worker-1")


async def taken(ownership: Ownership, worker_id: str) -> PartitionState:
    await ownership.beat(worker_id)
    state = await ownership.take(0, worker_id)
    assert state is not None
    return state


def command(name: str) -> CommandEntry:
    return CommandEntry(name, "delete-session", b'{"sessionId":"s"}', reply_to="ts:0:reply:c", correlation_id="å")


def message(message_id: str, **metadata: object) -> ChatMessage:
    return replace(builders.message(message_id), metadata=dict(metadata))


def stored(session_id: str = "s", version: int = 1, updated_at: datetime = AT, **metadata: object) -> StoredHeader:
    header = SessionHeader(
        id=session_id,
        incarnation="first",
        version=version,
        config=CONFIG,
        metrics=TokenMetrics(
            prompt_tokens=0,
            completion_tokens=0,
            total_tokens=0,
            estimated_cost=0.0,
            context_utilization=0.0,
            max_context_window=8_192,
            price_source=PriceSource.SPEC,
        ),
        message_count=0,
        next_position=0,
        created_at=AT,
        updated_at=updated_at,
        is_active=True,
        metadata=metadata,
    )
    return StoredHeader(header, last_sequence=1)


def created(session_id: str = "s", *message_ids: str, updated_at: datetime = AT) -> SessionWrite:
    return SessionWrite(
        session_id,
        before=None,
        after=stored(session_id, updated_at=updated_at),
        cleared=True,
        put={i: message(i) for i in message_ids},
        placed={i: position for position, i in enumerate(message_ids)},
    )


def event(sequence: int, session_id: str = "s") -> AnyEvent:
    meta = EventMeta(
        event_id=f"c:{sequence}",
        partition=0,
        generation="g",
        sequence=sequence,
        previous_of_type=0,
        previous_of_session=0,
        command_id="c",
    )
    return SessionDeleted(session_id=session_id, incarnation="first", version=1, timestamp=AT, meta=meta)


def batch(state: PartitionState, *writes: SessionWrite) -> Batch:
    """A batch of one command, an event and a reply more than `state`."""
    sequence = state.sequence + 1
    return Batch(
        before=state,
        after=replace(
            state, cursor=f"{ENTRY_MS}-{sequence}", sequence=sequence, type_sequences={"session-deleted": sequence}
        ),
        writes=writes,
        events=[event(sequence)],
        outcomes=[RecordedOutcome("c" if sequence == 1 else f"c{sequence}", ENTRY_MS, OUTCOME)],
        replies={"ts:0:reply:c": [Reply("c", "ok", 1)]},
        malformed=[],
    )


async def committed(backend: MemoryBackend, state: PartitionState, *writes: SessionWrite) -> PartitionState:
    done = batch(state, *writes)
    await backend.store.commit(done)
    return done.after


async def ids_of(backend: MemoryBackend, wanted: MessageRange) -> list[str]:
    _, messages = await backend.reader.messages("s", wanted)
    return [found.id for found in messages]


def image(partition: Partition) -> dict[str, object]:
    """Everything that is stored of a partition, for a comparison."""
    return {
        "commands": partition.commands.after(START, 1_000),
        "sessions": {i: (dict(s.header), dict(s.messages)) for i, s in partition.sessions.items()},
        "places": [s.order.between(None, None, None, from_end=False) for s in partition.sessions.values()],
        "index": partition.index.between(None, None, None, from_end=False),
        "events": list(partition.events),
        "outcomes": len(partition.outcomes),
        "malformed": list(partition.malformed),
        "progress": (partition.cursor, partition.sequence, partition.type_sequences, partition.token),
    }


def stored_partition(backend: MemoryBackend) -> Partition:
    return backend.store._partitions[0]


async def waits(task: asyncio.Task[Any]) -> bool:
    """Whether a task still waits when all others have done what they can."""
    for _ in range(10):
        await asyncio.sleep(0)
    return not task.done()


async def nobody_heard(subscription: AsyncIterator[tuple[str, bytes]]) -> bool:
    step = asyncio.ensure_future(anext(subscription))
    silent = await waits(step)
    step.cancel()
    return silent


def test_it_is_a_backend() -> None:
    backend: Backend = MemoryBackend()
    assert backend.partitions == 64


# ── commit ───────────────────────────────────────────────────────────────────────────────────────────────────────────

WrongBatch = Callable[[PartitionState], Batch]


WRONG: list[tuple[str, WrongBatch]] = [
    ("token", lambda state: batch(replace(state, token="0-none"))),
    ("replid", lambda state: batch(replace(state, replication_id="another"))),
    ("cursor", lambda state: batch(replace(state, cursor="1-0"))),
    ("sequence", lambda state: batch(replace(state, sequence=9))),
    ("version", lambda state: batch(state, created("s"))),
    ("version", lambda state: batch(state, SessionWrite("s", before=stored(version=2), after=stored(version=3)))),
    ("version", lambda state: batch(state, created("new"), SessionWrite("gone", before=stored("gone")))),
]


@pytest.mark.parametrize(("reason", "wrong"), WRONG)
async def test_a_fenced_commit_writes_nothing(
    backend: MemoryBackend, state: PartitionState, reason: str, wrong: WrongBatch
) -> None:
    state = await committed(backend, state, created("s", "m"))
    await backend.queue.publish(0, [command("waiting")])
    listener = await backend.channels.subscribe(["ts:session:s", "ts:0:reply:c"])
    before = image(stored_partition(backend))

    with pytest.raises(Fenced) as fenced:
        await backend.store.commit(wrong(state))

    assert (fenced.value.partition, fenced.value.reason) == (0, reason)
    assert image(stored_partition(backend)) == before
    assert await nobody_heard(aiter(listener))


async def test_a_batch_for_a_partition_without_an_owner_is_fenced(backend: MemoryBackend) -> None:
    untaken = PartitionState(0, "", "", START, "g", 0, {})
    with pytest.raises(Fenced, match="token"):
        await backend.store.commit(batch(untaken))


async def test_a_batch_that_cannot_be_encoded_writes_nothing(backend: MemoryBackend, state: PartitionState) -> None:
    before = image(stored_partition(backend))
    placeless = replace(event(1), meta=None)
    with pytest.raises(ValueError, match="no place in a stream"):
        await backend.store.commit(replace(batch(state, created("s", "m")), events=[event(1), placeless]))
    assert image(stored_partition(backend)) == before


async def test_a_write_clears_then_removes_then_puts(backend: MemoryBackend, state: PartitionState) -> None:
    state = await committed(backend, state, created("s", "m0", "m1", "m2"))
    moved = SessionWrite("s", stored(), stored(version=2), removed={"m0"}, put={"m0": message("m0")}, placed={"m0": 3})
    state = await committed(backend, state, moved)
    assert await ids_of(backend, MessageRange()) == ["m1", "m2", "m0"]

    replaced = SessionWrite("s", stored(version=2), stored(version=3), cleared=True, put={"n": message("n")})
    replaced.placed["n"] = 4
    await committed(backend, state, replaced)
    assert await ids_of(backend, MessageRange()) == ["n"]


async def test_an_existing_value_assumed_new_collides(backend: MemoryBackend, state: PartitionState) -> None:
    state = await committed(backend, state, created("s", "m"))
    again = batch(state, SessionWrite("s", stored(), stored(version=2), put={"m": message("m")}, unseen={"m"}))
    with pytest.raises(Collision):
        await backend.store.commit(again)
    known = replace(batch(state), outcomes=[RecordedOutcome("c", ENTRY_MS, OUTCOME)])
    with pytest.raises(Collision):
        await backend.store.commit(known)
    assert await ids_of(backend, MessageRange()) == ["m"]


async def test_a_deleted_session_leaves_nothing(backend: MemoryBackend, state: PartitionState) -> None:
    state = await committed(backend, state, created("s", "m"))
    await committed(backend, state, SessionWrite("s", before=stored(), cleared=True))

    assert await backend.reader.infos(["s"]) == [None]
    assert await backend.reader.index(0, None, 10, newest_first=True) == []
    assert await backend.reader.count() == 0
    with pytest.raises(SessionNotFound):
        await backend.reader.messages("s", MessageRange())


async def test_a_commit_drops_the_applied_entries_from_the_stream(
    backend: MemoryBackend, state: PartitionState
) -> None:
    await backend.queue.publish(0, [command("c1"), command("c2"), command("c3")])
    entries = (await backend.queue.read({0: START}, 10, 0))[0]
    applied = replace(state, cursor=entries[1].entry_id)
    await backend.store.commit(Batch(state, applied, (), (), (), {}, ()))
    assert await backend.queue.read({0: START}, 10, 0) == {0: entries[2:]}


async def test_malformed_entries_are_kept_shortened(backend: MemoryBackend, state: PartitionState) -> None:
    fields = {b"%d" % number: b"x" * 100_000 for number in range(60)}
    await backend.store.commit(replace(batch(state), malformed=[MalformedEntry(RawEntry("1-0", fields), "Not JSON")]))

    (kept,) = stored_partition(backend).malformed
    assert (kept.entry.entry_id, kept.error) == ("1-0", "Not JSON")
    assert len(kept.entry.fields) == 50
    assert max(map(len, kept.entry.fields.values())) == 65_536


# ── callers cannot change stored values ──────────────────────────────────────────────────────────────────────────────


async def test_written_values_can_be_changed_without_harm(backend: MemoryBackend, state: PartitionState) -> None:
    write = SessionWrite("s", None, stored(tags=["a"]), put={"m": message("m", tags=["a"])}, placed={"m": 0})
    written = batch(state, write)
    await backend.store.commit(written)

    assert write.after is not None
    for given in (write.after.header.metadata, write.put["m"].metadata, written.after.type_sequences):
        assert isinstance(given, dict)
        given.clear()
    write.put.clear()

    header, messages = await backend.reader.messages("s", MessageRange())
    assert header.metadata == messages[0].metadata == {"tags": ["a"]}
    assert (await taken(backend.ownership, "worker-1")).type_sequences == {"session-deleted": 1}


async def test_read_values_can_be_changed_without_harm(backend: MemoryBackend, state: PartitionState) -> None:
    await committed(backend, state, created("s", "m"))
    needs = Needs({"s": SessionNeeds(tail=1)}, {"c": ENTRY_MS})
    first = (await backend.store.load(0, needs)).sessions["s"]
    assert first.stored is not None
    for metadata in (first.stored.header.metadata, first.tail[0].metadata):
        assert metadata is not None
        metadata["mine"] = True
    assert isinstance(first.messages, dict)
    first.messages.clear()
    second = (await backend.store.load(0, needs)).sessions["s"]
    assert second.stored == stored()
    assert second.tail == (message("m"),)


async def test_entries_are_copies_on_both_sides_of_the_queue(backend: MemoryBackend) -> None:
    fields = {b"anything": b"at all"}
    entry_id = backend.append_raw(0, fields)
    fields.clear()
    (read,) = (await backend.queue.read({0: START}, 1, 0))[0]
    assert isinstance(read.fields, dict)
    read.fields.clear()
    assert await backend.queue.read({0: START}, 1, 0) == {0: [RawEntry(entry_id, {b"anything": b"at all"})]}


# ── load and outcomes ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_only_needed_data_is_loaded(backend: MemoryBackend, state: PartitionState) -> None:
    await committed(backend, state, created("s", "m0", "m1", "m2"))
    wanted = SessionNeeds(header=False, message_ids={"m0", "unknown"}, tail=2)
    loaded = await backend.store.load(0, Needs({"s": wanted, "absent": SessionNeeds(tail=1)}, {}))

    assert loaded.sessions["s"].stored is None
    assert loaded.sessions["s"].messages["m0"] == message("m0")
    assert "unknown" not in loaded.sessions["s"].messages
    assert [found.id for found in loaded.sessions["s"].tail] == ["m1", "m2"]
    assert (loaded.sessions["absent"].stored, loaded.sessions["absent"].tail) == (None, ())


@pytest.mark.parametrize(("later", "known"), [(-5_000, True), (0, True), (60_000, True), (60_001, False)])
async def test_an_outcome_is_known_within_the_window(
    backend: MemoryBackend, state: PartitionState, later: int, known: bool
) -> None:
    await committed(backend, state)
    loaded = await backend.store.load(0, Needs({}, {"c": ENTRY_MS + later, "other": ENTRY_MS}))
    assert loaded.outcomes == ({"c": OUTCOME} if known else {})


async def test_outcomes_are_forgotten_when_the_cursor_has_left_the_window(
    backend: MemoryBackend, state: PartitionState
) -> None:
    for seconds in (0, 30, 60, 90, 120):
        entry_ms = ENTRY_MS + seconds * 1_000
        after = replace(state, cursor=f"{entry_ms}-0")
        outcome = RecordedOutcome(f"c{seconds}", entry_ms, OUTCOME)
        await backend.store.commit(Batch(state, after, (), (), [outcome], {}, ()))
        state = after
    assert len(stored_partition(backend).outcomes) == 3


# ── the command streams ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_entry_reads_as_from_a_server(backend: MemoryBackend) -> None:
    await backend.queue.publish(0, [command("c")])
    (entry,) = (await backend.queue.read({0: START}, 10, 0))[0]
    assert decode_entry(entry.fields) == command("c")
    assert entry.fields[b"correlationId"] == "å".encode()


async def test_an_overloaded_partition_takes_none_of_the_commands(backend: MemoryBackend) -> None:
    await backend.queue.publish(0, [command("c1"), command("c2")])
    with pytest.raises(Overloaded) as overloaded:
        await backend.queue.publish(0, [command("c3"), command("c4")])
    assert (overloaded.value.backlog, overloaded.value.limit) == (2, 3)
    assert len((await backend.queue.read({0: START}, 10, 0))[0]) == 2
    await backend.queue.publish(0, [command("c3")])


def test_entry_ids_grow_even_when_the_clock_is_set_back() -> None:
    times = iter([7, 7, 3, 8])
    stream = CommandStream(clock=lambda: next(times))
    assert [stream.append({}) for _ in range(4)] == ["7-0", "7-1", "7-2", "8-0"]


def test_entry_ids_are_not_used_again_when_the_stream_is_empty() -> None:
    stream = CommandStream(clock=lambda: 7)
    stream.drop(stream.append({}))
    assert len(stream) == 0
    assert stream.append({}) == "7-1"


async def test_a_read_takes_up_to_count_of_each_partition() -> None:
    backend = MemoryBackend(partitions=4)
    ids = {number: [backend.append_raw(number, {}) for _ in range(3)] for number in (0, 1, 3)}
    found = await backend.queue.read({0: START, 1: ids[1][1], 2: START}, 2, 0)
    assert {number: [entry.entry_id for entry in entries] for number, entries in found.items()} == {
        0: ids[0][:2],
        1: ids[1][2:],
    }


async def test_a_waiting_read_gets_published_events(backend: MemoryBackend) -> None:
    read = asyncio.create_task(backend.queue.read({0: START}, 10, SOON))
    assert await waits(read)
    await backend.queue.publish(0, [command("c")])
    assert [decode_entry(entry.fields).command_id for entry in (await read)[0]] == ["c"]


async def test_a_read_ends_without_a_wakeup(backend: MemoryBackend) -> None:
    assert await backend.queue.read({0: START}, 10, 0.001) == {}


async def test_wake_ends_the_reads_that_wait_and_no_later_one(backend: MemoryBackend) -> None:
    reads = [asyncio.create_task(backend.queue.read({0: START}, 10, SOON)) for _ in range(2)]
    assert await waits(reads[0])
    await backend.queue.wake()
    assert await asyncio.gather(*reads) == [{}, {}]

    later = asyncio.create_task(backend.queue.read({0: START}, 10, SOON))
    assert await waits(later)
    backend.append_raw(0, {})
    assert list(await later) == [0]


async def test_a_worker_with_a_backlog_leaves_others_their_turn(backend: MemoryBackend) -> None:
    backend.append_raw(0, {})
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(5):
        await backend.queue.read({0: START}, 10, SOON)
    task.cancel()
    assert turns == 5


# ── ownership ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_two_workers_never_own_a_partition_together(backend: MemoryBackend) -> None:
    ownership = backend.ownership
    assert await ownership.beat("worker-1") == ["worker-1"]
    assert await ownership.beat("worker-2") == ["worker-1", "worker-2"]

    first = await taken(ownership, "worker-1")
    assert await ownership.take(0, "worker-2") is None
    first = await committed(backend, first, created())
    await ownership.release([first])
    second = await taken(ownership, "worker-2")

    assert second == replace(first, token=second.token)
    assert await ownership.renew([first, second]) == [False, True]
    with pytest.raises(Fenced, match="token"):
        await backend.store.commit(batch(first))
    await committed(backend, second)


async def test_a_late_release_does_not_free_the_next_owners_lease(backend: MemoryBackend) -> None:
    first = await taken(backend.ownership, "worker-1")
    await backend.ownership.release([first])
    await taken(backend.ownership, "worker-2")
    await backend.ownership.release([first])
    assert await backend.ownership.take(0, "worker-1") is None


async def test_an_owner_that_takes_again_gets_a_new_token(backend: MemoryBackend, state: PartitionState) -> None:
    again = await taken(backend.ownership, "worker-1")
    assert again.token.split("-")[0] == "2"
    assert await backend.ownership.renew([state, again]) == [False, True]


async def test_a_lease_that_was_released_can_be_renewed_until_another_takes_it(
    backend: MemoryBackend, state: PartitionState
) -> None:
    await backend.ownership.release([state])
    assert await backend.ownership.renew([state]) == [True]
    assert await backend.ownership.take(0, "worker-2") is None


async def test_a_worker_that_departs_leaves_its_partitions_free(backend: MemoryBackend) -> None:
    await backend.ownership.beat("worker-1")
    await taken(backend.ownership, "worker-1")
    await backend.ownership.depart("worker-2")
    assert await backend.ownership.take(0, "worker-2") is None
    await backend.ownership.depart("worker-1")
    assert await backend.ownership.beat("worker-2") == ["worker-2"]
    await taken(backend.ownership, "worker-2")


async def test_changes_wake_all_waiters(backend: MemoryBackend) -> None:
    ownership = backend.ownership
    listeners = [ownership.changes(), ownership.changes()]

    async def heard() -> None:
        await asyncio.wait_for(asyncio.gather(*(anext(listener) for listener in listeners)), SOON)

    await heard()  # they listen
    await ownership.beat("worker-1")
    await heard()
    state = await taken(ownership, "worker-1")
    await ownership.beat("worker-1")
    steps = [asyncio.ensure_future(anext(listener)) for listener in listeners]
    assert await waits(steps[0])
    await ownership.release([state])
    await asyncio.wait_for(asyncio.gather(*steps), SOON)
    await ownership.depart("worker-1")
    await heard()


async def test_tidy_keeps_the_latest_events(backend: MemoryBackend, state: PartitionState) -> None:
    for _ in range(5):
        state = await committed(backend, state)
    events = stored_partition(backend).events
    assert len(events) == 5
    await backend.ownership.tidy([state])
    assert [kept.sequence for kept in events] == [4, 5]
    await backend.ownership.tidy([state])
    assert [decode_event(kept.payload) for kept in events] == [event(4), event(5)]


# ── channels ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_commit_is_announced_on_its_channels(backend: MemoryBackend, state: PartitionState) -> None:
    channels = [
        *backend.channels.event_channels(["session-deleted"], None),
        *backend.channels.event_channels([], "s"),
        backend.channels.reply_channel(0, "c"),
    ]
    listener = aiter(await backend.channels.subscribe(channels))
    elsewhere = aiter(await backend.channels.subscribe(["ts:events:message-added", "ts:session:other"]))
    await committed(backend, state)

    heard = [await anext(listener) for _ in channels]
    assert [channel for channel, _ in heard] == ["ts:events:session-deleted", "ts:session:s", "ts:0:reply:c"]
    assert [decode_event(payload) for _, payload in heard[:2]] == [event(1), event(1)]
    assert decode_replies(heard[2][1]) == (Reply("c", "ok", 1),)
    assert await nobody_heard(elsewhere)


@pytest.mark.parametrize(
    ("channel", "valid"),
    [
        ("ts:1:reply:aB_9-", True),
        ("ts:1:reply:" + "x" * 64, True),
        ("ts:1:reply:" + "x" * 65, False),
        ("ts:1:reply:", False),
        ("ts:1:reply:a\n", False),
        ("ts:1:reply:a b", False),
        ("ts:1:reply:é", False),
        ("ts:2:reply:a", False),
        ("xts:1:reply:a", False),
        ("ts:events:session-created", False),
    ],
)
def test_only_reply_channels_of_the_partition_are_valid(backend: MemoryBackend, channel: str, valid: bool) -> None:
    assert backend.channels.is_reply_channel(1, channel) is valid


async def test_closing_ends_an_iteration_that_waits(backend: MemoryBackend) -> None:
    subscription = await backend.channels.subscribe(["a", "a"])
    backend.channels.publish("a", b"1")
    listener = aiter(subscription)
    assert await anext(listener) == ("a", b"1")
    step = asyncio.ensure_future(anext(listener))
    assert await waits(step)
    await subscription.aclose()
    await subscription.aclose()
    with pytest.raises(StopAsyncIteration):
        await step


async def test_a_subscription_that_cannot_keep_up_is_lost(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_channels, "MAX_WAITING", 2)
    slow, quick = [await backend.channels.subscribe(["a"]) for _ in range(2)]
    listener = aiter(quick)
    for number in range(4):
        backend.channels.publish("a", b"%d" % number)
        assert await anext(listener) == ("a", b"%d" % number)

    late = aiter(slow)
    assert [await anext(late), await anext(late)] == [("a", b"0"), ("a", b"1")]
    with pytest.raises(Unavailable):
        await anext(late)


async def test_closing_the_backend_ends_every_wait(backend: MemoryBackend) -> None:
    changes = backend.ownership.changes()
    await anext(changes)  # it listens
    waiting = [
        asyncio.ensure_future(anext(aiter(await backend.channels.subscribe(["a"])), None)),
        asyncio.ensure_future(anext(changes, None)),
    ]
    read = asyncio.create_task(backend.queue.read({0: START}, 10, SOON))
    assert await waits(read)
    await backend.aclose()
    assert await asyncio.gather(*waiting) == [None, None]
    assert await read == {}


# ── the reader ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (MessageRange(), "abcde"),
        (MessageRange(after="b"), "cde"),
        (MessageRange(before="d"), "abc"),
        (MessageRange(after="a", before="e", count=2), "bc"),
        (MessageRange(after="a", before="e", count=2, from_end=True), "cd"),
        (MessageRange(count=9, from_end=True), "abcde"),
        (MessageRange(count=0), ""),
        (MessageRange(after="d", before="b", count=1, from_end=True), ""),
        (MessageRange(after="c", before="c"), ""),
    ],
)
async def test_a_range_of_messages(
    backend: MemoryBackend, state: PartitionState, wanted: MessageRange, expected: str
) -> None:
    await committed(backend, state, created("s", *"abcde"))
    assert await ids_of(backend, wanted) == list(expected)


@pytest.mark.parametrize("wanted", [MessageRange(after="gone"), MessageRange(after="a", before="gone")])
async def test_a_range_needs_its_bounds(backend: MemoryBackend, state: PartitionState, wanted: MessageRange) -> None:
    await committed(backend, state, created("s", "a"))
    with pytest.raises(MessageNotFound) as missing:
        await backend.reader.messages("s", wanted)
    assert missing.value.message_id == "gone"


async def test_the_index_is_in_the_order_of_the_last_update(backend: MemoryBackend, state: PartitionState) -> None:
    later = AT + timedelta(seconds=1)
    state = await committed(backend, state, *(created(session_id) for session_id in "dbac"))
    await committed(backend, state, SessionWrite("b", stored("b"), stored("b", version=2, updated_at=later)))

    async def index(beyond: IndexEntry | None, count: int, *, newest_first: bool) -> str:
        entries = await backend.reader.index(0, beyond, count, newest_first=newest_first)
        return "".join(entry.session_id for entry in entries)

    middle = IndexEntry(ENTRY_MS, "c")
    assert await index(None, 10, newest_first=True) == "bdca"
    assert await index(None, 2, newest_first=True) == "bd"
    assert await index(middle, 10, newest_first=True) == "a"
    assert await index(middle, 1, newest_first=False) == "d"
    assert await index(None, 10, newest_first=False) == "acdb"
    infos = await backend.reader.infos(["b", "unknown", "a"])
    assert [info.updated_at if isinstance(info, SessionInfo) else None for info in infos] == [later, None, AT]


# ── a command from the client to the repository ──────────────────────────────────────────────────────────────────────


async def test_commands_travel_from_the_queue_to_the_reader(backend: MemoryBackend, state: PartitionState) -> None:
    intake = CommandDecoder(0, 1, 100_000, lambda channel: backend.channels.is_reply_channel(0, channel))
    answers = QueryHandler(backend.reader, 1)
    memory = OwnerMemory.empty(backend.quarantine, 0, 10, ParkingLimits())
    processor = PartitionProcessor(state, intake, backend.store, answers, default_catalogue(), memory)
    metadata = SessionPatch(metadata={"title": "New"})
    for commands in (
        (CreateSession(SessionConfig("openai", "gpt-4"), "s"), AddMessage("s", message("m0", kept=True))),
        (AddMessages("s", (message("m1"), message("m2"))), RemoveMessages("s", last=1), UpdateSession("s", metadata)),
    ):
        entries = [CommandEntry(command.type, command.type, encode_command(command, 100_000)) for command in commands]
        await backend.queue.publish(0, entries)
        await processor.process((await backend.queue.read({0: processor.state.cursor}, 10, SOON))[0])

    header, messages = await backend.reader.messages("s", MessageRange())
    events = [decode_event(kept.payload) for kept in stored_partition(backend).events]
    assert messages == (message("m0", kept=True), message("m1"))
    assert (header.metadata, header.message_count) == ({"title": "New"}, 2)
    assert session_of(header, messages) == fold(happened for happened in events if happened)
    assert await backend.queue.read({0: START}, 10, 0) == {}
    assert await taken(backend.ownership, "worker-1") == replace(processor.state, token=stored_partition(backend).token)


async def test_a_malformed_entry_stays_where_it_is_while_too_many_wait() -> None:
    backend = MemoryBackend(1, max_backlog=1)
    malformed = backend.store._partitions[0].malformed
    malformed.append(MalformedEntry(RawEntry("1-0", {b"id": b"c"}), "Not JSON"))
    await backend.queue.publish(0, [command("c1")])
    with pytest.raises(Overloaded):
        await backend.quarantine.requeue(0, "1-0")
    assert len(malformed) == 1
