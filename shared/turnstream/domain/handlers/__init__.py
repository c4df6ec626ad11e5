"""The handler of every command that changes something: one table (spec, step 6)."""

from collections.abc import Callable, Mapping
from typing import Any

from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    ChangingCommand,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
)
from turnstream.domain.decision import Context, Decision, SessionView
from turnstream.domain.handlers.messages import add_message, add_messages, remove_messages, update_message
from turnstream.domain.handlers.metrics import update_token_metrics
from turnstream.domain.handlers.sessions import create_session, delete_session, update_session
from turnstream.domain.rules import check_rules

Handler = Callable[[SessionView, Any, Context], Decision]

HANDLERS: Mapping[type[ChangingCommand], Handler] = {
    CreateSession: create_session,
    UpdateSession: update_session,
    DeleteSession: delete_session,
    AddMessage: add_message,
    AddMessages: add_messages,
    UpdateMessage: update_message,
    RemoveMessages: remove_messages,
    UpdateTokenMetrics: update_token_metrics,
}


def decide(view: SessionView, command: ChangingCommand, context: Context) -> Decision:
    """Decide a command on a session.

    Returns:
        The events that happen, and what else the command gives back.

    Raises:
        Rejected: the command breaks a rule or does not fit the session's state; nothing happens.

    """
    check_rules(command)
    return HANDLERS[type(command)](view, command, context)
