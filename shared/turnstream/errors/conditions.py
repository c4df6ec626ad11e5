"""The other errors: conditions of a command, a session, stored data, a subscription or a client."""

from turnstream.errors.base import TurnstreamError


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
