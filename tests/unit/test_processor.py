"""The owner of a partition at work: entries become commits, resends, bugs and queries among them."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from tests.unit.given import (
    CATALOGUE,
    REPLY_TO,
    SMALL,
    commands_on_one_session,
    entry,
    message,
    owner,
    raw,
    unhurried,
)

from turnstream.adapters.memory import MemoryBackend
from turnstream.application.processor import PartitionProcessor
from turnstream.codec.records import decode_output, error_of
from turnstream.domain import command_specs
from turnstream.domain.command_specs import COMMAND_SPECS, HANDLERS, OutputSpec
from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    AnyCommand,
    ChangingCommand,
    CreateSession,
    DeleteSession,
    GetSession,
    ListSessions,
    RedriveParked,
    RemoveMessages,
    UpdateMessage,
    UpdateTokenMetrics,
)
from turnstream.domain.events import MessageAdded, MessageRemoved
from turnstream.domain.handlers import Context, Decision, SessionView, next_change, require_session
from turnstream.domain.models import Session, SessionPage, session_of
from turnstream.domain.patches import ChatMessagePatch
from turnstream.domain.prices import Price, TokenUsage
from turnstream.errors import DuplicateMismatch, InvalidCommand, MessageAlreadyExists, Rejected, VersionConflict
from turnstream.ports import Batch, CommandEntry, Loaded, MessageRange, Needs, RawEntry, Reply, SessionStore
from turnstream.signals import BatchRefused, Fenced


class Recording:
    """A store that remembers what was asked of it."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self.loads: list[Needs] = []
        self.batches: list[Batch] = []

    async def load(self, partition: int, needs: Needs) -> Loaded:
        self.loads.append(needs)
        return await self._store.load(partition, needs)

    async def commit(self, batch: Batch) -> None:
        await self._store.commit(batch)
        self.batches.append(batch)

    @property
    def replies(self) -> list[Reply]:
        return [reply for batch in self.batches for reply in batch.replies.get(REPLY_TO, ())]

    @property
    def errors(self) -> list[Rejected]:
        return [error_of(reply.error) for reply in self.replies if reply.error]


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend(1)


@pytest.fixture
def store(backend: MemoryBackend) -> Recording:
    return Recording(backend.store)


@pytest.fixture
async def processor(backend: MemoryBackend, store: Recording) -> PartitionProcessor:
    return await owner(backend, store)


def entries(*commands: AnyCommand, first: int = 1) -> list[RawEntry]:
    return [raw(entry(command, f"c{number}"), number) for number, command in enumerate(commands, start=first)]


async def stored(backend: MemoryBackend, session_id: str = "s") -> Session:
    return session_of(*await backend.reader.messages(session_id, MessageRange()))


PROGRESS = cast("OutputSpec", COMMAND_SPECS[RedriveParked].output)
CREATE = CreateSession(SMALL, "s")
ADD = AddMessage("s", message("m1"))


# ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_entries_are_applied_in_one_commit(
    processor: PartitionProcessor, store: Recording, backend: MemoryBackend
) -> None:
    waiting = entries(CREATE, ADD, UpdateMessage("s", "m1", updates=ChatMessagePatch(metadata={"a": 1})))
    await processor.process(waiting)
    assert len(store.batches) == 1
    assert (processor.state.cursor, processor.state.sequence) == (waiting[-1].entry_id, 3)
    assert (await stored(backend)).messages == (message("m1", a=1),)


async def test_known_sessions_are_not_read_again(processor: PartitionProcessor, store: Recording) -> None:
    await processor.process(entries(CREATE))
    assert len(store.loads) == 1
    await processor.process(entries(ADD, UpdateTokenMetrics("s", prompt_tokens=1), first=2))
    assert len(store.loads) == 1


@unhurried
@for_all(
    st.lists(st.tuples(commands_on_one_session, st.integers(1, 6)), max_size=12),
    st.lists(st.integers(1, 5)),
    st.booleans(),
)
def test_however_entries_are_cut_into_batches_the_same_happens(
    numbered: list[tuple[ChangingCommand, int]], sizes: list[int], handed_over: bool
) -> None:
    """With few command ids, so that some are resent and some are used twice; with owners that know nothing."""
    commands = [(CREATE, "first"), *((command, f"c{number}") for command, number in numbered)]
    waiting = [raw(entry(command, command_id), n) for n, (command, command_id) in enumerate(commands)]
    one_by_one = asyncio.run(_applied(waiting, [1] * len(waiting), new_owners=True))
    assert asyncio.run(_applied(waiting, sizes, new_owners=handed_over)) == one_by_one


