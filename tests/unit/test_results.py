"""The result of a command that was applied."""

import pytest
from tests.waiting import SOON

from turnstream.adapters.memory import MemoryBackend
from turnstream.client.results import Results
from turnstream.client.sending.requests import AddressedCommand, Deadline
from turnstream.domain.commands import UpdateTokenMetrics
from turnstream.domain.models import ChatMessage, SessionHeader
from turnstream.errors import Unavailable
from turnstream.ports import CommandEntry, MessageRange, Reply, SessionReader


def reader_without_server(monkeypatch: pytest.MonkeyPatch) -> SessionReader:
    reader = MemoryBackend(1).reader

    async def messages(_: str, __: MessageRange) -> tuple[SessionHeader, tuple[ChatMessage, ...]]:
        raise Unavailable("The connection was lost")

    monkeypatch.setattr(reader, "messages", messages)
    return reader


async def test_an_unreadable_result_is_reported_with_the_command_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller must not take it for a command that may be lost, nor send it again under another id."""
    reader = reader_without_server(monkeypatch)
    command = UpdateTokenMetrics("s", prompt_tokens=1)
    with pytest.raises(Unavailable, match=r"c1 was applied; .* failed: The connection was lost") as failed:
        await Results(reader).of(
            command,
            AddressedCommand(0, "s", CommandEntry("c1", command.type, b"{}")),
            Reply("c1", "ok", 2),
            Deadline.after(SOON),
        )
    assert failed.value.command_id == "c1"
