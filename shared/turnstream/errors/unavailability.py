"""The errors after which the same command can be sent again, under the same command id."""

from typing import Final

from turnstream.errors.base import TurnstreamError

SERVER_FULL: Final = "The server is full: it uses all memory that maxmemory allows. Give it more, or delete sessions"

UNKNOWN_REASON = "Is a worker running?"
"""The text of a time-out if nothing is known about the workers and the server."""


class Unavailable(TurnstreamError):  # noqa: N818 - a state of the system
    """Nothing is wrong with the command; the system could not take or answer it now."""

    def __init__(self, message: str, command_id: str | None = None) -> None:
        """Say what happened; `command_id` names the command that it is about, where there is one, for a resend."""
        super().__init__(message)
        self.command_id = command_id


class Overloaded(Unavailable):
    """The partition has more waiting commands than it may."""

    def __init__(self, backlog: int, limit: int) -> None:
        """Keep the number of waiting commands and their limit."""
        super().__init__(f"{backlog} commands are waiting (limit {limit}): wait, or start more workers")
        self.backlog = backlog
        self.limit = limit


class ServerFull(Unavailable):
    """The server's memory has reached its limit, so it takes nothing but what frees memory; nothing was written."""

    def __init__(self, message: str = SERVER_FULL, command_id: str | None = None) -> None:
        """Keep the command that was refused, if there is one."""
        super().__init__(message, command_id)


class KeyUnusable(Unavailable):
    """A foreign value is stored at a key of the deployment; its work continues after an operator has removed it."""

    def __init__(self, key: str, reason: str) -> None:
        """Name the key, or several that it can be, and say what the server said of it."""
        super().__init__(f"{key} cannot be used: {reason.rstrip('.')}. When it is as it should be, this goes on")
        self.key = key
        self.reason = reason


class CommandTimeout(Unavailable):
    """No answer came in time; the command may still be applied, unless the text says that it was not sent."""

    def __init__(self, command_id: str, timeout: float, reason: str = UNKNOWN_REASON, *, sent: bool = True) -> None:
        """Keep the command id, for a resend within the deduplication window.

        Args:
            command_id: the command.
            timeout: the seconds that have passed.
            reason: the known state of the workers and the server, as sentences.
            sent: whether it was sent, or may have been.

        """
        what = (
            f"No answer to command {command_id} within {timeout:g} s; it may still be applied."
            if sent
            else f"Command {command_id} could not be sent within {timeout:g} s."
        )
        super().__init__(f"{what} {reason} A resend with the same command_id is safe.", command_id)
        self.timeout = timeout
        self.reason = reason
