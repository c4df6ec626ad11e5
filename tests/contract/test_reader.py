"""The reader: the part of the repository that any client may read."""

import asyncio
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from tests.contract.chats import texts_of
from tests.contract.samples import AT, ENTRY_MS, committed, created, message, stored, taken

from turnstream.domain.models import ChatMessage, SessionInfo, info_of, partition_of
from turnstream.errors import MessageNotFound, SessionNotFound
from turnstream.ports import Backend, IndexEntry, MessageRange, PartitionState, SessionWrite

LONG = [f"m{number:04}" for number in range(2_500)]
"""The messages of a session that is read in several pieces."""


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 1}


@pytest.fixture
async def state(backend: Backend) -> PartitionState:
    return await taken(backend)


async def ids(backend: Backend, wanted: MessageRange) -> list[str]:
    header, messages = await backend.reader.messages("s", wanted)
    assert header.id == "s"
    return [found.id for found in messages]


def cut(all_ids: list[str], wanted: MessageRange) -> list[str]:
    """The model of a range: slices of a list."""
    start = all_ids.index(wanted.after) + 1 if wanted.after else 0
    end = all_ids.index(wanted.before) if wanted.before else len(all_ids)
    between = all_ids[start:end]
    if wanted.count is None:
        return between
    return between[max(len(between) - wanted.count, 0) :] if wanted.from_end else between[: wanted.count]


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_range_of_a_short_session(backend: Backend, state: PartitionState) -> None:
    await committed(backend, state, created("s", "abcde"))
    bounds = (None, "a", "c", "d", "e")
    for after, before, count, from_end in product(bounds, bounds, (None, 0, 1, 2, 5, 9), (False, True)):
        wanted = MessageRange(after, before, count, from_end)
        assert await ids(backend, wanted) == cut(list("abcde"), wanted), wanted


async def test_ranges_of_a_long_session_are_read_in_pieces(backend: Backend, state: PartitionState) -> None:
    await committed(backend, state, created("s", LONG))
    bounds = ((None, None), (LONG[3], None), (None, LONG[-3]), (LONG[499], LONG[1_500]), (LONG[100], LONG[2_200]))
    for (after, before), count, from_end in product(bounds, (None, 999, 1_000, 1_001, 2_000), (False, True)):
        wanted = MessageRange(after, before, count, from_end)
        assert await ids(backend, wanted) == cut(LONG, wanted), wanted


async def test_places_are_never_reused(backend: Backend, state: PartitionState) -> None:
    state = await committed(backend, state, created("s", "abcd"))
    moved = SessionWrite("s", stored(message_count=4), stored(version=2, message_count=4), removed={"b"})
    moved.put["b"], moved.placed["b"] = message("b"), 4
    await committed(backend, state, moved)
    assert await ids(backend, MessageRange()) == list("acdb")
    assert await ids(backend, MessageRange(after="a", before="b")) == list("cd")


async def test_messages_come_with_the_header(backend: Backend, state: PartitionState) -> None:
    await committed(backend, state, created("s", "ab"))
    header, messages = await backend.reader.messages("s", MessageRange(count=1))
    assert header == stored(message_count=2).header
    assert messages == (message("a"),)


@pytest.mark.parametrize("wanted", [MessageRange(), MessageRange(after="a"), MessageRange(count=1, from_end=True)])
async def test_a_missing_session(backend: Backend, wanted: MessageRange) -> None:
    with pytest.raises(SessionNotFound) as missing:
        await backend.reader.messages("gone", wanted)
    assert missing.value.session_id == "gone"


@pytest.mark.parametrize(
    "wanted",
    [
        MessageRange(after="gone"),
        MessageRange(before="gone", count=1),
        MessageRange(after="a", before="gone", count=2_000),
    ],
)
async def test_a_range_needs_its_bounds(backend: Backend, state: PartitionState, wanted: MessageRange) -> None:
    await committed(backend, state, created("s", "a"))
    with pytest.raises(MessageNotFound) as missing:
        await backend.reader.messages("s", wanted)
    assert (missing.value.session_id, missing.value.message_id) == ("s", "gone")


async def test_a_long_session_changed_during_the_read_is_read_as_one_version(
    backend: Backend, peer: Backend, state: PartitionState
) -> None:
    """Every commit writes its version into the first and the last message, which are in different pieces."""
    state = await committed(backend, state, created("s", LONG))
    state = await committed(backend, state, stamped(1))
    versions: set[int] = set()
    reading = asyncio.create_task(read_whole(peer))
    for version in range(2, 60):
        state = await committed(backend, state, stamped(version))
        await asyncio.sleep(0)
        if reading.done():
            versions |= await reading
            reading = asyncio.create_task(read_whole(peer))
    versions |= await reading | await read_whole(peer)
    assert 60 in versions