async def _applied(waiting: Sequence[RawEntry], sizes: Iterable[int], *, new_owners: bool) -> tuple[Any, ...]:
    """Apply entries in batches of these sizes, the rest in one; return all the results."""
    backend = MemoryBackend(1)
    store = Recording(backend.store)
    processor = await owner(backend, store, cached=1)
    for size in (*sizes, len(waiting)):
        if waiting:
            await processor.process(waiting[:size])
            waiting = waiting[size:]
        if new_owners:
            processor = await owner(backend, store)
    events = [msgspec.structs.replace(event, meta=None) for batch in store.batches for event in batch.events]
    replies = [msgspec.json.encode(reply) for reply in store.replies]
    sessions = [await stored(backend)] if await backend.reader.count() else []
    return events, replies, sessions


# ── resends ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("same_owner", [True, False])
async def test_a_resend_is_answered_as_it_was_and_not_applied(
    processor: PartitionProcessor, store: Recording, backend: MemoryBackend, same_owner: bool
) -> None:
    await processor.process(entries(CREATE, UpdateTokenMetrics("s", prompt_tokens=5), DeleteSession("t")))
    processor = processor if same_owner else await owner(backend, store)
    resent = [raw(entry(UpdateTokenMetrics("s", prompt_tokens=5), "c2"), 4), raw(entry(DeleteSession("t"), "c3"), 5)]
    await processor.process([*resent, *entries(ADD, first=6)])
    session = await stored(backend)
    assert (session.version, session.metrics.total_tokens) == (3, 5)
    replies = [msgspec.json.encode(reply) for reply in store.replies]
    assert replies[3:5] == replies[1:3]


async def test_the_same_id_with_another_payload_is_a_mismatch(
    processor: PartitionProcessor, store: Recording, backend: MemoryBackend
) -> None:
    await processor.process(entries(CREATE, UpdateTokenMetrics("s", prompt_tokens=5)))
    await processor.process([raw(entry(UpdateTokenMetrics("s", prompt_tokens=6), "c2"), 3)])
    assert [type(error) for error in store.errors] == [DuplicateMismatch]
    assert (await stored(backend)).metrics.total_tokens == 5


async def test_a_stored_message_is_refused_and_the_rest_of_the_batch_is_applied(
    processor: PartitionProcessor, store: Recording, backend: MemoryBackend
) -> None:
    await processor.process(entries(CREATE, ADD))
    await processor.process(entries(AddMessage("s", message("m2")), ADD, AddMessage("s", message("m3")), first=3))
    assert [error.fields for error in store.errors] == [MessageAlreadyExists("s", "m1").fields]
    assert [each.id for each in (await stored(backend)).messages] == ["m1", "m2", "m3"]


async def test_a_stored_message_is_refused_even_if_the_batch_removes_it_afterwards(
    processor: PartitionProcessor, store: Recording
) -> None:
    await processor.process(entries(CREATE, ADD))
    await processor.process(entries(ADD, DeleteSession("s"), first=3))
    assert [type(error) for error in store.errors] == [MessageAlreadyExists]


# ── what cannot be applied ───────────────────────────────────────────────────────────────────────────────────────────


async def test_unreadable_entries_are_quarantined_between_readable_ones(
    processor: PartitionProcessor, store: Recording, backend: MemoryBackend
) -> None:
    broken = raw(CommandEntry("c2", "add-message", b"{", REPLY_TO), 2)
    await processor.process([*entries(CREATE), broken, *entries(ADD, first=3)])
    assert [malformed.entry for malformed in store.batches[0].malformed] == [broken]
    assert {(reply.command_id, reply.status) for reply in store.replies} == {
        *(("c1", "ok"), ("c2", "rejected"), ("c3", "ok"))
    }
    assert (await stored(backend)).version == 2
    assert processor.state.cursor == entries(ADD, first=3)[0].entry_id


class Exploding:
    """A catalogue with a bug that the price of some call meets."""

    def context_window(self, model: str, provider: str | None) -> int:
        return CATALOGUE.context_window(model, provider)

    def price(self, usage: TokenUsage, model: str, provider: str | None, at: datetime) -> Price:
        if usage.prompt_tokens == 13:
            raise RuntimeError("a bug")
        return CATALOGUE.price(usage, model, provider, at)


