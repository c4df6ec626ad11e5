"""The model that every backend must equal: `decide` and `evolve`, and a dictionary."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from turnstream.catalogue import default_catalogue
from turnstream.domain.command_specs import decide
from turnstream.domain.commands import ChangingCommand
from turnstream.domain.events import AnyEvent
from turnstream.domain.evolution import Messages, evolve_header, evolve_messages
from turnstream.domain.handlers import Context
from turnstream.domain.models import ChatMessage, Session, SessionHeader, session_of
from turnstream.errors import DuplicateMismatch, Rejected
from turnstream.ports import Outcome

TIMES = re.compile(rb'"(createdAt|updatedAt|timestamp)":"[^"]*"')
TIMES_OF_CREATION = re.compile(rb'("incarnation":"[^"]*)-\d+')


class Recorded(msgspec.Struct, frozen=True):
    """The result of a command."""

    status: str
    version: int
    error: str | None = None
    output: Any = None


class ModelSession:
    """A session as `decide` looks at it."""

    def __init__(self) -> None:
        self.header: SessionHeader | None = None
        self.messages = Messages()

    def message(self, message_id: str) -> ChatMessage | None:
        return self.messages.by_id.get(message_id)

    def tail(self, count: int) -> tuple[ChatMessage, ...]:
        return tuple(self.messages.by_id.values())[-count:]

    @property
    def version(self) -> int:
        return self.header.version if self.header else 0


class Model:
    """All sessions, all events, and the outcome of each command id."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.outcomes: dict[str, Recorded] = {}
        self.replies: list[tuple[str, str]] = []
        self._payloads: dict[str, bytes] = {}
        self._sessions: dict[str, ModelSession] = {}
        self._catalogue = default_catalogue()

    def apply(self, command_id: str, command: ChangingCommand, entry_ms: int) -> None:
        payload = command.type.encode() + msgspec.json.encode(command)
        known = self._payloads.setdefault(command_id, payload)
        if command_id not in self.outcomes:
            self.outcomes[command_id] = self._decided(command_id, command, entry_ms)
        answer = self.outcomes[command_id].error or "ok" if known == payload else DuplicateMismatch.code
        self.replies.append((command_id, answer))

    @property
    def sessions(self) -> dict[str, Session]:
        found = ((i, s.header, s.messages) for i, s in self._sessions.items())
        return {i: session_of(header, tuple(held.by_id.values())) for i, header, held in found if header}

    def _decided(self, command_id: str, command: ChangingCommand, entry_ms: int) -> Recorded:
        session = self._sessions.setdefault(command.session_id or "", ModelSession())
        time = datetime.fromtimestamp(entry_ms / 1000, UTC)
        try:
            decision = decide(session, command, Context(command_id, time, self._catalogue))
        except Rejected as error:
            return Recorded("rejected", session.version, error.code)
        for event in decision.events:
            evolve_messages(session.messages, session.header, event)
            session.header = evolve_header(session.header, event)
        self.events += decision.events
        output = None if decision.output is None else msgspec.json.decode(msgspec.json.encode(decision.output))
        return Recorded("ok", session.version, output=output)


def recorded(outcome: Outcome) -> Recorded:
    """Return what a backend has recorded, in the model's words."""
    output = None if outcome.output is msgspec.UNSET else msgspec.json.decode(outcome.output)
    return Recorded(outcome.status, outcome.version, outcome.error.code if outcome.error else None, output)


def timeless(value: object) -> Any:  # noqa: ANN401 - JSON
    """Return a value as JSON without its times, which differ from server to server."""
    text = TIMES.sub(rb'"\1":null', msgspec.json.encode(value))
    return msgspec.json.decode(TIMES_OF_CREATION.sub(rb"\1", text))


def without_places(events: Sequence[AnyEvent]) -> list[AnyEvent]:
    """Remove the fields that only a stream gives to its events."""
    return [msgspec.structs.replace(event, meta=None) for event in events]
