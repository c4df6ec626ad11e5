"""The registry of live members: heartbeats, and connections whose end shows a death immediately (design §5)."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

from turnstream.adapters.redis.failures import understood
from turnstream.adapters.redis.keys import MemberKeys
from turnstream.adapters.redis.pubsub.channels import RedisChannels
from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.stored_records import RecordLocation, decoded_fields, read
from turnstream.errors import ConfigurationError
from turnstream.logging import get_logger
from turnstream.ports import Subscription

log = get_logger(__name__)


def _beaten(record: bytes) -> int:
    """Return when a member gave its last sign of life, in milliseconds since 1970."""
    return int(record.split()[0])


class Registry:
    """A hash of members, each with its last sign of life and its connection, and a channel for changes."""

    def __init__(self, server: Server, channels: RedisChannels, keys: MemberKeys) -> None:
        """Use a server."""
        self._server = server
        self._channels = channels
        self._keys = keys
        self._calls = server.topology.calls(keys.members)
        self._alive: dict[str, str] = {}
        self._may_list = True
        self._suspect: tuple[str, str] | None = None

    async def beat(self, member_id: str) -> Sequence[str]:
        """Note that a member lives; return all live members."""
        own = await self._calls.call("CLIENT", "ID") if self._server.knows_replication else ""
        keys = [key for key in (self._keys.members, self._keys.names) if key]
        arguments = (member_id, own, self._lease_ms, self._keys.changes, self._keys.name)
        answer: list[bytes] = await self._understood(self._server.scripts.beat.run(self._calls, keys, arguments))
        self._alive = {i.decode(): c.decode() for i, c in zip(answer[::2], answer[1::2], strict=True)}
        return list(self._alive)

    async def watch(self, member_id: str) -> None:
        """Check that the next member is connected; if it is not in two checks, it is forgotten."""
        suspect = self._next_to(member_id) if self._may_list else None
        if suspect is None or await self._is_connected(suspect[1]):
            self._suspect = None
        elif suspect != self._suspect:
            # It may be opening another one just now.
            self._suspect = suspect
        else:
            log.warning("member lost its connection, its partitions are free", lost=suspect[0])
            await self.forget(*suspect)

    async def forget(self, member_id: str, connection: str = "") -> None:
        """Forget a member, of which this connection is known, or any ("")."""
        arguments = (member_id, connection, self._keys.changes)
        await self._understood(self._server.scripts.forget.run(self._calls, [self._keys.members], arguments))

    async def has(self, member_id: str) -> bool:
        """Return whether a member is known."""
        return bool(await self._understood(self._calls.call("HEXISTS", self._keys.members, member_id)))

    async def living(self) -> Sequence[str]:
        """Return the members that gave a sign of life within the lease time."""
        ages = await self.ages()
        return [member for member, age in ages.items() if age * 1000 <= self._lease_ms]

    async def ages(self) -> Mapping[str, float]:
        """Return the seconds since the last sign of life of each member that is known, by the server's clock."""
        place = RecordLocation(self._keys.members, "hash")
        pairs: list[bytes] = await read(self._calls, place, "HGETALL")
        seconds, microseconds = map(int, await self._calls.call("TIME"))
        now = seconds * 1000 + microseconds // 1000
        beats = decoded_fields(place, _beaten, pairs)
        return {member: max(0, now - beaten) / 1000 for member, beaten in beats}

    async def clear(self) -> None:
        """Forget all members, and the name that they share."""
        await self._calls.call("UNLINK", self._keys.members)
        await self._understood(self._calls.call("SREM", self._keys.names, self._keys.name))

    async def notify(self, what: str) -> None:
        """Notify all members of a change."""
        await self._calls.call("PUBLISH", self._keys.changes, what)

    async def subscribe(self) -> Subscription:
        """Listen to changes."""
        return await self._channels.hear_changes(self._keys.changes)

    async def _understood(self, answer: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever the server answers
        types = {self._keys.members: "hash", **({self._keys.names: "set"} if self._keys.names else {})}
        return await understood(answer, self._calls, types)

    @property
    def _lease_ms(self) -> int:
        return int(self._server.settings.lease * 1000)

    def _next_to(self, member_id: str) -> tuple[str, str] | None:
        """Return the member that this one watches, alone itself, and its connection: all together watch all."""
        if member_id not in self._alive:
            return None
        members = sorted(self._alive)
        neighbour = members[(members.index(member_id) + 1) % len(members)]
        connection = self._alive[neighbour]
        same_server = connection.partition(":")[0] == self._alive[member_id].partition(":")[0]
        return (neighbour, connection) if connection and same_server else None

    async def _is_connected(self, connection: str) -> bool:
        try:
            return bool(await self._calls.call("CLIENT", "LIST", "ID", connection.rpartition(":")[2]))
        except ConfigurationError:
            # The user may not list connections; a member that is silent for a lease time is forgotten in any case.
            log.info("a member that dies is missed when its lease ends: this user may not list connections")
            self._may_list = False
            return True
        except ResponseError:
            # It is no connection's id: another program has written it.
            return False