async def test_a_bug_parks_only_its_own_session(store: Recording, backend: MemoryBackend) -> None:
    processor = await owner(backend, store, Exploding())
    bomb = UpdateTokenMetrics("s", prompt_tokens=13)
    other = CreateSession(SMALL, "t")
    await processor.process(
        entries(
            CREATE, bomb, UpdateTokenMetrics("s", prompt_tokens=5), other, ADD, UpdateTokenMetrics("t", prompt_tokens=5)
        )
    )
    assert len(store.batches) == 1
    assert [(reply.command_id, reply.status) for reply in store.replies] == [
        *(("c1", "ok"), ("c2", "parked"), ("c3", "parked"), ("c4", "ok"), ("c5", "parked"), ("c6", "ok"))
    ]
    assert ((await stored(backend)).version, (await stored(backend, "t")).version) == (1, 2)
    queue = await backend.quarantine.queue(0, "s", 10)
    assert [parked.entry for parked in queue] == [
        *(
            entries(bomb, first=2)[0],
            *entries(UpdateTokenMetrics("s", prompt_tokens=5), first=3),
            *entries(ADD, first=5),
        )
    ]


async def test_a_command_that_was_parked_twice_is_applied_once(store: Recording, backend: MemoryBackend) -> None:
    """Its resend came when the window had passed."""
    processor = await owner(backend, store, Exploding())
    bomb = entry(UpdateTokenMetrics("s", prompt_tokens=13), "c2")
    await processor.process([*entries(CREATE), raw(bomb, 2)])
    await processor.process([raw(bomb, 200), raw(entry(ADD, "c3"), 201)])
    processor = await owner(backend, store)
    redrive = raw(entry(RedriveParked(session_id="s"), "c4"), 400)
    await processor.process([redrive])
    assert store.batches[-1].parking is not None
    assert (await stored(backend)).metrics.total_tokens == 13
    assert [(reply.command_id, reply.status, reply.version) for reply in store.replies[-4:]] == [
        *(("c2", "ok", 2), ("c2", "ok", 2), ("c3", "ok", 3), ("c4", "ok", 0))
    ]
    # From the redrive on, a resend gets the outcome for a whole window.
    await processor.process([raw(bomb, 510)])
    assert (store.replies[-1].status, store.replies[-1].version) == ("ok", 2)
    assert (await stored(backend)).version == 3


