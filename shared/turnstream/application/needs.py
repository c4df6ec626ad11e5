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


Declared = Mapping[type[ChangingCommand], Callable[[SessionNeeds, Any], None]]
_ALWAYS: Declared = {UpdateMessage: _update_message, RemoveMessages: _remove_messages}
_WHEN_THOROUGH: Declared = {**_ALWAYS, AddMessage: _add_message, AddMessages: _add_messages}
"""The commands that need more than the session's header; what is new is looked for only where it might not be."""


def needs_of(
    commands: Iterable[tuple[str, int, ChangingCommand]], cached: Callable[[str], bool], *, thorough: bool
) -> Needs:
    """Join the needs of a batch.

    Nearly every command and every added message is new, so at first it is taken for new, and the commit checks it: most
    batches need no read at all. Only where the commit finds one that is not, the batch is decided again, thoroughly.

    Args:
        commands: the command id, entry time in milliseconds, and command of each.
        cached: tells whether the header of a session is known already.
        thorough: also look for earlier outcomes, and for messages under the ids of new ones.

    """
    sessions: dict[str, SessionNeeds] = {}
    times: dict[str, int] = {}
    declared = _WHEN_THOROUGH if thorough else _ALWAYS
    for command_id, entry_ms, command in commands:
        if thorough:
            times.setdefault(command_id, entry_ms)
        session_id = command.session_id or ""
        needs = sessions.get(session_id)
        if needs is None:
            needs = sessions[session_id] = SessionNeeds(header=not cached(session_id))
        declare = declared.get(type(command))
        if declare:
            declare(needs, command)
    return Needs(sessions, times)
