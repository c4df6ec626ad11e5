"""Listing: pages over all partitions, most recently updated first; a walk that meets every session once."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from hypothesis import example
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.given import AT, created, given, unhurried

from turnstream.adapters.memory import MemoryBackend
from turnstream.application.queries import session_list
from turnstream.application.queries.session_list import decode_cursor, encode_cursor, page, walk
from turnstream.codec.records import milliseconds
from turnstream.domain.commands import ListSessions
from turnstream.domain.models import SessionConfig, SessionHeader, SessionInfo, SessionPage, partition_of
from turnstream.errors import InvalidCommand
from turnstream.ports import Batch, IndexEntry, PartitionState, SessionWrite, StoredHeader

PARTITIONS = 4


class Sessions:
    """A deployment in memory whose sessions are written by hand, at any time."""

    def __init__(self) -> None:
        self.backend = MemoryBackend(PARTITIONS)
        self._states: dict[int, PartitionState] = {}
        self._stored: dict[str, StoredHeader] = {}

    async def put(self, *session_ids: str, seconds: int = 0, config: SessionConfig | None = None) -> None:
        """Create or update sessions, at a time."""
        for session_id in session_ids:
            await self._write(session_id, AT + timedelta(seconds=seconds), config or SessionConfig("openai", "gpt-4"))

    async def set_active(self, session_id: str, active: bool) -> None:
        before = self._stored[session_id]
        after = StoredHeader(replace(before.header, version=before.header.version + 1, is_active=active), 1)
        await self._commit(SessionWrite(session_id, before, after))

    async def delete(self, session_id: str) -> None:
        await self._commit(SessionWrite(session_id, self._stored.pop(session_id), cleared=True))

    async def page(
        self,
        limit: int = 100,
        cursor: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        is_active: bool | None = None,
    ) -> SessionPage:
        return await page(
            self.backend.reader,
            PARTITIONS,
            ListSessions(limit=limit, cursor=cursor, provider=provider, model=model, is_active=is_active),
        )

    async def pages(self, limit: int, provider: str | None = None) -> list[list[str]]:
        """Follow the cursors to the end."""
        found: list[list[str]] = []
        cursor: str | None = None
        while cursor or not found:
            one = await self.page(limit, cursor, provider)
            found.append(ids(one.sessions))
            cursor = one.next_cursor
        return found

    def walk(self) -> AsyncIterator[SessionInfo]:
        return walk(self.backend.reader, PARTITIONS, ListSessions())

    async def _write(self, session_id: str, time: datetime, config: SessionConfig) -> None:
        before = self._stored.get(session_id)
        first = given(created(config)).header
        assert first is not None
        version = before.header.version + 1 if before else 1
        header: SessionHeader = replace(first, id=session_id, version=version, updated_at=time)
        await self._commit(SessionWrite(session_id, before, StoredHeader(header, 1)))

    async def _commit(self, write: SessionWrite) -> None:
        partition = partition_of(write.session_id, PARTITIONS)
        state = self._states.get(partition) or await self.backend.ownership.take(partition, "worker-1")
        assert state is not None
        await self.backend.store.commit(Batch(state, state, [write], (), (), {}, ()))
        self._states[partition] = state
        if write.after:
            self._stored[write.session_id] = write.after


def ids(infos: Iterable[SessionInfo]) -> list[str]:
    return [info.id for info in infos]


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


# ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_no_sessions_are_one_empty_page(sessions: Sessions) -> None:
    assert await sessions.page() == SessionPage(sessions=())


async def test_should_list_all_sessions(sessions: Sessions) -> None:
    await sessions.put("one", config=SessionConfig("openai", "gpt-4"))
    await sessions.put("two", seconds=1, config=SessionConfig("anthropic", "claude-3-opus"))
    found = await sessions.page()
    assert [(info.id, info.provider, info.model) for info in found.sessions] == [
        *(("two", "anthropic", "claude-3-opus"), ("one", "openai", "gpt-4"))
    ]
    assert found.next_cursor is None


@unhurried
@for_all(st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 5), max_size=40), st.integers(1, 12))
def test_pages_hold_every_session_once_the_latest_first(updated: dict[str, int], limit: int) -> None:
    async def listed() -> list[list[str]]:
        sessions = Sessions()
        for session_id, seconds in updated.items():
            await sessions.put(session_id, seconds=seconds)
        return await sessions.pages(limit)

    pages = asyncio.run(listed())
    expected = [name for name, _ in sorted(updated.items(), key=lambda item: (item[1], item[0]), reverse=True)]
    assert [name for one in pages for name in one] == expected
    assert all(len(one) == limit for one in pages[:-1])


async def test_the_last_page_has_no_cursor_even_when_it_is_full(sessions: Sessions) -> None:
    await sessions.put(*"abcd")
    assert [len(one) for one in await sessions.pages(2)] == [2, 2]


async def test_more_sessions_than_are_read_at_a_time(sessions: Sessions) -> None:
    names = [f"{number:03}" for number in range(session_list.PAGE_CHUNK * PARTITIONS * 3)]
    for seconds, name in enumerate(names):
        await sessions.put(name, seconds=seconds)
    assert ids((await sessions.page(limit=1_000)).sessions) == names[::-1]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"provider": "acme"}, ["a3", "a2", "a1"]),
        ({"model": "small"}, ["a3", "b1", "a1"]),
        ({"provider": "acme", "model": "small"}, ["a3", "a1"]),
        ({"is_active": True}, ["a3", "b1", "a1"]),
        ({"is_active": False}, ["a2"]),
        ({"provider": "nobody"}, []),
        ({"provider": ""}, []),
    ],
)
async def test_filters(sessions: Sessions, query: dict[str, str], expected: list[str]) -> None:
    for seconds, (name, provider, model) in enumerate(
        [("a1", "acme", "small"), ("a2", "acme", "large"), ("b1", "best", "small"), ("a3", "acme", "small")]
    ):
        await sessions.put(name, seconds=seconds, config=SessionConfig(provider, model))
    await sessions.set_active("a2", active=False)
    found = await page(sessions.backend.reader, PARTITIONS, ListSessions(**query))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert ids(found.sessions) == expected


async def test_a_filter_fills_its_pages(sessions: Sessions) -> None:
    for seconds in range(60):
        config = SessionConfig("acme" if seconds % 3 == 0 else "best", "small")
        await sessions.put(f"{seconds:02}", seconds=seconds, config=config)
    pages = await sessions.pages(8, provider="acme")
    assert [len(one) for one in pages] == [8, 8, 4]
    assert [name for one in pages for name in one] == [f"{seconds:02}" for seconds in range(57, -1, -3)]


async def test_a_rare_filter_gives_a_short_page_with_a_cursor(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_list, "MAX_SCANNED", 64)
    await sessions.put("rare", config=SessionConfig("acme", "small"))
    for seconds in range(1, 400):
        await sessions.put(f"{seconds:03}", seconds=seconds)
    pages = await sessions.pages(8, provider="acme")
    assert len(pages) > 1
    assert [name for one in pages for name in one] == ["rare"]


async def test_a_session_updated_between_pages_moves_to_the_front(sessions: Sessions) -> None:
    for seconds, name in enumerate("abcd"):
        await sessions.put(name, seconds=seconds)
    first = await sessions.page(2)
    await sessions.put("a", seconds=9)
    second = await sessions.page(2, first.next_cursor)
    assert (ids(first.sessions), ids(second.sessions), second.next_cursor) == (["d", "c"], ["b"], None)


async def test_a_cursor_outlives_the_session_it_points_at(sessions: Sessions) -> None:
    for seconds, name in enumerate("abcd"):
        await sessions.put(name, seconds=seconds)
    first = await sessions.page(2)
    await sessions.delete("c")
    assert ids((await sessions.page(2, first.next_cursor)).sessions) == ["b", "a"]


# ── cursors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@unhurried
@for_all(st.builds(IndexEntry, st.integers(0, 2**53), st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_cursor_comes_back_as_it_was(entry: IndexEntry) -> None:
    assert decode_cursor(encode_cursor(entry)) == entry


def test_a_cursor_fits_into_a_url() -> None:
    assert quote(encode_cursor(IndexEntry(1, "??>>/+\u00e4")), safe="=") == encode_cursor(IndexEntry(1, "??>>/+\u00e4"))


@pytest.mark.parametrize("cursor", ["", "x", "hello", "AAAA", "\ud800", "bm90LWE6bnVtYmVy", "____"], ids=ascii)
def test_values_that_are_no_cursor(cursor: str) -> None:
    with pytest.raises(InvalidCommand) as caught:
        decode_cursor(cursor)
    assert caught.value.path == "$.cursor"


# ── the walk ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def collect(infos: AsyncIterator[SessionInfo]) -> list[str]:
    return [info.id async for info in infos]


async def test_a_walk_is_in_the_order_of_the_last_update(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_list, "WALK_CHUNK", 3)
    names: Sequence[str] = [f"{number:02}" for number in range(50)]
    for seconds, name in enumerate(names):
        await sessions.put(name, seconds=seconds // 2)
    assert await collect(sessions.walk()) == names


async def test_a_walk_meets_a_session_updated_during_it_once(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_list, "WALK_CHUNK", 1)
    names = [f"{number:02}" for number in range(20)]
    for seconds, name in enumerate(names):
        await sessions.put(name, seconds=seconds)
    met: list[str] = []
    async for info in sessions.walk():
        met.append(info.id)
        if len(met) == 5:
            await sessions.put(*names[::3], seconds=100)
    assert sorted(met) == names


async def test_a_walk_skips_a_session_deleted_during_it(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_list, "WALK_CHUNK", 1)
    for seconds, name in enumerate("abcdefgh"):
        await sessions.put(name, seconds=seconds)
    met: list[str] = []
    async for info in sessions.walk():
        met.append(info.id)
        if met == ["a"]:
            await sessions.delete("h")
    assert met == list("abcdefg")


async def test_a_walk_over_nothing(sessions: Sessions) -> None:
    assert await collect(sessions.walk()) == []


@unhurried
@for_all(st.integers(0, 2**42))
@example(2_147_494_271_127)
def test_the_index_counts_whole_milliseconds_as_stream_entries_do(entry_ms: int) -> None:
    assert milliseconds(datetime.fromtimestamp(entry_ms / 1000, UTC)) == entry_ms