async def test_a_redrive_that_fails_half_way_keeps_the_former_state(
    store: Recording, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = await owner(backend, store, Exploding())
    await processor.process(entries(CREATE, UpdateTokenMetrics("s", prompt_tokens=13), ADD, DeleteSession("s"), CREATE))

    def buggy(view: SessionView, command: DeleteSession, context: Context) -> Decision:
        stamped = next_change(require_session(view, command), context)
        return Decision(
            (stamped.create(MessageRemoved, message_id="m1"), stamped.create(MessageRemoved, message_id="gone"))
        )

    monkeypatch.setitem(cast("dict[Any, Any]", HANDLERS), DeleteSession, buggy)
    processor = await owner(backend, store)
    await processor.process([raw(entry(RedriveParked(session_id="s"), "c9"), 9)])
    session = await stored(backend)
    assert (session.version, session.messages) == (3, (message("m1"),))
    progress = decode_output(store.replies[-1].output, PROGRESS)
    assert (progress.done, progress.left, progress.error) == (2, 2, "The worker failed on it: KeyError")
    assert processor.state.sequence == 3


class Refusing(Recording):
    """A store that does not take a batch with one of some commands in it."""

    refused: frozenset[str] = frozenset()

    async def commit(self, batch: Batch) -> None:
        decided = {recorded.command_id for recorded in batch.outcomes if recorded.outcome.status != "parked"}
        redriven = {recorded.command_id for recorded in batch.parking.outcomes} if batch.parking else set[str]()
        if self.refused & (decided | redriven):
            raise BatchRefused(0, "it is a string")
        await super().commit(batch)


async def test_a_redrive_goes_as_far_as_the_store_takes_it(backend: MemoryBackend) -> None:
    store = Refusing(backend.store)
    store.refused = frozenset({"c1"})
    processor = await owner(backend, store)
    await processor.process(entries(CREATE, *(AddMessage("s", message(f"m{number}")) for number in range(9))))
    store.refused = frozenset({"c6"})
    operation = RedriveParked(session_id="s")
    for number in range(20, 30):
        await processor.process([raw(entry(operation, f"r{number}"), number)])
    progress = decode_output(store.replies[-1].output, PROGRESS)
    assert (progress.done, progress.left, progress.error) == (0, 5, "The store refused it: it is a string")
    assert len((await stored(backend)).messages) == 4
    store.refused = frozenset()
    await processor.process([raw(entry(operation, "last"), 30)])
    assert len((await stored(backend)).messages) == 9


async def test_a_bug_on_a_command_without_a_session_refuses_it(
    processor: PartitionProcessor, store: Recording, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy(command: AnyCommand) -> None:
        raise RuntimeError("a bug")

    await processor.process(entries(CREATE))
    nobody = raw(CommandEntry("c2", "delete-session", b'{"sessionId":""}', REPLY_TO), 2)
    with monkeypatch.context() as bug:
        bug.setattr(command_specs, "check_rules", buggy)
        await processor.process([nobody])
    await processor.process(entries(ADD, first=3))
    assert [(reply.command_id, reply.status) for reply in store.replies] == [
        *(("c1", "ok"), ("c2", "rejected"), ("c3", "ok"))
    ]
    assert "The worker failed on it: RuntimeError" in str(store.errors[0])
    assert await backend.quarantine.parked(0) == {}


async def test_large_commands_are_redriven_a_few_at_a_time(store: Recording, backend: MemoryBackend) -> None:
    processor = await owner(backend, store, Exploding())
    small = [UpdateTokenMetrics("s", prompt_tokens=number) for number in range(20, 120)]
    large = [AddMessage("s", message(f"m{number}", "x" * 400_000)) for number in range(4)]
    await processor.process(entries(CREATE, UpdateTokenMetrics("s", prompt_tokens=13), *large, *small))
    processor = await owner(backend, store)
    done: list[int] = []
    for number in range(400, 403):
        await processor.process([raw(entry(RedriveParked(session_id="s"), f"r{number}"), number)])
        done.append(decode_output(store.replies[-1].output, PROGRESS).done)
    assert [count for count in done if count] == [3, 102]
    assert (await stored(backend)).version == 106


async def test_remembered_sessions_are_read_again_before_a_command_is_parked(backend: MemoryBackend) -> None:
    store = Refusing(backend.store)
    store.refused = frozenset({"c3"})
    processor = await owner(backend, store)
    await processor.process(entries(CREATE, CreateSession(SMALL, "t")))
    store.loads.clear()
    await processor.process(entries(ADD, AddMessage("t", message("m1")), first=3))
    assert [{i: needs.header for i, needs in load.sessions.items()} for load in store.loads] == [
        *({"s": True}, {"s": True}, {"t": True})
    ]
    assert [reply.status for reply in store.replies] == ["ok", "ok", "parked", "ok"]


async def test_a_command_that_can_be_neither_applied_nor_parked_stops_the_partition(backend: MemoryBackend) -> None:
    store = Refusing(backend.store)
    processor = await owner(backend, store)
    await processor.process(entries(CREATE))
    broken = raw(CommandEntry("c2", "add-message", b"{", REPLY_TO), 2)
    store.refused = frozenset({"c3"})
    store._store = cast("SessionStore", _Closed())
    with pytest.raises(BatchRefused, match="is closed"):
        await processor.process([broken, *entries(ADD, first=3)])
    assert processor.state.cursor == entries(CREATE)[0].entry_id


class _Closed:
    async def load(self, partition: int, needs: Needs) -> Loaded:
        return Loaded({}, {})

    async def commit(self, batch: Batch) -> None:
        raise BatchRefused(0, "everything is closed")


async def test_a_bug_half_way_through_a_command_leaves_nothing_of_it(
    processor: PartitionProcessor, store: Recording, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy(view: SessionView, command: DeleteSession, context: Context) -> Decision:
        stamped = next_change(require_session(view, command), context)
        return Decision(
            (stamped.create(MessageAdded, message=message("m7")), stamped.create(MessageRemoved, message_id="gone"))
        )

    monkeypatch.setitem(cast("dict[Any, Any]", HANDLERS), DeleteSession, buggy)
    await processor.process(entries(CREATE, CreateSession(SMALL, "t"), DeleteSession("t"), ADD))
    assert (await stored(backend)).messages == (message("m1"),)
    assert [(event.type, event.session_id) for event in store.batches[0].events] == [
        *(("session-created", "s"), ("session-created", "t"), ("message-added", "s"))
    ]
    assert processor.state.sequence == 3
    assert [reply.status for reply in store.replies] == ["ok", "ok", "parked", "ok"]


async def test_a_bug_that_a_query_meets_does_not_stop_the_partition(
    store: Recording, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def buggy(session_id: str, wanted: MessageRange) -> object:
        raise RuntimeError(f"a bug on {session_id} {wanted}")

    monkeypatch.setattr(backend.reader, "messages", buggy)
    processor = await owner(backend, store)
    await processor.process(entries(CREATE, GetSession("s"), ADD))
    assert [(reply.command_id, reply.status) for reply in store.replies] == [
        ("c1", "ok"),
        ("c2", "rejected"),
        ("c3", "ok"),
    ]
    (aside,) = [malformed for batch in store.batches for malformed in batch.malformed]
    assert "The worker failed on it: RuntimeError" in aside.error


async def test_a_bug_is_logged_without_the_message(
    backend: MemoryBackend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy(view: SessionView, command: AddMessage, context: Context) -> Decision:
        raise RuntimeError(f"a bug on {command}")

    async def buggy_query(session_id: str, wanted: MessageRange) -> object:
        raise RuntimeError("a bug on a secret")

    monkeypatch.setitem(cast("dict[Any, Any]", HANDLERS), AddMessage, buggy)
    monkeypatch.setattr(backend.reader, "messages", buggy_query)
    secret = AddMessage("s", message("m1", "a secret"))
    await (await owner(backend)).process(entries(CREATE, secret, GetSession("s")))
    logged = [vars(record) for record in caplog.records if record.levelname == "ERROR"]
    assert [(record["msg"], record["command_id"], record["partition"]) for record in logged] == [
        *(("command parked", "c2", 0), ("query quarantined", "c3", 0))
    ]
    for record, innermost in zip(logged, ("buggy", "buggy_query"), strict=True):
        assert record["reason"] == "The worker failed on it: RuntimeError"
        assert re.match(rf"test_processor\.py:\d+ {innermost} < \w+\.py:\d+ \w+ < ", record["where"])
    assert not any("a secret" in str(vars(record)) for record in caplog.records)


class NoQueues(Recording):
    """A store that takes no parked command."""

    async def commit(self, batch: Batch) -> None:
        if batch.parking:
            raise BatchRefused(0, "no queues here")
        await super().commit(batch)


async def test_a_failure_to_park_is_reported_with_its_cause(
    backend: MemoryBackend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy(view: SessionView, command: AddMessage, context: Context) -> Decision:
        raise RuntimeError("a bug")

    monkeypatch.setitem(cast("dict[Any, Any]", HANDLERS), AddMessage, buggy)
    store = NoQueues(backend.store)
    await (await owner(backend, store)).process(entries(CREATE, ADD))
    reason = "The worker failed on it: RuntimeError. It cannot be parked: The store refused it: no queues here"
    (line,) = [vars(record) for record in caplog.records if record.levelname == "ERROR"]
    assert (line["msg"], line["reason"]) == ("command rejected: it cannot be parked", reason)
    assert re.match(r"test_processor\.py:\d+ buggy < ", line["where"])
    assert reason in str(store.errors)


@pytest.mark.parametrize(
    ("fields", "command_id", "error"),
    [
        ({b"id": b"c9", b"type": b'it\'s a "secret"'}, "c9", "Unknown command type … - at `type`"),
        (
            {
                b"id": b"c9",
                b"type": b"update-message",
                b"data": b'{"sessionId":"s","messageId":"m","updates":{"role":"a\'secret"}}',
            },
            "c9",
            "Invalid enum value … - at `$.updates.role`",
        ),
        ({b"id": b"\xff", b"type": b"a secret"}, None, "Expected UTF-8 text - at `id`"),
    ],
)
async def test_quarantined_entries_are_logged_by_id_without_content(
    processor: PartitionProcessor,
    caplog: pytest.LogCaptureFixture,
    fields: dict[bytes, bytes],
    command_id: str | None,
    error: str,
) -> None:
    await processor.process([RawEntry("1-0", fields), RawEntry("2-0", {})])
    (logged,) = [vars(record) for record in caplog.records if record.message == "entries quarantined"]
    assert (logged["first"], logged["count"], logged["partition"]) == ("1-0", 2, 0)
    assert (logged["command_id"], logged["error"]) == (command_id, error)
    assert not any("secret" in str(vars(record)) for record in caplog.records)


async def test_a_former_owner_writes_nothing(
    processor: PartitionProcessor, store: Recording, backend: MemoryBackend
) -> None:
    await processor.process(entries(CREATE))
    successor = await owner(backend, store)
    with pytest.raises(Fenced):
        await processor.process(entries(ADD, first=2))
    await successor.process(entries(AddMessage("s", message("m2")), first=2))
    assert (await stored(backend)).messages == (message("m2"),)


async def test_a_commit_that_fails_leaves_the_owner_where_it_was(
    processor: PartitionProcessor, backend: MemoryBackend
) -> None:
    await processor.process(entries(CREATE))
    before = processor.state
    await owner(backend)
    with pytest.raises(Fenced):
        await processor.process(entries(ADD, first=2))
    assert processor.state is before


async def test_a_small_cache_forgets_and_reads_again(store: Recording, backend: MemoryBackend) -> None:
    processor = await owner(backend, store, cached=1)
    on_t = CreateSession(SMALL, "t"), AddMessage("t", message("m1"))
    commands: list[AnyCommand] = [CREATE, on_t[0], ADD, on_t[1], UpdateTokenMetrics("s", prompt_tokens=1)]
    for number, command in enumerate(commands, start=1):
        await processor.process(entries(command, first=number))
    assert ((await stored(backend)).version, (await stored(backend, "t")).version) == (3, 2)
    assert store.errors == []


async def test_a_deleted_session_is_forgotten(processor: PartitionProcessor, backend: MemoryBackend) -> None:
    commands: list[AnyCommand] = [CREATE, ADD, DeleteSession("s"), CREATE]
    for number, command in enumerate(commands, start=1):
        await processor.process(entries(command, first=number))
    session = await stored(backend)
    assert (session.version, session.messages) == (1, ())


# ── queries over the stream ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_query_sees_earlier_commands_and_no_later_ones(
    processor: PartitionProcessor, store: Recording, backend: MemoryBackend
) -> None:
    get = GetSession("s")
    await processor.process(entries(get, CREATE, get, ADD, get, DeleteSession("s"), get))
    queries = [reply for reply in store.replies if reply.command_id in {"c1", "c3", "c5", "c7"}]
    outputs = [cast("msgspec.Raw", reply.output) for reply in queries]
    answers = [msgspec.json.decode(output) for output in outputs]
    assert [answer and answer["version"] for answer in answers] == [None, 1, 2, None]


async def test_a_listing_over_the_stream(processor: PartitionProcessor, store: Recording) -> None:
    await processor.process(entries(CREATE, CreateSession(SMALL, "t"), ListSessions(limit=1)))
    page = msgspec.json.decode(cast("msgspec.Raw", store.replies[-1].output), type=SessionPage)
    assert [info.id for info in page.sessions] == ["t"]
    assert page.next_cursor is not None


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (b'{"sessionId":"s","expectedVersion":7}', VersionConflict("s", 7, 1)),
        (b'{"sessionId":""}', InvalidCommand("$.sessionId", "Expected an id, got an empty string")),
    ],
)
async def test_a_query_can_be_rejected(
    processor: PartitionProcessor, store: Recording, query: bytes, error: Rejected
) -> None:
    await processor.process([*entries(CREATE), raw(CommandEntry("c2", "get-session", query, REPLY_TO), 2)])
    assert [(type(each), each.fields) for each in store.errors] == [(type(error), error.fields)]


async def test_a_query_without_a_waiting_client_is_skipped(processor: PartitionProcessor, store: Recording) -> None:
    query = raw(entry(GetSession("s"), reply_to=None), 2)
    await processor.process([*entries(CREATE), query])
    assert processor.state.cursor == query.entry_id
    assert [reply.command_id for reply in store.replies] == ["c1"]


async def test_an_answer_that_is_too_large_names_the_way_to_read_it(
    processor: PartitionProcessor, store: Recording
) -> None:
    large = [AddMessages("s", (message(f"m{number}", "x" * 600_000),)) for number in range(2)]
    await processor.process(entries(CREATE, *large, GetSession("s")))
    assert ["ts.sessions.messages" in str(error) for error in store.errors] == [True]


async def test_removed_messages_come_back_in_the_reply(processor: PartitionProcessor, store: Recording) -> None:
    await processor.process(entries(CREATE, ADD, RemoveMessages("s", last=3)))
    output = cast("msgspec.Raw", store.replies[-1].output)
    assert msgspec.json.decode(output)[0]["id"] == "m1"
