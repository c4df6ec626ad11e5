"""A command's spec takes the handler and the rule of that command only. Nothing here is run."""

from turnstream.domain.command_specs import CommandSpec
from turnstream.domain.commands import AddMessage, UpdateMessage
from turnstream.domain.handlers import add_message, update_message


def _rule_of_updates(command: UpdateMessage) -> None:
    raise NotImplementedError(command)


CommandSpec(AddMessage, None, add_message)
CommandSpec(AddMessage, None, update_message)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
CommandSpec(UpdateMessage, _rule_of_updates, update_message)
CommandSpec(AddMessage, _rule_of_updates, add_message)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
