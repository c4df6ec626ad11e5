"""Values for the tests of single ports: batches made by hand, without any of the code that makes them otherwise."""

from collections.abc import Iterable
from datetime import datetime

from msgspec import Raw
from msgspec.structs import replace
from tests import builders

from turnstream.codec.records import milliseconds
from turnstream.domain.events import AnyEvent, EventMeta, MessageAdded, SessionDeleted
from turnstream.domain.models import ChatMessage, SessionConfig, SessionHeader, TokenMetrics
from turnstream.domain.prices import PriceSource
from turnstream.ports import (
    Backend,
    Batch,
    CommandEntry,
    Outcome,
    PartitionState,
    RecordedOutcome,
    Reply,
    SessionWrite,
    StoredHeader,
)

AT = builders.AT
ENTRY_MS = milliseconds(AT)
OUTCOME = Outcome("ok", "hash", 1, output=Raw(b"true"))
CLIENT = "client-1"


message = builders.message


def stored(session_id: str = "s", version: int = 1, updated_at: datetime = AT, message_count: int = 0) -> StoredHeader:
    header = SessionHeader(
        id=session_id,
        incarnation="first",
        version=version,
        config=SessionConfig("openai", "gpt-4", temperature=0.5, tools=("search",)),
        metrics=TokenMetrics(
            prompt_tokens=1,
            completion_tokens=2,
            total_tokens=3,
            estimated_cost=0.25,
            context_utilization=0.5,
            max_context_window=8_192,
            price_source=PriceSource.SPEC,
            context_tokens=7,
        ),
        message_count=message_count,
        next_position=message_count,
        created_at=AT,
        updated_at=updated_at,
        is_active=True,
        metadata={"topic": {"name": "ü", "levels": [1, 2.5, None, True]}},
    )
    return StoredHeader(header, last_sequence=1)


def created(session_id: str, message_ids: Iterable[str] = (), updated_at: datetime = AT) -> SessionWrite:
    """The write of a session that was not there before."""
    ids = list(message_ids)
    return SessionWrite(
        session_id,
        before=None,
        after=stored(session_id, updated_at=updated_at, message_count=len(ids)),
        cleared=True,
        put={i: message(i) for i in ids},
        placed={i: position for position, i in enumerate(ids)},
    )


def deleted(session_id: str, version: int = 1) -> SessionWrite:
    return SessionWrite(session_id, before=stored(session_id, version), cleared=True)


def event(sequence: int, session_id: str = "s", partition: int = 0) -> SessionDeleted:
    return SessionDeleted(
        session_id=session_id, incarnation="first", version=1, timestamp=AT, meta=_meta(sequence, partition)
    )


def added(sequence: int, body: ChatMessage, session_id: str = "s") -> MessageAdded:
    return MessageAdded(
        session_id=session_id, incarnation="first", version=1, timestamp=AT, message=body, meta=_meta(sequence, 0)
    )


def command(command_id: str, data: bytes = b'{"sessionId":"s"}', kind: str = "delete-session") -> CommandEntry:
    return CommandEntry(command_id, kind, data, correlation_id="å", traceparent="00-1-2-03")


def outcome(command_id: str, entry_ms: int = ENTRY_MS) -> RecordedOutcome:
    return RecordedOutcome(command_id, entry_ms, OUTCOME)


def batch_of(
    state: PartitionState,
    *writes: SessionWrite,
    events: Iterable[AnyEvent] | None = None,
    outcomes: Iterable[RecordedOutcome] = (),
    cursor: str | None = None,
) -> Batch:
    """Writes, with some events (by default one) and the cursor moved by one entry."""
    happened = [event(state.sequence + 1, partition=state.partition)] if events is None else list(events)
    sequence = state.sequence + len(happened)
    after = replace(
        state,
        cursor=cursor or f"{ENTRY_MS}-{sequence}",
        sequence=sequence,
        type_sequences={**state.type_sequences, **{e.type: e.meta.sequence for e in happened if e.meta}},
        passed=state.passed + 1,
    )
    return Batch(state, after, writes, happened, list(outcomes), {}, ())


def with_reply(batch: Batch, backend: Backend, reply: Reply) -> Batch:
    channel = backend.channels.reply_channel(batch.before.partition, CLIENT)
    return replace(batch, replies={channel: [reply]})


async def taken(backend: Backend, worker_id: str = "worker-1", partition: int = 0) -> PartitionState:
    await backend.ownership.beat(worker_id)
    state = await backend.ownership.take(partition, worker_id)
    assert state is not None
    return state


async def committed(backend: Backend, state: PartitionState, *writes: SessionWrite) -> PartitionState:
    """Commit writes, and return the partition's position after it."""
    batch = batch_of(state, *writes)
    await backend.store.commit(batch)
    return batch.after


def _meta(sequence: int, partition: int) -> EventMeta:
    return EventMeta(
        event_id=f"c:{sequence}",
        partition=partition,
        generation="g",
        sequence=sequence,
        previous_of_type=0,
        previous_of_session=0,
        command_id="c",
    )
