"""Every key and channel of a deployment; nothing else builds one (design §2).

A key names its kind first, so that an access rule can tell kinds apart by their prefix, whatever a session's id is. All
keys and channels of a partition carry its tag in braces, so they share one hash slot.
"""

import re
from collections.abc import Iterable
from functools import cache
from itertools import count
from typing import Final, NamedTuple

from turnstream.adapters.redis.connection.slots import SLOTS, slot_of

LAYOUT = 2
"""The version of the layout of keys and values; a deployment holds the one that it was made with."""

TAGS = 1
"""The version of the tags. It stays when the layout changes, so that keys can be renamed within their slot."""

CLIENT_ID = r"[A-Za-z0-9_-]{1,64}"


@cache
def tags(partitions: int) -> tuple[str, ...]:
    """Return the tag of each partition.

    The tags' slots lie in equal parts of the slot range, so that any number of shards gets an even load. They name the
    number of partitions, so that a deployment with another number cannot meet these keys.
    """
    return tuple(_tag(partition, partitions) for partition in range(partitions))


def _tag(partition: int, partitions: int) -> str:
    names = (f"{TAGS}.{partitions}.{partition}.{salt}" for salt in count())
    return next(name for name in names if slot_of(name) * partitions // SLOTS == partition)


class MemberKeys(NamedTuple):
    """The registry of members that share partitions, their channel for changes, and the list that `name` belongs on."""

    members: str
    changes: str
    names: str = ""
    name: str = ""


class SubscriptionKeys:
    """The keys of a durable subscription in one partition; its name has no colon, so none can meet another's."""

    def __init__(self, prefix: str, name: str) -> None:
        """Build them; `prefix` is that of all subscriptions in the partition."""
        self.state = f"{prefix}:{name}"
        self.lease = f"{self.state}:lease"
        self.parked = f"{self.state}:parked"
        self.requests = f"{self.state}:requests"
        self.retries = f"{self.state}:retries"
        self.types = {
            self.lease: "string",
            self.state: "hash",
            self.parked: "hash",
            self.requests: "hash",
            self.retries: "zset",
        }

    def queue(self, session_id: str) -> str:
        """The stream of the queued events of a retried or parked session."""
        return f"{self.parked}:{session_id}"


class SessionKeys(NamedTuple):
    """The keys of one session: the hashes of its header and messages, the sorted set of message ids by position."""

    header: str
    messages: str
    order: str


class PartitionKeys:
    """The keys of one partition."""

    def __init__(self, namespace: str, tag: str) -> None:
        """Build the fixed keys once."""
        self.tag = f"{{{tag}}}"

        def key(kind: str) -> str:
            return f"{namespace}:{kind}:{self.tag}"

        self.commands = key("commands")
        self.lease = key("lease")
        self.partition = key("partition")
        self.index = key("index")
        self.events = key("events")
        self.malformed = key("malformed")
        self.parked = key("parked")
        self.absent = key("absent")
        self.rights = key("rights")
        self.live = key("live")
        self.lost = key("lost")
        self.lost_rights = f"{self.lost}:rights"
        self.types = {
            self.commands: "stream",
            self.lease: "string",
            self.partition: "hash",
            self.events: "stream",
            self.index: "zset",
            self.parked: "hash",
            self.malformed: "stream",
        }
        """The type of each key that serves the whole partition."""
        self.outcomes_prefix = f"{key('outcomes')}:"
        self._session = f"{key('session')}:"
        self._messages = f"{key('messages')}:"
        self._order = f"{key('order')}:"
        self._subscription = key("subscription")
        self._reply = f"{key('reply')}:"
        self._reply_channel = re.compile(re.escape(self._reply) + CLIENT_ID)

    def session(self, session_id: str) -> str:
        """The hash of a session's header."""
        return self._session + session_id

    def messages(self, session_id: str) -> str:
        """The hash of a session's messages."""
        return self._messages + session_id

    def order(self, session_id: str) -> str:
        """The sorted set of a session's message ids by position."""
        return self._order + session_id

    def of_session(self, session_id: str) -> SessionKeys:
        """All keys of a session."""
        return SessionKeys(self._session + session_id, self._messages + session_id, self._order + session_id)

    def queue(self, session_id: str) -> str:
        """The stream of a parked session's commands."""
        return f"{self.parked}:{session_id}"

    def outcomes(self, bucket: int) -> str:
        """The hash of the outcomes of commands whose entries were made in this bucket of time."""
        return f"{self.outcomes_prefix}{bucket}"

    def is_shared(self, key: str) -> bool:
        """Return whether a key serves all sessions, so that an unexpected value there is no session's fault."""
        fixed = (self.partition, self.commands, self.events, self.index, self.parked, self.malformed)
        return key in fixed or key.startswith(self.outcomes_prefix)

    def subscription(self, name: str) -> SubscriptionKeys:
        """The keys of a durable subscription."""
        return SubscriptionKeys(self._subscription, name)

    def reply_channel(self, client_id: str) -> str:
        """The channel on which a client gets its replies."""
        return self._reply + client_id

    def is_reply_channel(self, channel: str) -> bool:
        """Return whether a channel is one of this partition's for replies."""
        return self._reply_channel.fullmatch(channel) is not None


class KeyPatterns:
    """Patterns of keys and channels for access rules: by kind, so that no id of a session or a client changes one."""

    def __init__(self, namespace: str) -> None:
        """Build the patterns of a namespace."""

        def kind(name: str) -> str:
            return f"{namespace}:{name}:*"

        self.all = f"{namespace}:*"
        self.commands = kind("commands")
        self.subscriptions = kind("subscription")
        self.names = f"{namespace}:names:{{subscriptions}}"
        self.members = f"{namespace}:members:{{subscriptions}}:*"
        self.changes = f"{namespace}:changes:{{subscriptions}}:*"
        self.replies = kind("reply")
        self.losses = kind("lost")
        self.live = (kind("events"), kind("session"), kind("live"))


class Keys:
    """The keys of a deployment; in a cluster its channels are sharded, in the slots of their partitions."""

    def __init__(self, namespace: str, partitions: int, *, sharded: bool = False) -> None:
        """Build the keys under a namespace."""
        self.sharded = sharded
        self.publish = "SPUBLISH" if sharded else "PUBLISH"
        self.partitions = tuple(PartitionKeys(namespace, tag) for tag in tags(partitions))
        self.layout = f"{namespace}:layout"
        self.workers = f"{namespace}:workers"
        self.changes = f"{namespace}:workers:changes"
        # The tag is for a cluster: the list of names and the members of each share a slot.
        self.subscriptions = f"{namespace}:names:{{subscriptions}}"
        self._members = f"{namespace}:members:{{subscriptions}}:"
        self._changes = f"{namespace}:changes:{{subscriptions}}:"
        self._events = f"{namespace}:events:"
        self._session = f"{namespace}:session:"

    def members(self, name: str) -> MemberKeys:
        """The keys of a subscription's members."""
        return MemberKeys(self._members + name, self._changes + name, self.subscriptions, name)

    def event_channel(self, event_type: str) -> str:
        """The channel of all events of a type."""
        return self._events + event_type

    def session_channel(self, session_id: str) -> str:
        """The channel of a session's events."""
        return self._session + session_id

    def live_channels(self, partition: PartitionKeys, event_type: str, session_id: str) -> tuple[str, str]:
        """The two channels that carry an event live; in a cluster one, and "" for the other."""
        if self.sharded:
            return partition.live, ""
        return self._events + event_type, self._session + session_id


class FormerKey(NamedTuple):
    """A key of the layout before this one."""

    now: bytes
    kind: str
    partition: int | None
    """`None` for what belongs to the whole deployment."""


class FormerKeys:
    """The keys of layout 1, in which a key named its tag first; its tags are those of this layout."""

    LAYOUT: Final = 1
    MIGRATING: Final = "1>2"
    """The layout of a deployment while its keys are renamed: no program starts on it."""

    KINDS: Final = frozenset(
        (
            *("commands", "lease", "partition", "index", "events", "malformed", "parked", "rights", "session"),
            *("messages", "order", "outcomes", "subscription"),
        )
    )

    def __init__(self, namespace: str, partitions: int) -> None:
        """Take the namespace of a deployment and its number of partitions."""
        self.pattern = f"{namespace}:{{*"
        self.subscriptions = f"{namespace}:{{subscriptions}}"
        self._namespace = namespace
        self._tags = tags(partitions)
        self._numbers = {tag.encode(): number for number, tag in enumerate(self._tags)}
        self._form = re.compile(rb"%s:\{([^}]*)\}:([a-z]+)((?::.*)?)" % re.escape(namespace.encode()), re.DOTALL)
        self._member_form = re.compile(rb"%s:(.+):members" % re.escape(self.subscriptions.encode()), re.DOTALL)

    def read(self, key: bytes) -> FormerKey | None:
        """Say what a key is in this layout; `None` where it is none of a deployment's."""
        namespace = self._namespace.encode()
        if key == self.subscriptions.encode():
            return FormerKey(b"%s:names:{subscriptions}" % namespace, "names", None)
        if members := self._member_form.fullmatch(key):
            return FormerKey(b"%s:members:{subscriptions}:%s" % (namespace, members[1]), "members", None)
        found = self._form.fullmatch(key)
        if found is None or found[1] not in self._numbers or found[2].decode() not in self.KINDS:
            return None
        now = b"%s:%s:{%s}%s" % (namespace, found[2], found[1], found[3])
        return FormerKey(now, found[2].decode(), self._numbers[found[1]])

    def members(self, name: str) -> str:
        """The registry of a subscription's members."""
        return f"{self.subscriptions}:{name}:members"

    def leases(self, partition: int, subscriptions: Iterable[str]) -> list[str]:
        """The leases in a partition: its worker's, and those of subscriptions."""
        prefix = f"{self._namespace}:{{{self._tags[partition]}}}"
        return [f"{prefix}:lease", *(f"{prefix}:subscription:{name}:lease" for name in subscriptions)]

    def replies(self, partition: int) -> str:
        """The prefix of all reply channels of a partition."""
        return f"{self._namespace}:{{{self._tags[partition]}}}:reply:"
