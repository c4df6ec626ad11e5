"""What durable subscriptions store, each in the partitions that it reads (design §6)."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

from turnstream.adapters.redis.channels import RedisChannels
from turnstream.adapters.redis.faults import understood
from turnstream.adapters.redis.keys import SubscriptionKeys
from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.subscription_membership import SubscriptionMembership, mark_of
from turnstream.adapters.redis.words import portions_of
from turnstream.domain.position import Mark
from turnstream.errors import Fenced, SubscriptionInUse
from turnstream.ports import FailedEvent, ParkedEvents, Request, SubscriptionState
from turnstream.ports.values import EPOCH


class RedisSubscriptions:
    """A hash, a lease, a registry of parked sessions with a queue for each, and requests, in every partition."""

    def __init__(self, server: Server, channels: RedisChannels) -> None:
        """Use a server."""
        self._server = server
        self._channels = channels
        self._memberships: dict[str, SubscriptionMembership] = {}
        self._names = server.topology.calls(server.keys.subscriptions)

    def membership(self, name: str) -> SubscriptionMembership:
        """Return how members share the partitions of a subscription."""
        if name not in self._memberships:
            self._memberships[name] = SubscriptionMembership(self._server, self._channels, name)
        return self._memberships[name]

    async def checkpoint(self, name: str, state: SubscriptionState, mark: Mark) -> None:
        """Note how far a partition is handled.

        Raises:
            Fenced: the partition has another owner.

        """
        script, keys = self._server.scripts.checkpoint, self._keys(name, state.partition)
        done = script.run(self._server.calls(state.partition), [keys.state], (state.token, *mark))
        await self._as_owner(state, keys, done)

    async def parked(self, name: str, partition: int) -> Mapping[str, ParkedEvents]:
        """Return the parked sessions of a partition."""
        pairs = await self._call(name, partition, "HGETALL", self._keys(name, partition).parked)
        return {i.decode(): _parked(record) for i, record in zip(pairs[::2], pairs[1::2], strict=True)}

    async def queue(self, name: str, partition: int, session_id: str, count: int) -> Sequence[tuple[int, bytes]]:
        """Return up to `count` parked events of a session from the head on, each as its sequence and its envelope."""
        key = self._keys(name, partition).queue(session_id)
        rows = await self._call(name, partition, "XRANGE", key, "-", "+", "COUNT", count)
        return [(int(entry_id.partition(b"-")[0]), words[1]) for entry_id, words in rows]

    async def park(self, name: str, state: SubscriptionState, event: FailedEvent) -> bool:
        """Put an event at the end of its session's queue; False where it was counted as lost.

        Raises:
            Fenced: the partition has another owner.

        """
        keys, settings = self._keys(name, state.partition), self._server.settings
        arguments = (
            *(state.token, event.session_id, event.sequence, event.payload, event.reason, event.attempts),
            *(settings.parked_events, settings.parked_event_bytes),
        )
        names = (keys.state, keys.parked, keys.queue(event.session_id))
        done = self._server.scripts.park.run(self._server.calls(state.partition), names, arguments)
        return bool(await self._as_owner(state, keys, done, event.session_id))

    async def unpark(self, name: str, state: SubscriptionState, session_id: str, sequence: int) -> int:
        """Drop the head of a session's queue if it has this sequence; return how many are left.

        Raises:
            Fenced: the partition has another owner.

        """
        keys = self._keys(name, state.partition)
        names = (keys.state, keys.parked, keys.queue(session_id))
        arguments = (state.token, session_id, sequence)
        done = self._server.scripts.unpark.run(self._server.calls(state.partition), names, arguments)
        return await self._as_owner(state, keys, done, session_id)

    async def request(self, name: str, partition: int, session_id: str, what: Request) -> None:
        """Ask a partition's owner to redrive or discard a parked session, and ring the bell for it."""
        await self._call(name, partition, "HSET", self._keys(name, partition).requests, session_id, what)
        await self.membership(name).registry.ring("requests")

    async def requests(self, name: str, partition: int) -> Mapping[str, Request]:
        """Return what is asked for, by session."""
        pairs = await self._call(name, partition, "HGETALL", self._keys(name, partition).requests)
        return {i.decode(): cast("Request", what.decode()) for i, what in zip(pairs[::2], pairs[1::2], strict=True)}

    async def withdraw(self, name: str, partition: int, session_id: str) -> None:
        """Forget a request: it is done."""
        await self._call(name, partition, "HDEL", self._keys(name, partition).requests, session_id)

    async def names(self) -> Sequence[str]:
        """Return all subscriptions that ever had a member, but for those forgotten since."""
        names: Sequence[bytes] = await self._names.call("SMEMBERS", self._server.keys.subscriptions)
        return sorted(name.decode() for name in names)

    async def members(self, name: str) -> Sequence[str]:
        """Return the live members of a subscription."""
        return await self.membership(name).registry.living()

    async def marks(self, name: str) -> Mapping[int, Mark]:
        """Return the checkpoints, by partition."""
        partitions = range(len(self._server.keys.partitions))
        read = (self._call(name, n, "HMGET", self._keys(name, n).state, "generation", "sequence") for n in partitions)
        marks = [mark_of(*answer) for answer in await asyncio.gather(*read)]
        return {partition: mark for partition, mark in zip(partitions, marks, strict=True) if mark}

    async def reset(self, name: str, marks: Mapping[int, Mark]) -> None:
        """Set checkpoints; who owns one of these partitions is fenced, and has to take it again.

        Raises:
            Unavailable: some of them could not be set; repeat it.

        """
        server = self._server
        calls = (
            understood(
                server.scripts.reset.run(server.calls(partition), (keys.lease, keys.state), mark),
                server.calls(partition),
                keys.types,
            )
            for partition, mark in marks.items()
            for keys in [self._keys(name, partition)]
        )
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await self.membership(name).registry.ring("checkpoints")
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    async def forget(self, name: str) -> None:
        """Forget everything of a subscription.

        Raises:
            SubscriptionInUse: it has live members.

        """
        registry = self.membership(name).registry
        members = await registry.living()
        if members:
            raise SubscriptionInUse(name, len(members))
        await asyncio.gather(*(self._forget(name, number) for number in range(len(self._server.keys.partitions))))
        # Last, so that its name stays in the list until all else is gone.
        await registry.clear()

    async def _forget(self, name: str, partition: int) -> None:
        keys = self._keys(name, partition)
        # First what holds the token: a member that comes back from a pause writes nothing more.
        await self._call(name, partition, "UNLINK", keys.state, keys.lease, keys.requests)
        sessions: Sequence[bytes] = await self._call(name, partition, "HKEYS", keys.parked)
        for portion in portions_of([keys.queue(session.decode()) for session in sessions]):
            await self._call(name, partition, "UNLINK", *portion)
        await self._call(name, partition, "UNLINK", keys.parked)

    def _keys(self, name: str, partition: int) -> SubscriptionKeys:
        return self._server.partition(partition).subscription(name)

    async def _as_owner(
        self, state: SubscriptionState, keys: SubscriptionKeys, answer: Awaitable[int], session_id: str = ""
    ) -> int:
        """Return the answer of a script that checks the token, about a session's queue if one is named."""
        types = {**keys.types, **({keys.queue(session_id): "stream"} if session_id else {})}
        done = await understood(answer, self._server.calls(state.partition), types)
        if done < 0:
            raise Fenced(state.partition, "token")
        return done

    async def _call(self, name: str, partition: int, *words: str | int) -> Any:  # noqa: ANN401 - whatever is answered
        calls = self._server.calls(partition)
        return await understood(calls.call(*words), calls, self._keys(name, partition).types)


def _parked(record: bytes) -> ParkedEvents:
    """Read what `park.lua` wrote."""
    count, size, since, _, lost, attempts, reason = record.decode().split(" ", 6)
    return ParkedEvents(
        count=int(count),
        size=int(size),
        since=EPOCH + timedelta(milliseconds=int(since)),
        reason=reason,
        attempts=int(attempts),
        lost=int(lost),
    )
