"""What commands need to be decided, each declared in one place (design §3)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    ChangingCommand,
    RemoveMessages,
    UpdateMessage,
)
from turnstream.ports import Needs, SessionNeeds


def _add_message(needs: SessionNeeds, command: AddMessage) -> None:
    needs.message_ids.add(command.message.id)


def _add_messages(needs: SessionNeeds, command: AddMessages) -> None:
    needs.message_ids.update(message.id for message in command.messages)


def _update_message(needs: SessionNeeds, command: UpdateMessage) -> None:
    needs.message_ids.add(command.message_id)


def _remove_messages(needs: SessionNeeds, command: RemoveMessages) -> None:
    needs.message_ids.update(command.message_ids or ())
    # Each removal of the batch may eat into the tail that the next one asks for, so they add up.
    needs.tail += command.last or len(command.message_ids or ())


_DECLARED: Mapping[type[ChangingCommand], Callable[[SessionNeeds, Any], None]] = {
    AddMessage: _add_message,
    AddMessages: _add_messages,
    UpdateMessage: _update_message,
    RemoveMessages: _remove_messages,
}
"""The commands that need more than the session's header."""


def needs_of(commands: Iterable[tuple[str, int, ChangingCommand]], cached: Callable[[str], bool]) -> Needs:
    """Join the needs of a batch.

    Args:
        commands: the command id, entry time in milliseconds, and command of each.
        cached: tells whether the header of a session is known already.

    """
    sessions: dict[str, SessionNeeds] = {}
    times: dict[str, int] = {}
    for command_id, entry_ms, command in commands:
        times.setdefault(command_id, entry_ms)
        session_id = command.session_id or ""
        needs = sessions.get(session_id)
        if needs is None:
            needs = sessions[session_id] = SessionNeeds(header=not cached(session_id))
        declare = _DECLARED.get(type(command))
        if declare:
            declare(needs, command)
    return Needs(sessions, times)
