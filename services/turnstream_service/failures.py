"""The errors of commands, next to those of the library."""

from turnstream.errors import TurnstreamError


class Refused(TurnstreamError):  # noqa: N818 - a state of the command
    """The message of a command that could not do everything; its exit status is 1."""
