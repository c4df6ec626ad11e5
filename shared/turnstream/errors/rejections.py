"""The rejections: a command was understood and refused; sending it again changes nothing."""

from typing import ClassVar

from turnstream.errors.base import TurnstreamError


class Rejected(TurnstreamError):  # noqa: N818 - the design's name: a class of outcome, not only an exception
    """A command that was decided, and refused; the state is unchanged."""

    code: ClassVar[str] = "rejected"

    @property
    def fields(self) -> dict[str, str | int | None]:
        """The error's own fields, as a reply carries them."""
        return {name: value for name, value in vars(self).items() if name != "__notes__"}


class InvalidCommand(Rejected):
    """A field of the command has the wrong type or breaks a rule."""

    code = "invalid-command"

    def __init__(self, path: str, reason: str) -> None:
        """Name the field by its JSON path (`$.message.role`) and say what is wrong with it."""
        super().__init__(f"{reason} - at `{path}`")
        self.path = path
        self.reason = reason


class SessionNotFound(Rejected):
    """There is no session with this id."""

    code = "session-not-found"

    def __init__(self, session_id: str) -> None:
        """Keep the id that was asked for."""
        super().__init__(f"Session not found with ID: {session_id}")
        self.session_id = session_id


class SessionAlreadyExists(Rejected):
    """A session with this id was created before."""

    code = "session-already-exists"

    def __init__(self, session_id: str) -> None:
        """Keep the id that is taken."""
        super().__init__(f"Session already exists with ID: {session_id}")
        self.session_id = session_id


class MessageNotFound(Rejected):
    """The session has no message with this id."""

    code = "message-not-found"

    def __init__(self, session_id: str, message_id: str) -> None:
        """Keep both ids that were asked for."""
        super().__init__(f"Message not found with ID: {message_id}")
        self.session_id = session_id
        self.message_id = message_id


class MessageAlreadyExists(Rejected):
    """The session has a message with this id."""

    code = "message-already-exists"

    def __init__(self, session_id: str, message_id: str) -> None:
        """Keep both ids."""
        super().__init__(f"Message already exists with ID: {message_id}")
        self.session_id = session_id
        self.message_id = message_id


class VersionConflict(Rejected):
    """The session was changed since the version that the producer had seen."""

    code = "version-conflict"

    def __init__(self, session_id: str, expected_version: int, actual_version: int) -> None:
        """Keep what was expected and what is stored (0: no such session)."""
        super().__init__(
            f"Version conflict in session {session_id}: expected {expected_version}, found {actual_version}",
        )
        self.session_id = session_id
        self.expected_version = expected_version
        self.actual_version = actual_version


class DuplicateMismatch(Rejected):
    """The command id was used before for another payload."""

    code = "duplicate-mismatch"

    def __init__(self, command_id: str) -> None:
        """Keep the id that was used twice."""
        super().__init__(
            f"Command id {command_id} was used before with another payload; make a new id for a new command"
        )
        self.command_id = command_id


class ParkedQueueFull(Rejected):
    """The command's session is parked, and the partition keeps no more parked commands."""

    code = "parked-queue-full"

    def __init__(self, session_id: str, limit: str) -> None:
        """Keep the session, and the limit with its unit."""
        super().__init__(
            f"Session {session_id} is parked, and its partition keeps no more than {limit} of parked commands: "
            "redrive or discard them, then send this command under a new id"
        )
        self.session_id = session_id
        self.limit = limit


class CommandDiscarded(Rejected):
    """An operator took the command out of the queue of its parked session; it was not applied."""

    code = "command-discarded"

    def __init__(self, session_id: str, command_id: str) -> None:
        """Keep the session and the command."""
        super().__init__(f"Command {command_id} was parked with its session {session_id}, and discarded by an operator")
        self.session_id = session_id
        self.command_id = command_id


class CommandExpired(Rejected):
    """The command was to be applied within some seconds of being queued, and was not; it will not be applied."""

    code = "command-expired"

    def __init__(self, session_id: str, command_id: str, apply_within_ms: int) -> None:
        """Keep the session, the command, and the milliseconds in which it should have been applied."""
        super().__init__(
            f"Command {command_id} of session {session_id} was not applied: it was still waiting {apply_within_ms} ms "
            "after it was queued"
        )
        self.session_id = session_id
        self.command_id = command_id
        self.apply_within_ms = apply_within_ms
