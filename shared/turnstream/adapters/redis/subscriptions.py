"""What durable subscriptions store, each in the partitions that it reads (design §6)."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

from turnstream.adapters.redis.channels import RedisChannels
from turnstream.adapters.redis.keys import SubscriptionKeys
from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.stored import Place, decoded, decoded_fields, read
from turnstream.adapters.redis.subscription_membership import SubscriptionMembership, mark_of, understood
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
        await _as_owner(state, done)

    async def parked(self, name: str, partition: int) -> Mapping[str, ParkedEvents]:
        """Return the parked sessions of a partition."""
        place = Place(self._keys(name, partition).parked, "hash")
        pairs = await read(self._server.calls(partition), place, "HGETALL")
        return dict(decoded_fields(place, _parked, pairs))

    async def queue(self, name: str, partition: int, session_id: str, count: int) -> Sequence[tuple[int, bytes]]:
        """Return up to `count` parked events of a session from the head on, each as its sequence and its envelope."""
        place = Place(self._keys(name, partition).queue(session_id), "stream", session_id)
        rows = await read(self._server.calls(partition), place, "XRANGE", "-", "+", "COUNT", count)
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
        return bool(await _as_owner(state, done))

    async def unpark(self, name: str, state: SubscriptionState, session_id: str, sequence: int) -> int:
        """Drop the head of a session's queue if it has this sequence; return how many are left.

        Raises:
            Fenced: the partition has another owner.

        """
        keys = self._keys(name, state.partition)
        names = (keys.state, keys.parked, keys.queue(session_id))
        arguments = (state.token, session_id, sequence)
        return await _as_owner(
            state, self._server.scripts.unpark.run(self._server.calls(state.partition), names, arguments)
        )

    async def request(self, name: str, partition: int, session_id: str, what: Request) -> None:
        """Ask a partition's owner to redrive or discard a parked session, and ring the bell for it."""
        place = Place(self._keys(name, partition).requests, "hash")
        await read(self._server.calls(partition), place, "HSET", session_id, what)
        await self.membership(name).registry.ring("requests")

    async def requests(self, name: str, partition: int) -> Mapping[str, Request]:
        """Return what is asked for, by session."""
        place = Place(self._keys(name, partition).requests, "hash")
        pairs = await read(self._server.calls(partition), place, "HGETALL")
        return {i: cast("Request", what) for i, what in decoded_fields(place, bytes.decode, pairs)}

    async def withdraw(self, name: str, partition: int, session_id: str) -> None:
        """Forget a request: it is done."""
        place = Place(self._keys(name, partition).requests, "hash")
        await read(self._server.calls(partition), place, "HDEL", session_id)

    async def names(self) -> Sequence[str]:
        """Return all subscriptions that ever had a member, but for those forgotten since."""
        place = Place(self._server.keys.subscriptions, "set")
        names: Sequence[bytes] = await read(self._names, place, "SMEMBERS")
        return sorted(decoded(place, bytes.decode, name) for name in names)

    async def members(self, name: str) -> Sequence[str]:
        """Return the live members of a subscription."""
        return await self.membership(name).registry.living()

    async def marks(self, name: str) -> Mapping[int, Mark]:
        """Return the checkpoints, by partition."""
        partitions = range(len(self._server.keys.partitions))
        places = [Place(self._keys(name, number).state, "hash") for number in partitions]
        calls = map(self._server.calls, partitions)
        answers = await asyncio.gather(
            *(read(c, place, "HMGET", "generation", "sequence") for c, place in zip(calls, places, strict=True))
        )
        marks = [decoded(place, _mark, answer) for place, answer in zip(places, answers, strict=True)]
        return {partition: mark for partition, mark in zip(partitions, marks, strict=True) if mark}

    async def reset(self, name: str, marks: Mapping[int, Mark]) -> None:
        """Set checkpoints; who owns one of these partitions is fenced, and has to take it again.

        Raises:
            Unavailable: some of them could not be set; repeat it.

        """
        server = self._server
        calls = (
            understood(partition, server.scripts.reset.run(server.calls(partition), (keys.lease, keys.state), mark))
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
        await self._call(partition, "UNLINK", keys.state, keys.lease, keys.requests)
        place = Place(keys.parked, "hash")
        sessions: Sequence[bytes] = await read(self._server.calls(partition), place, "HKEYS")
        names = [decoded(place, bytes.decode, session) for session in sessions]
        for portion in portions_of([keys.queue(name) for name in names]):
            await self._call(partition, "UNLINK", *portion)
        await self._call(partition, "UNLINK", keys.parked)

    def _keys(self, name: str, partition: int) -> SubscriptionKeys:
        return self._server.partition(partition).subscription(name)

    async def _call(self, partition: int, *words: str | int) -> Any:  # noqa: ANN401 - whatever the server answers
        return await understood(partition, self._server.calls(partition).call(*words))


async def _as_owner(state: SubscriptionState, answer: Awaitable[int]) -> int:
    """Return the answer of a script that checks the token."""
    done = await understood(state.partition, answer)
    if done < 0:
        raise Fenced(state.partition, "token")
    return done


def _mark(fields: tuple[bytes | None, bytes | None]) -> Mark | None:
    return mark_of(*fields)


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
