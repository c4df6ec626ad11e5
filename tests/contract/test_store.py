"""The store, as the owner of a partition uses it: a commit is stored whole or not at all."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.contract.deployments import Deployment, not_on_fakeredis
from tests.contract.samples import (
    AT,
    CLIENT,
    ENTRY_MS,
    OUTCOME,
    added,
    batch_of,
    command,
    committed,
    created,
    deleted,
    event,
    message,
    outcome,
    stored,
    taken,
    with_reply,
)

from turnstream.codec.events import decode_event
from turnstream.codec.records import decode_replies
from turnstream.domain.events import AnyEvent
from turnstream.ports import (
    START,
    Backend,
    Batch,
    LoadedSession,
    MalformedEntry,
    MessageRange,
    Needs,
    PartitionState,
    RawEntry,
    Reply,
    SessionNeeds,
    SessionWrite,
)
from turnstream.signals import Collision, Fenced

MANY = 5_000
"""More than one command inside a script can take."""


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 1, "deduplication_window": 60.0}


@pytest.fixture
async def state(backend: Backend) -> PartitionState:
    return await taken(backend)


async def session(backend: Backend, session_id: str, **needs: Any) -> LoadedSession:  # noqa: ANN401 - of several types
    loaded = await backend.store.load(0, Needs({session_id: SessionNeeds(**needs)}, {}))
    return loaded.sessions[session_id]


async def ids(backend: Backend, session_id: str = "s") -> list[str]:
    _, messages = await backend.reader.messages(session_id, MessageRange())
    return [found.id for found in messages]


# ── what is committed is there ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_committed_session_is_loaded_as_it_was(backend: Backend, state: PartitionState) -> None:
    await committed(backend, state, created("s", ["m0", "m1", "m2"]))
    found = await session(backend, "s", message_ids={"m0", "unknown"}, tail=2)
    assert found.stored == stored("s", message_count=3)
    assert found.messages["m0"] == message("m0")
    assert "unknown" not in found.messages
    assert found.tail == (message("m1"), message("m2"))


async def test_only_needed_data_is_loaded(backend: Backend, state: PartitionState) -> None:
    await committed(backend, state, created("s", ["m0", "m1"]))
    assert await session(backend, "s", header=False) == LoadedSession(None, {})
    assert (await session(backend, "s", tail=9)).tail == (message("m0"), message("m1"))
    assert await session(backend, "absent", message_ids={"m0"}, tail=1) == LoadedSession(None, {})


async def test_the_next_owner_starts_where_the_last_commit_stopped(
    deployment: Deployment, backend: Backend, peer: Backend, state: PartitionState
) -> None:
    last = await committed(backend, state, created("s"))
    await backend.ownership.release([last])
    assert replace(await taken(peer, "worker-2"), token=last.token) == last


async def test_a_later_commit_changes_only_its_own_fields(backend: Backend, state: PartitionState) -> None:
    state = await committed(backend, state, created("s", ["m0", "m1"]), created("other", ["m0"]))
    before = await session(backend, "other", tail=9)
    change = SessionWrite(
        "s",
        stored(message_count=2),
        stored(version=2, message_count=2),
        put={"m0": message("m0", "Changed", kept={"a": [1]})},
    )
    await committed(backend, state, change)
    found = await session(backend, "s", tail=9)
    assert found.stored == stored(version=2, message_count=2)
    assert found.tail == (message("m0", "Changed", kept={"a": [1]}), message("m1"))
    assert await session(backend, "other", tail=9) == before


async def test_a_write_clears_then_removes_then_puts(backend: Backend, state: PartitionState) -> None:
    state = await committed(backend, state, created("s", ["m0", "m1", "m2"]))
    moved = SessionWrite("s", stored(), stored(version=2), removed={"m0"}, put={"m0": message("m0")}, placed={"m0": 3})
    state = await committed(backend, state, moved)
    assert await ids(backend) == ["m1", "m2", "m0"]

    replaced = SessionWrite("s", stored(version=2), stored(version=3), cleared=True, put={"n": message("n")})
    replaced.placed["n"] = 4
    await committed(backend, state, replaced)
    assert await ids(backend) == ["n"]
    assert (await session(backend, "s", message_ids={"m0", "n"})).messages == {"n": message("n")}


async def test_a_deleted_session_leaves_nothing(
    deployment: Deployment, backend: Backend, state: PartitionState
) -> None:
    state = await committed(backend, state, created("secret", ["m"]))
    await committed(backend, state, deleted("secret"))
    assert [name for name in await deployment.names() if "secret" in name] == []
    assert await backend.reader.index(0, None, 10, newest_first=True) == []
    assert await backend.reader.count() == 0


async def test_deleted_and_created_again_in_one_batch(backend: Backend, state: PartitionState) -> None:
    state = await committed(backend, state, created("s", ["m0", "m1"]))
    again = created("s", ["n"])
    again.before = stored()
    await committed(backend, state, again)
    assert await ids(backend) == ["n"]
    assert (await session(backend, "s")).stored == again.after


@not_on_fakeredis
async def test_a_batch_is_larger_than_any_command_of_the_server(backend: Backend, state: PartitionState) -> None:
    numbered = [f"m{number}" for number in range(MANY)]
    outcomes = [outcome(i) for i in numbered]
    happened = [added(state.sequence + 1 + n, message(i)) for n, i in enumerate(numbered)]
    batch = batch_of(state, created("s", numbered), events=happened, outcomes=outcomes)
    await backend.store.commit(batch)
    assert await ids(backend) == numbered
    loaded = await backend.store.load(0, Needs({"s": SessionNeeds(tail=MANY)}, dict.fromkeys(numbered, ENTRY_MS)))
    assert len(loaded.outcomes) == len(loaded.sessions["s"].tail) == MANY

    needs = Needs({"s": SessionNeeds(message_ids=set(numbered))}, {})
    assert len((await backend.store.load(0, needs)).sessions["s"].messages) == MANY
    emptied = SessionWrite("s", stored(message_count=MANY), stored(version=2), removed=set(numbered))
    await committed(backend, batch.after, emptied)
    assert await ids(backend) == []


# ── events, replies, entries ─────────────────────────────────────────────────────────────────────────────────────────


async def test_events_are_kept_and_announced_in_their_order(
    deployment: Deployment, backend: Backend, peer: Backend, state: PartitionState
) -> None:
    happened: list[AnyEvent] = [added(1, message("m")), event(2), added(3, message("n"))]
    channels = peer.channels.event_channels(["message-added", "session-deleted"], None)
    listener = await peer.channels.subscribe(channels)
    of_session = await peer.channels.subscribe(peer.channels.event_channels([], "s"))
    await backend.store.commit(batch_of(state, events=happened))

    assert await deployment.events(0) == happened
    heard, heard_of_session = aiter(listener), aiter(of_session)
    assert [decode_event((await anext(heard))[1]) for _ in happened] == happened
    assert [decode_event((await anext(heard_of_session))[1]) for _ in happened] == happened
    await listener.aclose()
    await of_session.aclose()


async def test_replies_reach_the_channel_of_their_client(
    backend: Backend, peer: Backend, state: PartitionState
) -> None:
    listener = await peer.channels.subscribe([peer.channels.reply_channel(0, CLIENT)])
    reply = Reply("c", "ok", 7)
    await backend.store.commit(with_reply(batch_of(state), backend, reply))
    channel, payload = await anext(aiter(listener))
    assert channel == peer.channels.reply_channel(0, CLIENT)
    assert decode_replies(payload) == (reply,)
    await listener.aclose()


async def test_a_commit_removes_the_applied_entries_from_the_stream(
    deployment: Deployment, backend: Backend, state: PartitionState
) -> None:
    await backend.queue.publish(0, [command("c1"), command("c2"), command("c3")])
    entries = (await backend.queue.read({0: START}, 10, 1.0))[0]
    await backend.store.commit(batch_of(state, cursor=entries[1].entry_id))
    assert await deployment.backlog(0) == 1
    assert await backend.queue.read({0: START}, 10, 1.0) == {0: entries[2:]}


async def test_malformed_entries_are_quarantined_shortened(
    deployment: Deployment, backend: Backend, state: PartitionState
) -> None:
    fields = {b"%d" % number: b"x" * 100_000 for number in range(60)}
    malformed = [MalformedEntry(RawEntry("1-0", fields), "Not JSON"), MalformedEntry(RawEntry("1-1", {}), "Nothing")]
    await backend.store.commit(replace(batch_of(state), malformed=malformed))
    long, empty = await deployment.malformed(0)
    assert (long.entry_id, long.error, len(long.fields)) == ("1-0", "Not JSON", 50)
    assert max(map(len, long.fields.values())) == 65_536
    assert (empty.entry_id, empty.error, empty.fields) == ("1-1", "Nothing", {})


# ── outcomes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def known(backend: Backend, command_id: str, entry_ms: int) -> bool:
    loaded = await backend.store.load(0, Needs({}, {command_id: entry_ms}))
    assert loaded.outcomes in ({}, {command_id: OUTCOME})
    return bool(loaded.outcomes)


@pytest.mark.parametrize("later", [0, 1, 59_999, 60_000])
async def test_an_outcome_is_known_within_the_window(backend: Backend, state: PartitionState, later: int) -> None:
    await backend.store.commit(batch_of(state, outcomes=[outcome("c")]))
    assert await known(backend, "c", ENTRY_MS + later)
    assert not await known(backend, "other", ENTRY_MS + later)


async def test_outcomes_are_forgotten_when_the_cursor_has_left_the_window(
    deployment: Deployment, backend: Backend, state: PartitionState
) -> None:
    for seconds in range(0, 600, 20):
        entry_ms = ENTRY_MS + seconds * 1_000
        batch = batch_of(state, outcomes=[outcome(f"c{seconds}", entry_ms)], cursor=f"{entry_ms}-0")
        await backend.store.commit(batch)
        state = batch.after
        assert await known(backend, f"c{max(seconds - 60, 0)}", entry_ms)
    assert not await known(backend, "c0", ENTRY_MS)
    assert len([name for name in await deployment.names() if "outcomes" in name]) <= 2


# ── all or nothing ───────────────────────────────────────────────────────────────────────────────────────────────────

WrongBatch = Callable[[PartitionState], Batch]
ABSENT = SessionWrite("absent", stored("absent"), stored("absent", version=2))
NEWER = SessionWrite("s", stored(version=2), stored(version=3))
FENCED: dict[str, WrongBatch] = {
    "token": lambda state: batch_of(replace(state, token="0-none")),
    "cursor": lambda state: batch_of(replace(state, cursor="1-0")),
    "sequence": lambda state: batch_of(replace(state, sequence=state.sequence + 1)),
    "version: it is there": lambda state: batch_of(state, created("s")),
    "version: another one": lambda state: batch_of(state, NEWER),
    "version: of the last session": lambda state: batch_of(state, created("new"), created("newer"), ABSENT),
}


async def unchanged_by(deployment: Deployment, backend: Backend, batch: Batch, error: type[Exception]) -> Exception:
    """Commit a batch that is refused; no part of it may be stored or published."""
    waiting = command("waiting")
    await backend.queue.publish(0, [waiting])
    heard = await backend.channels.subscribe(
        [*backend.channels.event_channels([], None), backend.channels.reply_channel(0, CLIENT)],
    )
    before = await deployment.dump()
    with pytest.raises(error) as refused:
        await backend.store.commit(with_reply(batch, backend, Reply("c", "ok", 1)))
    assert await deployment.dump() == before
    # The first event received comes from the next commit.
    state = await taken(backend)
    await backend.store.commit(with_reply(batch_of(state, events=()), backend, Reply("next", "ok", 1)))
    assert decode_replies((await anext(aiter(heard)))[1]) == (Reply("next", "ok", 1),)
    await heard.aclose()
    return refused.value


@pytest.mark.parametrize("wrong", FENCED)
async def test_a_fenced_commit_writes_nothing(
    deployment: Deployment, backend: Backend, state: PartitionState, wrong: str
) -> None:
    state = await committed(backend, state, created("s", ["m"]))
    error = await unchanged_by(deployment, backend, FENCED[wrong](state), Fenced)
    assert isinstance(error, Fenced)
    assert (error.partition, error.reason) == (0, wrong.partition(":")[0])


@not_on_fakeredis
async def test_a_commit_to_another_history_writes_nothing(
    deployment: Deployment, backend: Backend, state: PartitionState
) -> None:
    state = await committed(backend, state, created("s", ["m"]))
    another = batch_of(replace(state, replication_id="0" * 40), created("new"))
    error = await unchanged_by(deployment, backend, another, Fenced)
    assert isinstance(error, Fenced)
    assert error.reason == "replid"


async def test_a_partition_without_an_owner_is_not_written(backend: Backend) -> None:
    with pytest.raises(Fenced, match="token"):
        await backend.store.commit(batch_of(PartitionState(0, "", "", START, "g", 0, {})))


async def test_sequences_are_compared_to_the_last_digit(
    deployment: Deployment, backend: Backend, state: PartitionState
) -> None:
    exact = 2**53
    await backend.store.commit(replace(batch_of(state, events=()), after=replace(state, sequence=exact)))
    with pytest.raises(Fenced, match="sequence"):
        await backend.store.commit(batch_of(replace(state, sequence=exact + 1), events=()))
    assert (await taken(backend)).sequence == exact


async def test_a_batch_that_did_not_look_for_an_outcome_is_refused(
    deployment: Deployment, backend: Backend, state: PartitionState
) -> None:
    first = batch_of(state, outcomes=[outcome("c")])
    await backend.store.commit(first)
    again = batch_of(first.after, created("s"), outcomes=[outcome("new"), outcome("c", ENTRY_MS + 59_000)])
    await unchanged_by(deployment, backend, again, Collision)


async def test_a_batch_that_did_not_look_for_a_message_is_refused(
    deployment: Deployment, backend: Backend, state: PartitionState
) -> None:
    state = await committed(backend, state, created("s", ["m"]))
    write = SessionWrite("s", stored(message_count=1), stored(version=2), unseen={"new", "m"})
    write.put = {i: message(i, "Another") for i in write.unseen}
    await unchanged_by(deployment, backend, batch_of(state, created("t"), write), Collision)


async def test_written_values_can_be_changed_without_harm(backend: Backend, state: PartitionState) -> None:
    write = created("s", ["m"])
    assert write.after is not None
    assert write.after.header.metadata is not None
    await backend.store.commit(batch_of(state, write))
    write.after.header.metadata.clear()
    write.put.clear()

    first = await session(backend, "s", tail=1)
    assert first.stored is not None
    assert first.stored.header.metadata is not None
    first.stored.header.metadata.clear()
    again = await session(backend, "s", tail=1)
    assert (again.stored, again.tail) == (stored(message_count=1), (message("m"),))
    assert again.stored is not None
    assert again.stored.header.updated_at == AT
