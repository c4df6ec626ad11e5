"""`ts.sessions`: the repository (docs/contract.md, Repository)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.contract.chats import CONFIG, a_session, messages_of, texts_of
from tests.waiting import wait_until

from turnstream import (
    AddMessage,
    AddMessages,
    ChatMessage,
    CreateSession,
    DeleteSession,
    InvalidCommand,
    SessionAlreadyExists,
    SessionConfig,
    SessionInfo,
    SessionNotFound,
    TextContent,
    Turnstream,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
    user_message,
)
from turnstream.commands import ChatMessagePatch, Command, GetSession, ListSessions, SessionPatch
from turnstream.errors import MessageNotFound

# ── the methods of the contract ───────────────────────────────────────────────────────────────────────────────────────


async def test_sessions_come_and_go(ts: Turnstream) -> None:
    created = await ts.execute(CreateSession(CONFIG, "s", metadata={"a": 1}))
    assert created.metadata == {"a": 1}
    assert await ts.sessions.get("s") == created
    assert await ts.sessions.exists("s")
    assert await ts.sessions.count() == 1
    with pytest.raises(SessionAlreadyExists):
        await ts.execute(CreateSession(CONFIG, "s"))
    assert (await ts.execute(UpdateSession("s", SessionPatch(is_active=False)))).is_active is False
    assert await ts.execute(DeleteSession("s")) is True
    assert await ts.execute(DeleteSession("s")) is False
    assert await ts.sessions.get("s") is None
    assert not await ts.sessions.exists("s")
    assert await ts.sessions.count() == 0


async def test_messages_come_and_change(ts: Turnstream) -> None:
    session = await ts.execute(CreateSession(CONFIG))
    message = user_message("one")
    assert (await ts.execute(AddMessage(session.id, message))).messages == (message,)
    patch = ChatMessagePatch(content=(TextContent("ONE"),))
    assert texts_of((await ts.execute(UpdateMessage(session.id, message.id, updates=patch))).messages) == ["ONE"]


async def test_writes_to_missing_sessions(ts: Turnstream) -> None:
    with pytest.raises(SessionNotFound):
        await ts.execute(UpdateSession("none", SessionPatch()))
    with pytest.raises(SessionNotFound):
        await ts.execute(AddMessage("none", user_message("x")))
    with pytest.raises(SessionNotFound):
        await ts.execute(UpdateMessage("none", "m", updates=ChatMessagePatch()))


@pytest.mark.parametrize(("last", "expected"), [(0, ""), (2, "ef"), (9, "abcdef")])
async def test_get_session_with_its_last_messages(ts: Turnstream, last: int, expected: str) -> None:
    whole = await a_session(ts, *"abcdef")
    session = await ts.sessions.get(whole.id, last=last)
    assert session
    assert "".join(texts_of(session.messages)) == expected
    assert (session.version, session.config, session.metrics) == (whole.version, whole.config, whole.metrics)


async def test_get_session_with_the_last_messages_of_none(ts: Turnstream) -> None:
    assert await ts.sessions.get("none", last=1) is None
    with pytest.raises(InvalidCommand, match="at least 0"):
        await ts.sessions.get("none", last=-1)


# ── get_messages ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("last", "before", "after", "limit", "expected"),
    [
        (None, None, None, None, "abcdef"),
        (2, None, None, None, "ef"),
        (9, None, None, None, "abcdef"),
        (0, None, None, None, ""),
        (None, None, None, 2, "ab"),
        (None, None, None, 0, ""),
        (None, "d", None, None, "abc"),
        (None, "d", None, 2, "bc"),
        (None, "a", None, 2, ""),
        (None, None, "b", None, "cdef"),
        (None, None, "b", 2, "cd"),
        (None, None, "f", 2, ""),
        (None, "e", "a", None, "bcd"),
        (None, "e", "a", 2, "bc"),
        (2, "e", "a", None, "cd"),
        (1, "d", None, None, "c"),
        (1, None, "d", None, "f"),
        (None, "b", "d", None, ""),
        (None, "c", "c", None, ""),
    ],
)
async def test_get_messages(
    ts: Turnstream, last: int | None, before: str | None, after: str | None, limit: int | None, expected: str
) -> None:
    session = await a_session(ts, *"abcdef")
    ids = dict(zip("abcdef", (message.id for message in session.messages), strict=True))
    found = await ts.sessions.messages(
        session.id,
        last=last,
        before=ids[before] if before else None,
        after=ids[after] if after else None,
        limit=limit,
    )
    assert isinstance(found, tuple)
    assert "".join(texts_of(found)) == expected


async def test_walking_through_messages_by_pages(ts: Turnstream) -> None:
    session = await ts.execute(CreateSession(CONFIG))
    expected = messages_of(map(str, range(25)))
    await ts.execute(AddMessages(session.id, expected))
    forwards: tuple[ChatMessage, ...] = ()
    while page := await ts.sessions.messages(session.id, after=forwards[-1].id if forwards else None, limit=10):
        forwards += page
    backwards = await ts.sessions.messages(session.id, last=10)
    while page := await ts.sessions.messages(session.id, before=backwards[0].id, limit=10):
        backwards = page + backwards
    assert forwards == backwards == expected


async def test_get_messages_of_a_missing_session(ts: Turnstream) -> None:
    session = await a_session(ts, "one")
    with pytest.raises(SessionNotFound):
        await ts.sessions.messages("none")
    with pytest.raises(SessionNotFound):
        await ts.sessions.messages("none", after="m", limit=1)
    for bound in ({"before": "none"}, {"after": "none"}):
        with pytest.raises(MessageNotFound) as missing:
            await ts.sessions.messages(session.id, **bound)  # type: ignore[arg-type]
        assert missing.value.message_id == "none"


@pytest.mark.parametrize("wrong", [{"last": 1, "limit": 1}, {"last": -1}, {"limit": -1}])
async def test_get_messages_refuses_contradictory_arguments(ts: Turnstream, wrong: dict[str, Any]) -> None:
    session = await a_session(ts, "one")
    with pytest.raises(InvalidCommand):
        await ts.sessions.messages(session.id, **wrong)


BAD_IDS: list[Any] = ["", "\ud800", "x" * 257, 5, None]
BAD_READS: list[tuple[str, dict[str, Any]]] = [
    *(("$.sessionId", {"session_id": bad}) for bad in BAD_IDS),
    *((name, {name: bad}) for name in ("before", "after") for bad in ("\ud800", 5)),
    *((name, {name: bad}) for name in ("last", "limit") for bad in (-1, "2", 1.0, True)),
]


@pytest.mark.parametrize(("path", "arguments"), BAD_READS)
async def test_get_messages_names_the_invalid_argument(ts: Turnstream, path: str, arguments: dict[str, Any]) -> None:
    wrong: dict[str, Any] = {"session_id": "s", **arguments}
    with pytest.raises(InvalidCommand) as invalid:
        await ts.sessions.messages(**wrong)
    assert invalid.value.path == path


@pytest.mark.parametrize("session_id", BAD_IDS)
async def test_reads_refuse_an_invalid_session_id(ts: Turnstream, session_id: Any) -> None:  # noqa: ANN401 - no id
    reads: list[Callable[[Any], Awaitable[object]]] = [
        ts.sessions.get,
        ts.sessions.exists,
        ts.verify,
        ts.admin.parked.discard,
        lambda i: anext(ts.admin.parked.show(i)),
        lambda i: ts.execute(GetSession(i)),
    ]
    for read in reads:
        with pytest.raises(InvalidCommand) as invalid:
            await read(session_id)
        assert invalid.value.path == "$.sessionId"
    if session_id is not None:
        with pytest.raises(InvalidCommand):
            ts.subscribe(session_id=session_id)


# ── listing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def some_sessions(ts: Turnstream, count: int) -> list[str]:
    """Create sessions in three kinds; every third is inactive."""
    models = (("openai", "gpt-4"), ("openai", "gpt-4o"), ("elsewhere", "another-model"))
    commands: list[Command[Any]] = []
    for number in range(count):
        commands.append(CreateSession(SessionConfig(*models[number % 3]), f"s{number:03}"))
        if number % 3 == 0:
            commands.append(UpdateSession(f"s{number:03}", SessionPatch(is_active=False)))
    for ticket in await ts.send_many(commands):
        await ticket
    return [f"s{number:03}" for number in range(count)]


async def pages(ts: Turnstream, limit: int, **filters: Any) -> list[SessionInfo]:  # noqa: ANN401 - of several types
    found: list[SessionInfo] = []
    cursor: str | None = None
    while True:
        page = await ts.sessions.page(limit, cursor, **filters)
        assert len(page.sessions) <= limit
        assert page == await ts.execute(ListSessions(limit=limit, cursor=cursor, **filters))
        found += page.sessions
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 7, 40, 1_000])
async def test_pages_hold_every_session_once_newest_first(ts: Turnstream, limit: int) -> None:
    names = await some_sessions(ts, 40)
    found = await pages(ts, limit)
    assert sorted(info.id for info in found) == names
    assert [info.updated_at for info in found] == sorted((info.updated_at for info in found), reverse=True)


async def test_filters(ts: Turnstream) -> None:
    names = await some_sessions(ts, 30)
    expectations: list[tuple[dict[str, Any], list[str]]] = [
        ({"provider": "openai"}, [name for n, name in enumerate(names) if n % 3 != 2]),
        ({"model": "gpt-4o"}, names[1::3]),
        ({"provider": "elsewhere", "model": "gpt-4o"}, []),
        ({"is_active": False}, names[::3]),
        ({"is_active": True, "provider": "openai"}, names[1::3]),
        ({"provider": "none"}, []),
    ]
    for filters, expected in expectations:
        assert sorted(info.id for info in await pages(ts, 4, **filters)) == expected
        assert sorted([info.id async for info in ts.sessions.list(**filters)]) == expected


async def test_an_info_is_the_sessions_summary(ts: Turnstream) -> None:
    session = await a_session(ts, "one", "two")
    (info,) = (await ts.sessions.page()).sessions
    expected = (session.id, "openai", "gpt-4", session.created_at, session.updated_at, 2, True)
    assert (info.id, info.provider, info.model) == expected[:3]
    assert (info.created_at, info.updated_at, info.message_count, info.is_active) == expected[3:]


async def test_an_update_moves_a_session_to_the_front(ts: Turnstream) -> None:
    names = await some_sessions(ts, 5)

    async def in_front() -> bool:
        # Within one millisecond the names decide.
        await ts.execute(UpdateTokenMetrics(names[0]))
        return (await ts.sessions.page(1)).sessions[0].id == names[0]

    await wait_until(in_front)


async def test_an_empty_listing(ts: Turnstream) -> None:
    page = await ts.sessions.page()
    assert (page.sessions, page.next_cursor) == ((), None)
    assert [info async for info in ts.sessions.list()] == []


@pytest.mark.parametrize("cursor", ["", "x", "!!!!", "bm90IGEgY3Vyc29y", "é", "MTIz", "a" * 10_000])
async def test_a_cursor_of_nobodys(ts: Turnstream, cursor: str) -> None:
    await some_sessions(ts, 3)
    with pytest.raises(InvalidCommand) as invalid:
        await ts.sessions.page(cursor=cursor)
    assert invalid.value.path == "$.cursor"
    with pytest.raises(InvalidCommand):
        await ts.execute(ListSessions(cursor=cursor))


@pytest.mark.parametrize("limit", [0, -1, 1_001])
async def test_a_limit_out_of_range(ts: Turnstream, limit: int) -> None:
    with pytest.raises(InvalidCommand) as invalid:
        await ts.sessions.page(limit)
    assert invalid.value.path == "$.limit"
    with pytest.raises(InvalidCommand):
        await ts.execute(ListSessions(limit=limit))


@pytest.mark.parametrize(
    "wrong",
    [{"limit": "q"}, {"limit": None}, {"cursor": 5}, {"cursor": "zzz"}, {"provider": "\ud800"}, {"is_active": "yes"}],
)
async def test_a_listing_refuses_an_invalid_query(ts: Turnstream, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InvalidCommand) as invalid:
        await ts.sessions.page(**wrong)
    assert invalid.value.path == ("$.isActive" if name == "is_active" else f"$.{name}")


async def test_a_cursor_outlives_the_session_it_points_at(ts: Turnstream) -> None:
    names = await some_sessions(ts, 9)
    first = await ts.sessions.page(4)
    await ts.execute(DeleteSession(first.sessions[-1].id))
    rest = await ts.sessions.page(100, first.next_cursor)
    assert sorted(info.id for info in (*first.sessions, *rest.sessions)) == names


# ── walking over all ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_iterate_yields_each_session_once_oldest_first(ts: Turnstream) -> None:
    names = await some_sessions(ts, 50)
    found = [info async for info in ts.sessions.list()]
    assert sorted(info.id for info in found) == names
    assert [info.updated_at for info in found] == sorted(info.updated_at for info in found)
    assert await ts.sessions.count() == 50


@pytest.mark.parametrize("overrides", [{"partitions": 1}])
async def test_iterate_yields_each_session_once_while_they_are_updated(ts: Turnstream) -> None:
    """More than a chunk of them, so that the walk continues after the updates."""
    commands = [CreateSession(CONFIG, f"s{number:03}") for number in range(300)]
    for ticket in await ts.send_many(commands):
        await ticket
    found: list[str] = []
    async for info in ts.sessions.list():
        found.append(info.id)
        if len(found) in (1, 100, 256):
            touched = [f"s{number:03}" for number in (len(found) - 1, 5, 200, 299)]
            await asyncio.gather(*(ts.execute(UpdateTokenMetrics(name)) for name in touched))
    assert len(found) == len(set(found))
    assert set(found) == {f"s{number:03}" for number in range(300)}


@pytest.mark.parametrize("overrides", [{"partitions": 1}])
async def test_iterate_passes_over_nothing_while_all_are_busy(ts: Turnstream) -> None:
    names = {f"s{number:03}" for number in range(300)}
    for ticket in await ts.send_many([CreateSession(CONFIG, name) for name in sorted(names)]):
        await ticket
    busy = asyncio.create_task(keep_busy(ts, sorted(names)))
    for _ in range(3):
        found = [info.id async for info in ts.sessions.list()]
        assert len(found) == len(set(found))
        assert set(found) == names
    busy.cancel()


async def keep_busy(ts: Turnstream, names: list[str]) -> None:
    while True:
        for name in names:
            await (await ts.send(UpdateTokenMetrics(name)))


async def test_iterate_skips_sessions_deleted_during_it(ts: Turnstream) -> None:
    names = await some_sessions(ts, 20)
    found: list[str] = []
    async for info in ts.sessions.list():
        found.append(info.id)
        if len(found) == 1:
            for name in names[10:]:
                if name != info.id:
                    await ts.execute(DeleteSession(name))
    assert set(found) >= set(names[:10])
    assert len(found) == len(set(found))


async def test_a_long_session_is_read_whole(ts: Turnstream) -> None:
    session = await a_session(ts)
    for part in range(3):
        await ts.execute(AddMessages(session.id, messages_of(str(part * 500 + n) for n in range(500))))
    await ts.execute(AddMessage(session.id, user_message("1500")))
    whole = await ts.sessions.get(session.id)
    assert whole is not None
    assert texts_of(whole.messages) == [str(number) for number in range(1_501)]
    assert texts_of(await ts.sessions.messages(session.id, last=1_200)) == [str(n) for n in range(301, 1_501)]
