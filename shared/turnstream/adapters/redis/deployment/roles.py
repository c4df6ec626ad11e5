"""The permissions of each role, as rules of the server's access control list; `deploy/users.acl` consists of them.

A rule names keys and channels by kind. Functions of the library run with the permissions of their caller, so a
role has the commands that its functions run, on the keys of its kinds.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final, Literal, get_args

from turnstream.adapters.redis.keys import KeyPatterns

Role = Literal["operator", "worker", "producer", "consumer", "subscriber"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

DEFAULT_USER: Final = "default"
"""The user of a connection without a name: the operator, so that every connection needs a password."""

CONNECTING: Final = (
    *("+auth", "+hello", "+ping", "+echo", "+quit", "+reset", "+select", "+time", "+info", "+role"),
    *("+client|id", "+client|setname", "+client|setinfo", "+client|getname", "+client|info"),
    *("+cluster|slots", "+cluster|shards", "+cluster|nodes", "+asking", "+readonly", "+readwrite"),
)
"""The commands that every program needs to find its server, and to check it on start-up."""

LISTENING: Final = ("+subscribe", "+unsubscribe", "+ssubscribe", "+sunsubscribe")
READING: Final = ("+@read", "-@dangerous", "-scan", "-dbsize", "-randomkey", "+fcall_ro")


def rule(role: Role, namespace: str, *, user: str | None = None, password: str | None = None) -> str:
    """Return the line of an access control list that makes a user of a role.

    Args:
        role: the role of the user.
        namespace: the deployment's.
        user: its name; by default the role's, and `default` for the operator.
        password: only its hash is in the line; without one there is a placeholder, to be replaced.

    """
    secret = f">change-me-{user or role}" if password is None else f"#{sha256(password.encode()).hexdigest()}"
    name = user or (DEFAULT_USER if role == "operator" else role)
    return " ".join(("user", name, "on", secret, *_RIGHTS[role](KeyPatterns(namespace))))


def _operator(_: KeyPatterns) -> tuple[str, ...]:
    return ("~*", "&*", "+@all")


def _worker(of: KeyPatterns) -> tuple[str, ...]:
    """Everything under the namespace, also by scripts; nothing that concerns the server or other namespaces."""
    return (
        *(f"~{of.all}", f"&{of.all}", "-@all", "+@hash", "+@set", "+@sortedset", "+@stream", "+@string", "+@pubsub"),
        *("-@dangerous", "+del", "+unlink", "+exists", "+type", "+expire", "+pexpire", "+ttl", "+pttl"),
        *("+eval", "+evalsha", "+eval_ro", "+evalsha_ro", "+script|load", "+script|exists"),
        *("+fcall", "+fcall_ro", "+function|load", "+function|list", "+wait", "+waitaof", "+client|list"),
        *CONNECTING,
    )


def _producer(of: KeyPatterns) -> tuple[str, ...]:
    """Queue commands, read, and receive replies and events: the only command that writes is XADD to command streams."""
    channels = (f"&{channel}" for channel in (of.replies, of.losses, *of.live))
    return (f"%R~{of.all}", f"~{of.commands}", *channels, "-@all", *READING, "+xadd", "+fcall", *LISTENING, *CONNECTING)


def _subscriber(of: KeyPatterns) -> tuple[str, ...]:
    """Read, and receive events; nothing else."""
    return (f"%R~{of.all}", *(f"&{channel}" for channel in of.live), "-@all", *READING, *LISTENING, *CONNECTING)


def _consumer(of: KeyPatterns) -> tuple[str, ...]:
    """To read, and to write what durable subscriptions store: of these, the list of names can only grow."""
    stored = (f"~{key}" for key in (of.subscriptions, of.names, of.members))
    channels = (f"&{channel}" for channel in (of.changes, *of.live))
    handling = ("+hset", "+hdel", "+hincrby", "+set", "+pexpire", "+unlink", "+xadd", "+xdel", "+zadd", "+zrem")
    return (
        *(f"%R~{of.all}", *stored, *channels, "-@all", *READING, "+fcall", *LISTENING, *CONNECTING),
        _selector(f"~{of.subscriptions}", *handling),
        _selector(f"~{of.members}", "+hset", "+hdel"),
        _selector(f"~{of.names}", "+sadd"),
        _selector(f"&{of.changes}", "+publish", "+spublish"),
    )


def _selector(*words: str) -> str:
    """Return permissions that apply together, separately from all others."""
    return f"({' '.join(words)})"


_RIGHTS: Final[Mapping[Role, Callable[[KeyPatterns], tuple[str, ...]]]] = {
    "operator": _operator,
    "worker": _worker,
    "producer": _producer,
    "consumer": _consumer,
    "subscriber": _subscriber,
}
