"""Every error that Turnstream raises.

    TurnstreamError
    ├── Rejected                  the command was understood and refused; sending it again changes nothing
    │   ├── InvalidCommand        a field has the wrong type or breaks a rule (`path`, `reason`)
    │   ├── SessionNotFound
    │   ├── SessionAlreadyExists
    │   ├── MessageNotFound
    │   ├── MessageAlreadyExists
    │   ├── VersionConflict       `expected_version` was not the session's version
    │   ├── DuplicateMismatch     the command id was used before, with another payload
    │   ├── ParkedQueueFull       the session is parked, and no more of its commands may wait
    │   ├── CommandDiscarded      an operator took it out of the queue of its parked session
    │   └── CommandExpired        no worker came to it within its `apply_within`
    ├── CommandParked             the session is parked; the command waits for a redrive
    ├── SessionGone               the command was applied; before its result was read, the session was gone
    ├── Unavailable               nothing is wrong with the command; try again
    │   ├── Overloaded            the partition's backlog is over its limit
    │   ├── ServerFull            the server's memory has reached its limit; nothing was written
    │   ├── KeyUnusable           an unexpected value is stored at a key (`key`); an operator has to remove it
    │   └── CommandTimeout        no answer in time; the command may still be applied (`command_id`)
    ├── StoredDataInvalid         a key holds a value of another type, or undecodable data (`key`, `session_id`)
    ├── NotHandled                a consumer's handler raises it to have an event redelivered, with a reason
    ├── SubscriptionNotFound      no durable subscription of this name ever had a member
    ├── SubscriptionInUse         a subscription has live members, so it cannot be forgotten
    ├── SessionNotParked          a subscription has no parked events of this session
    ├── OpenedElsewhere           a client is used in another event loop or process than the one that opened it
    └── ConfigurationError        settings, server or deployment do not fit together

Source: design §4 and §10; docs/contract.md, Errors.
"""

from typing import ClassVar, Final

SERVER_FULL: Final = "The server is full: it uses all memory that maxmemory allows. Give it more, or delete sessions"

UNKNOWN_REASON = "Is a worker running?"
"""The text of a time-out if nothing is known about the workers and the server."""


class TurnstreamError(Exception):
    """The root of every error of this library.

    Pickled or copied, it keeps its class, text, fields and notes, and a cause that is an error of this library, too;
    other causes may not be picklable, and would break a process pool.
    """

    def __reduce__(self) -> tuple[object, ...]:
        """Say how to make it again: not by its constructor, whose arguments are not kept."""
        cause = self.__cause__ if isinstance(self.__cause__, TurnstreamError) else None
        return _made_again, (type(self), self.args, dict(vars(self)), cause)


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


class CommandParked(TurnstreamError):  # noqa: N818 - a state of the command
    """The command's session is parked: it waits, in order, for an operator's redrive."""

    def __init__(self, session_id: str, command_id: str) -> None:
        """Keep the session and the command that waits."""
        super().__init__(f"Command {command_id} is parked with its session {session_id}")
        self.session_id = session_id
        self.command_id = command_id


class SessionGone(TurnstreamError):  # noqa: N818 - a state of the session
    """The command was applied, but there is no result: the session was deleted before it was read, or a failover came.

    A failover may have taken the command back; sent again under its id, it is applied then.
    """

    def __init__(self, session_id: str, version: int, command_id: str) -> None:
        """Keep the session, its version after the command, and the command's id."""
        super().__init__(
            f"Command {command_id} was applied, as version {version} of session {session_id}; since then the session "
            "was deleted, or a failover has taken the command back"
        )
        self.session_id = session_id
        self.version = version
        self.command_id = command_id


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


class StoredDataInvalid(TurnstreamError):  # noqa: N818 - a state of the data
    """A key holds something of another type than belongs there, or data that cannot be decoded.

    Another program has written there, or the server has lost or changed data. Trying again does not help; deleting the
    key, or restoring it, does.
    """

    def __init__(self, key: str, reason: str, session_id: str | None = None) -> None:
        """Name the key, the session that it belongs to if it belongs to one, and what is wrong, without contents."""
        session = "" if session_id is None else f"Session {session_id} cannot be read. "
        super().__init__(f"{session}The key {key} holds something else: {reason}")
        self.key = key
        self.reason = reason
        self.session_id = session_id


class NotHandled(TurnstreamError):  # noqa: N818 - a state of the event
    """Raised by a consumer's handler to have an event redelivered; any other error does the same.

    The reason is logged and kept with a parked session; of other errors only the class is kept.
    """

    def __init__(self, reason: str, *, counts: bool = True) -> None:
        """Say why in a few words, without the content of messages.

        Args:
            reason: a text for operators.
            counts: whether this is one of the attempts after which the event's session is parked; not so where the
                fault is known not to be the event's, as when another service cannot be reached.

        """
        super().__init__(reason)
        self.reason = reason
        self.counts = counts


class SubscriptionNotFound(TurnstreamError):  # noqa: N818 - as its siblings
    """No durable subscription of this name ever had a member."""

    def __init__(self, name: str, known: list[str]) -> None:
        """Keep the requested name; the text lists the existing ones."""
        super().__init__(f"There is no subscription {name!r}; known: {', '.join(sorted(known)) or 'none'}")
        self.name = name


class SubscriptionInUse(TurnstreamError):  # noqa: N818 - a state of the subscription
    """Members of the subscription live, so what it stores cannot be forgotten."""

    def __init__(self, name: str, members: int) -> None:
        """Keep the subscription and how many members it has."""
        super().__init__(f"The subscription {name} has {members} live members: stop them before it is forgotten")
        self.name = name
        self.members = members


class SessionNotParked(TurnstreamError):  # noqa: N818 - a state of the session
    """No events of the session are parked by the subscription, so there is nothing to redrive or discard."""

    def __init__(self, name: str, session_id: str) -> None:
        """Keep the subscription and the session."""
        super().__init__(f"The subscription {name} has not parked the session {session_id}")
        self.name = name
        self.session_id = session_id


class OpenedElsewhere(TurnstreamError, RuntimeError):  # noqa: N818 - a state of the client
    """A client is used in another event loop or process than the one that opened it; nothing was sent."""

    def __init__(self, opened_in: str, used_in: str) -> None:
        """Name both event loops, or both processes."""
        super().__init__(
            f"The client was opened in {opened_in}, and is used in {used_in}: "
            "open a client in each event loop, and after a fork"
        )
        self.opened_in = opened_in
        self.used_in = used_in


class ConfigurationError(TurnstreamError):
    """Settings, server or deployment do not fit together; the message says what to change."""


def _made_again(
    kind: type[TurnstreamError], arguments: tuple[object, ...], fields: dict[str, object], cause: TurnstreamError | None
) -> TurnstreamError:
    """Make an error that was pickled or copied."""
    error = kind.__new__(kind, *arguments)
    vars(error).update(fields)
    if cause is not None:
        error.__cause__ = cause
    return error
