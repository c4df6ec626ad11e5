"""A worker with the worst of bugs: its process ends when it decides a message of a certain text."""

import os
from typing import Any, cast

from turnstream.domain.command_specs import HANDLERS
from turnstream.domain.commands import AddMessage
from turnstream.domain.content import TextContent
from turnstream.domain.handlers import Context, Decision, SessionView
from turnstream_worker.main import main

DEADLY = "deadly"
STATUS = 77

_correct = HANDLERS[AddMessage]


def _add_message(view: SessionView, command: AddMessage, context: Context) -> Decision:
    if TextContent(DEADLY) in command.message.content:
        os._exit(STATUS)
    return _correct(view, command, context)


if __name__ == "__main__":
    cast("dict[type[Any], Any]", HANDLERS)[AddMessage] = _add_message
    main()
