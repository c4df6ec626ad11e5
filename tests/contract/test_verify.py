"""`ts.verify`: the stored session is the fold of the retained events."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.contract.chats import CONFIG, a_session, id_in, messages_of
from tests.contract.deployments import Deployment, client_of, opened
from tests.waiting import wait_until

from turnstream import (
    AddMessage,
    AddMessages,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    SessionNotFound,
    Turnstream,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
    user_message,
)
from turnstream.admin import Verification
from turnstream.commands import ChatMessagePatch, SessionConfigPatch, SessionPatch
from turnstream.ports import EventLog, FoundInfo
from turnstream.worker import worker as worker_module

SESSION = id_in(0, 4)
NEIGHBOUR = id_in(0, 4)


async def a_life(ts: Turnstream, session_id: str = SESSION) -> None:
    """Let everything happen that can happen to a session; it ends at version 9."""
    await ts.execute(CreateSession(CONFIG, session_id, metadata={"topic": "ü"}))
    first, second, third = messages_of(("one", "two", "three"))
    await ts.execute(AddMessages(session_id, (first, second, third)))
    await ts.execute(UpdateMessage(session_id, second.id, updates=ChatMessagePatch(metadata={"stars": 5})))
    await ts.execute(UpdateTokenMetrics(session_id, prompt_tokens=7_000, completion_tokens=100))
    await ts.execute(RemoveMessages(session_id, message_ids=(first.id,)))
    await ts.execute(UpdateSession(session_id, SessionPatch(messages=messages_of(("four", "five")), is_active=False)))
    await ts.execute(
        UpdateSession(session_id, SessionPatch(config=SessionConfigPatch(model="gpt-4o", temperature=0.5)))
    )
    await ts.execute(UpdateSession(session_id, SessionPatch(metadata={"topic": "another"})))
    await ts.execute(AddMessage(session_id, user_message("six")))


async def test_a_session_equals_its_events(ts: Turnstream) -> None:
    for session_id in (SESSION, NEIGHBOUR):
        await a_life(ts, session_id)
        found = await ts.verify(session_id)
        assert found == Verification(session_id, 9, found.events, complete=True, history_from=1, differences=())
        assert found.equal
        assert found.events > 9


async def test_a_missing_session(ts: Turnstream) -> None:
    with pytest.raises(SessionNotFound):
        await ts.verify(SESSION)
    await a_life(ts)
    await ts.execute(DeleteSession(SESSION))
    with pytest.raises(SessionNotFound):
        await ts.verify(SESSION)


async def test_of_a_session_that_was_created_again_the_present_life_counts(ts: Turnstream) -> None:
    await a_life(ts)
    await ts.execute(DeleteSession(SESSION))
    await a_session(ts, "one", session_id=SESSION)
    found = await ts.verify(SESSION)
    assert found == Verification(SESSION, 2, 2, complete=True, history_from=1, differences=())


@pytest.mark.parametrize("overrides", [{"event_retention": 1_000}])
async def test_many_pages_of_neighbours_in_between(ts: Turnstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnstream.application.queries.verifier.PAGE", 3)
    await ts.execute(CreateSession(CONFIG, SESSION))
    await a_session(ts, session_id=NEIGHBOUR)
    for number in range(10):
        await ts.execute(AddMessages(NEIGHBOUR, messages_of(map(str, range(number + 1)))))
        await ts.execute(AddMessage(SESSION, user_message("one")))
    found = await ts.verify(SESSION)
    assert found == Verification(SESSION, 11, 11, complete=True, history_from=1, differences=())


async def test_a_session_that_changes_all_the_time(deployment: Deployment) -> None:
    """Appended to, patched, deleted and created again, as quickly as one producer can."""
    ts = await client_of(deployment)
    looker = await client_of(deployment, worker=False)
    done = asyncio.Event()

    async def change() -> None:
        number = 0
        while not done.is_set():
            if number % 20 == 0:
                await ts.execute(DeleteSession(SESSION))
                await ts.execute(CreateSession(CONFIG, SESSION))
            texts = messages_of((str(number), "another"))
            await ts.execute(AddMessages(SESSION, texts))
            await ts.execute(UpdateTokenMetrics(SESSION, prompt_tokens=number))
            await ts.execute(RemoveMessages(SESSION, message_ids=(texts[0].id,)))
            number += 1

    changing = asyncio.create_task(change())
    versions: set[int] = set()
    try:
        await wait_until(lambda: looker.sessions.exists(SESSION))
        while len(versions) < 8:
            try:
                found = await looker.verify(SESSION)
            except SessionNotFound:
                continue
            assert found.differences == ()
            assert found.complete
            versions.add(found.version)
    finally:
        done.set()
        await changing


async def test_events_after_the_version_read_do_not_count(ts: Turnstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session is changed between the reading of its state and that of its events."""
    await a_life(ts)
    reader, reads = ts._backend.reader, 0
    infos = reader.infos

    async def read_and_change(session_ids: Sequence[str]) -> list[FoundInfo]:
        nonlocal reads
        found = await infos(session_ids)
        reads += 1
        await (await ts.send(AddMessage(SESSION, user_message(str(reads)))))
        return found

    monkeypatch.setattr(reader, "infos", read_and_change)
    found = await ts.verify(SESSION)
    assert (found.version, found.differences) == (9, ())
    assert reads == 1


@pytest.mark.parametrize("overrides", [{"event_retention": kept} for kept in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12)])
async def test_where_retention_has_taken_the_beginning_the_rest_is_compared(
    deployment: Deployment, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: int = overrides["event_retention"]
    monkeypatch.setattr(worker_module, "TIDY_EVERY", 0.02)
    ts = await client_of(deployment)
    await a_life(ts)
    log = (await opened(deployment)).events
    await wait_until(lambda: _is_trimmed(log, kept))
    found = await ts.verify(SESSION)
    assert (found.differences, found.version, found.events) == ((), 9, kept)
    assert not found.complete
    assert found.history_from is not None
    assert found.history_from > 1


async def _is_trimmed(log: EventLog, kept: int) -> bool:
    page = await log.read(0, 0, 0)
    return page.head - page.oldest + 1 == kept


@pytest.mark.parametrize("overrides", [{"event_retention": 2}])
async def test_without_retained_events_there_is_nothing_to_compare(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "TIDY_EVERY", 0.02)
    ts = await client_of(deployment)
    await a_life(ts)
    await a_session(ts, "one", "two", session_id=NEIGHBOUR)
    log = (await opened(deployment)).events
    await wait_until(lambda: _is_trimmed(log, 2))
    found = await ts.verify(SESSION)
    assert found == Verification(SESSION, 9, 0, complete=False, history_from=None, differences=())