def stamped(version: int) -> SessionWrite:
    """The write that leads from a version to the next one, and says so in two messages."""
    before, after = (stored(version=v, message_count=len(LONG)) for v in (version, version + 1))
    put = {i: message(i, str(version + 1)) for i in (LONG[0], LONG[-1])}
    return SessionWrite("s", before, after, put=put)


async def read_whole(backend: Backend) -> set[int]:
    """Return the version that was read."""
    header, messages = await backend.reader.messages("s", MessageRange())
    assert len(messages) == len(LONG)
    assert texts_of((messages[0], messages[-1])) in (["Hello"] * 2, [str(header.version)] * 2)
    return {header.version}


async def test_read_values_can_be_changed_without_harm(backend: Backend, state: PartitionState) -> None:
    write = created("s", "a")
    write.put["a"] = message("a", tags={"kept": True})
    await committed(backend, state, write)
    for _ in range(2):
        header, (found,) = await backend.reader.messages("s", MessageRange())
        assert (header.metadata, found) == (stored().header.metadata, message("a", tags={"kept": True}))
        spoil(found)
        assert header.metadata is not None
        header.metadata.clear()


def spoil(found: ChatMessage) -> None:
    assert found.metadata is not None
    found.metadata["tags"]["kept"] = False


# ── the listing ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_infos_come_in_the_order_asked_for(backend: Backend, state: PartitionState) -> None:
    later = AT + timedelta(seconds=1)
    await committed(backend, state, created("a", "m"), created("b", updated_at=later))
    infos = await backend.reader.infos(["b", "gone", "a", "b"])
    assert infos == [
        info_of(stored("b", updated_at=later).header),
        None,
        info_of(stored("a", message_count=1).header),
        info_of(stored("b", updated_at=later).header),
    ]
    assert await backend.reader.infos([]) == []


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
async def test_pages_of_the_index_in_order_with_equal_milliseconds(
    backend: Backend, state: PartitionState, count: int, newest_first: bool
) -> None:
    times = {f"s{number:02}": ENTRY_MS + number // 10 for number in range(30)}
    writes = [created(i, updated_at=AT + timedelta(milliseconds=ms - ENTRY_MS)) for i, ms in times.items()]
    await committed(backend, state, *writes)
    expected = sorted((IndexEntry(ms, i) for i, ms in times.items()), reverse=newest_first)

    found: list[IndexEntry] = []
    while page := await backend.reader.index(0, found[-1] if found else None, count, newest_first=newest_first):
        assert len(page) <= count
        found += page
    assert found == expected


@pytest.mark.parametrize("newest_first", [True, False])
async def test_the_index_continues_after_a_missing_position(
    backend: Backend, state: PartitionState, newest_first: bool
) -> None:
    await committed(backend, state, *(created(i) for i in "abde"))
    found = await backend.reader.index(0, IndexEntry(ENTRY_MS, "c"), 10, newest_first=newest_first)
    assert "".join(entry.session_id for entry in found) == ("ba" if newest_first else "de")


async def test_an_update_moves_a_session_to_the_end(backend: Backend, state: PartitionState) -> None:
    state = await committed(backend, state, *(created(i) for i in "abc"))
    later = stored("a", version=2, updated_at=AT + timedelta(milliseconds=1))
    await committed(backend, state, SessionWrite("a", stored("a"), later))
    found = await backend.reader.index(0, None, 10, newest_first=False)
    assert found == [IndexEntry(ENTRY_MS, "b"), IndexEntry(ENTRY_MS, "c"), IndexEntry(ENTRY_MS + 1, "a")]


async def test_no_place_is_passed_over_while_others_move(
    backend: Backend, peer: Backend, state: PartitionState
) -> None:
    """Sessions before a position move to the end, one by one, while the positions from there on are read."""
    names = [f"s{number:03}" for number in range(250)]
    state = await committed(backend, state, *(created(i) for i in names))
    moving = asyncio.create_task(move(backend, state, names[:200]))
    while not moving.done():
        found = await peer.reader.index(0, IndexEntry(ENTRY_MS, names[199]), 50, newest_first=False)
        assert [entry.session_id for entry in found] == names[200:]
        await asyncio.sleep(0)
    await moving


async def move(backend: Backend, state: PartitionState, names: list[str]) -> None:
    for moved, name in enumerate(names):
        later = stored(name, version=2, updated_at=AT + timedelta(seconds=1 + moved))
        state = await committed(backend, state, SessionWrite(name, stored(name), later))


@pytest.mark.parametrize("overrides", [{"partitions": 4}])
async def test_sessions_of_all_partitions_are_counted_and_found(backend: Backend) -> None:
    assert await backend.reader.count() == 0
    names = [f"session-{number}" for number in range(0, 10_000, 500)]
    for partition in range(4):
        own = [name for name in names if partition_of(name, 4) == partition]
        assert own
        await committed(backend, await taken(backend, partition=partition), *(created(name) for name in own))
    assert await backend.reader.count() == 20
    infos = await backend.reader.infos(names)
    assert [info.id if isinstance(info, SessionInfo) else None for info in infos] == names
