"""`decide`: a command on a session becomes events, or is rejected (design §1).

    decide(view, command, context) -> Decision

Pure: the same view, command and context always give the same decision, so a redelivered command does too.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import msgspec

from turnstream.domain.commands import ChangingCommand, RemovedMessage
from turnstream.domain.events import AnyEvent
from turnstream.domain.models import ChatMessage, SessionHeader
from turnstream.domain.prices import Catalogue
from turnstream.errors import SessionNotFound, VersionConflict

CommandOutput = bool | tuple[ChatMessage | RemovedMessage, ...] | None
"""The output of a command besides the session: whether it deleted, or the messages that it removed."""


class SessionView(Protocol):
    """The input of a decision: one session after all earlier commands."""

    @property
    def header(self) -> SessionHeader | None:
        """The session without its messages; `None` if there is no session."""
        ...

    def message(self, message_id: str) -> ChatMessage | None:
        """Return the message with this id, if there is one."""
        ...

    def tail(self, count: int) -> tuple[ChatMessage, ...]:
        """Return the last `count` messages, oldest first, or as many as there are."""
        ...


class Context(msgspec.Struct, frozen=True, gc=False):
    """The context of a decision: the command's id, the time of its stream entry, windows and prices."""

    command_id: str
    time: datetime
    catalogue: Catalogue


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What happens; without events nothing changes."""

    events: tuple[AnyEvent, ...] = ()
    output: CommandOutput = None


class EventFactory(msgspec.Struct, frozen=True, gc=False):
    """Makes the events of one decision, with their common fields."""

    session_id: str
    incarnation: str
    version: int
    timestamp: datetime

    def on(self, event: Callable[..., AnyEvent], **data: Any) -> AnyEvent:  # noqa: ANN401 - an event's own fields
        """Make an event of this decision."""
        return event(
            session_id=self.session_id,
            incarnation=self.incarnation,
            version=self.version,
            timestamp=self.timestamp,
            **data,
        )


def version_of(header: SessionHeader | None) -> int:
    """Return a session's version; 0 stands for no session."""
    return header.version if header else 0


def stamp(header: SessionHeader, context: Context) -> EventFactory:
    """Stamp the next change of a session; its time never runs backwards."""
    return EventFactory(header.id, header.incarnation, header.version + 1, max(context.time, header.updated_at))


def existing(view: SessionView, command: ChangingCommand) -> SessionHeader:
    """Return the header of the session that a command is about.

    Raises:
        SessionNotFound: there is no such session.
        VersionConflict: the command expects another version of it.

    """
    header = view.header
    if header is None:
        raise SessionNotFound(command.session_id or "")
    check_version(header, command)
    return header


def check_version(header: SessionHeader | None, command: ChangingCommand) -> None:
    """Raise `VersionConflict` unless the session has the version that the command expects, if it expects one."""
    expected = command.expected_version
    if expected is not None and expected != version_of(header):
        raise VersionConflict(command.session_id or "", expected, version_of(header))
