"""Large operations: no script fails half-way, even at the limits of Lua's unpack, and no other client waits for long.

A command inside a script has at most 4,000 words, so 3,998 ids after a name and a key, or 1,999 pairs.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import pytest
from tests.contract.chats import CONFIG, id_in, texts_of
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.samples import AT
from tests.waiting import wait_until

from turnstream import (
    AddMessage,
    AddMessages,
    ChatMessage,
    ChatMessageRole,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    TextContent,
    Turnstream,
    UpdateMessage,
    user_message,
)
from turnstream.commands import ChatMessagePatch, RemovedMessage
from turnstream.domain.limits import MAX_ITEMS
from turnstream.domain.models import partition_of

EDGES = (1_999, 2_000, 3_997, 3_998, 3_999, 4_000, 4_001, MAX_ITEMS)
LONG = 100_000


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 2}


@pytest.fixture
async def ts(real: EmbeddedDeployment) -> Turnstream:
    return await client_of(real)


def small_messages(numbers: range) -> tuple[ChatMessage, ...]:
    """Messages so short that as many as there may be fit into one command."""
    return tuple(
        ChatMessage(id=f"m{number}", role=ChatMessageRole.USER, content=(), created_at=AT) for number in numbers
    )


def ids_of(messages: Sequence[ChatMessage | RemovedMessage]) -> list[str]:
    return [message.id for message in messages]


async def a_long_session(ts: Turnstream, session_id: str, length: int) -> None:
    await ts.execute(CreateSession(CONFIG, session_id))
    starts = range(0, length, MAX_ITEMS)
    additions = [AddMessages(session_id, small_messages(range(n, min(n + MAX_ITEMS, length)))) for n in starts]
    for ticket in await ts.send_many(additions, timeout=100.0):
        await ticket


async def test_a_message_of_very_many_parts(ts: Turnstream) -> None:
    session_id = (await ts.execute(CreateSession(CONFIG))).id
    parts = tuple(TextContent(str(number)) for number in range(MAX_ITEMS))
    message = ChatMessage(id="large", role=ChatMessageRole.USER, content=parts, created_at=AT)
    await (await ts.send(AddMessage(session_id, message)))
    await (await ts.send(UpdateMessage(session_id, "large", updates=ChatMessagePatch(content=parts[::-1]))))
    (found,) = await ts.sessions.messages(session_id)
    assert found.content == parts[::-1]


@pytest.mark.parametrize("number", EDGES)
async def test_very_many_messages_in_one_command(real: EmbeddedDeployment, ts: Turnstream, number: int) -> None:
    await a_long_session(ts, "s", number)
    messages = small_messages(range(number))
    assert await ts.sessions.messages("s") == messages
    removed = await ts.execute(RemoveMessages("s", message_ids=tuple(ids_of(messages[1:]))))
    assert ids_of(removed) == ids_of(messages[1:])
    assert await ts.sessions.messages("s") == messages[:1]
    await ts.execute(AddMessages("s", messages[1:]))
    assert ids_of(await ts.execute(RemoveMessages("s", last=number))) == ids_of(messages)
    assert await ts.sessions.messages("s") == ()
    partition = partition_of("s", real.settings.partitions)
    assert await real.backlog(partition) == 0
    assert await real.malformed(partition) == []


@pytest.mark.parametrize("half", [2_000, 3_999, 4_000, MAX_ITEMS])
async def test_more_than_a_script_unpacks_in_one_batch(real: EmbeddedDeployment, half: int) -> None:
    """Commands of one session that wait together are applied in one step, which writes, rewrites and removes them."""
    ts = await client_of(real, worker=False)
    messages = small_messages(range(2 * half))
    commands = [
        CreateSession(CONFIG, "s"),
        AddMessages("s", messages[:half]),
        AddMessages("s", messages[half:]),
        RemoveMessages("s", message_ids=tuple(ids_of(messages[:half]))),
        RemoveMessages("s", last=half - 1),
    ]
    tickets = await ts.send_many(commands, timeout=60.0)
    await client_of(real)
    assert [(await ticket).version for ticket in tickets] == [1, 2, 3, 4, 5]
    assert await ts.sessions.messages("s") == messages[half : half + 1]


async def test_a_very_long_session_is_deleted_under_load(
    real: EmbeddedDeployment, ts: Turnstream, record_property: Callable[[str, object], None]
) -> None:
    """Other sessions of its partition continue; how long the slowest of them waited is reported, not judged."""
    victim, *others = (id_in(0, real.settings.partitions) for _ in range(5))
    await a_long_session(ts, victim, LONG)
    for other in others:
        await ts.execute(CreateSession(CONFIG, other))
    waits: list[float] = []
    deleted = asyncio.Event()

    async def talk(other: str) -> int:
        turns = 0
        while not deleted.is_set() or turns < 20:
            began = perf_counter()
            await ts.execute(AddMessage(other, user_message(str(turns))))
            waits.append(perf_counter() - began)
            turns += 1
        return turns

    talks = [asyncio.create_task(talk(other)) for other in others]
    try:
        await wait_until(lambda: len(waits) >= len(others))
        assert await ts.execute(DeleteSession(victim)) is True
    finally:
        deleted.set()
        turns = await asyncio.gather(*talks)
    assert await ts.sessions.get(victim) is None
    assert [name for name in await real.names() if victim in name] == []
    for other, count in zip(others, turns, strict=True):
        assert texts_of(await ts.sessions.messages(other)) == [str(turn) for turn in range(count)]
    longest = f"{max(waits) * 1000:.1f} ms of {len(waits)} appends"
    print(f"deleting {LONG} messages: the longest wait of other sessions was {longest}")  # noqa: T201 - the figure
    record_property("longest_wait", longest)
