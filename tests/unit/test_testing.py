"""`turnstream.testing`: what an application's own tests use."""

from typing import assert_type

import pytest
from tests.builders import CONFIG

from turnstream import AddMessage, CreateSession, Turnstream, testing, user_message
from turnstream.errors import ConfigurationError
from turnstream.events import MessageAdded, SessionCreated


async def test_a_client_needs_no_server() -> None:
    async with testing.client() as ts:
        assert_type(ts, Turnstream)
        session = await ts.execute(CreateSession(CONFIG))
        assert (await ts.execute(AddMessage(session.id, user_message("Hello")))).version == 2


async def test_each_client_is_a_deployment_of_its_own() -> None:
    async with testing.client() as one, testing.client() as other:
        await one.execute(CreateSession(CONFIG, "s"))
        assert not await other.sessions.exists("s")


async def test_the_environment_does_not_change_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNSTREAM_PARTITIONS", "16")
    async with testing.client() as ts:
        assert len((await ts.position()).log_positions) == testing.PARTITIONS


async def test_settings_are_given_by_name() -> None:
    async with testing.client(partitions=2) as ts:
        assert len((await ts.position()).log_positions) == 2
    with pytest.raises(ConfigurationError, match="MAX_BACKLOG"):
        testing.client(max_backlog=0)


async def test_the_events_so_far() -> None:
    async with testing.client() as ts:
        for name in ("a", "b"):
            await ts.execute(CreateSession(CONFIG, name))
            await ts.execute(AddMessage(name, user_message(f"Hello, {name}")))
        assert [event.type for event in await testing.events(ts, session_id="a")] == [
            "session-created",
            "message-added",
        ]
        added = await testing.events(ts, MessageAdded)
        assert_type(added, list[MessageAdded])
        assert {event.session_id for event in added} == {"a", "b"}
        both = await testing.events(ts, SessionCreated, MessageAdded, session_id="b")
        assert [type(event) for event in both] == [SessionCreated, MessageAdded]
