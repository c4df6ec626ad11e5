"""The example of a reacting service: redelivered events, and sessions that it cannot read."""

from datetime import UTC, datetime

import pytest

from turnstream import CreateSession, SessionConfig, Turnstream, Unavailable
from turnstream.events import ContextWindowCritical
from turnstream_alerts import alerts
from turnstream_alerts.alerts import Alerts


def critical(session_id: str, version: int = 2, *, crossed: bool = True) -> ContextWindowCritical:
    return ContextWindowCritical(
        session_id=session_id,
        incarnation="1",
        version=version,
        timestamp=datetime.now(UTC),
        utilization=0.9,
        max_context_window=8_192,
        crossed=crossed,
    )


async def test_a_redelivered_event_is_counted_once() -> None:
    async with Turnstream.in_memory() as ts:
        await ts.execute(CreateSession(SessionConfig("openai", "gpt-4"), "a"))
        handler = Alerts(ts)
        event = critical("a")
        for again in (event, event, critical("a", 3, crossed=False), event):
            await handler.handle(again)
        assert handler._counts == {"gpt-4": 1}
        await handler.handle(critical("a", 9))
        assert handler._counts == {"gpt-4": 2}


async def test_an_event_with_an_unreadable_session_is_redelivered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody_answers(_: str) -> None:
        raise Unavailable("no server answers")

    async with Turnstream.in_memory() as ts:
        handler = Alerts(ts)
        event = critical("a")
        with monkeypatch.context() as away:
            away.setattr(ts.sessions, "get", nobody_answers)
            with pytest.raises(Unavailable):
                await handler.handle(event)
        await handler.handle(event)
        assert handler._counts == {"unknown": 1}


async def test_the_memory_of_sessions_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "REMEMBERED", 3)
    async with Turnstream.in_memory() as ts:
        handler = Alerts(ts)
        for number in range(9):
            await handler.handle(critical(str(number)))
        assert [session_id for session_id, _, _ in handler._seen] == ["6", "7", "8"]
