"""The store of durable subscriptions, in the partitions that they read (design §6)."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec

from turnstream.adapters.redis.connection.pipelined import Word
from turnstream.adapters.redis.keys import SubscriptionKeys
from turnstream.adapters.redis.membership.consumers import ConsumerMembership, log_position_of, understood
from turnstream.adapters.redis.pubsub.channels import RedisChannels
from turnstream.adapters.redis.server import Server, portions_of
from turnstream.adapters.redis.stored_records import RecordLocation, decoded, decoded_fields, read
from turnstream.codec.records import milliseconds
from turnstream.domain.position import LogPosition
from turnstream.errors import SubscriptionInUse
from turnstream.ports import (
    EPOCH,
    ConsumerStore,
    DueSessions,
    FailedEvent,
    Failure,
    ParkedEvents,
    ParkResult,
    Request,
    SubscriptionState,
)
from turnstream.signals import Fenced

NOTHING_KNOWN = ParkedEvents(0, 0, EPOCH, "", 0, 0)
"""A session that is to be tried again and has no record: it leaves with its next turn."""

PARKED = Failure(is_parked=True)


class RedisConsumerStore(ConsumerStore):
    """In every partition a hash, a lease, requests, and the retried and parked sessions with a queue for each."""

    def __init__(self, server: Server, channels: RedisChannels) -> None:
        """Use a server."""
        self._server = server
        self._channels = channels
        self._memberships: dict[str, ConsumerMembership] = {}
        self._names = server.topology.calls(server.keys.subscriptions)

    def membership(self, name: str) -> ConsumerMembership:
        """Return how members share the partitions of a subscription."""
        if name not in self._memberships:
            self._memberships[name] = ConsumerMembership(self._server, self._channels, name)
        return self._memberships[name]

    async def checkpoint(self, name: str, state: SubscriptionState, mark: LogPosition) -> None:
        """Note how far a partition is handled.

        Raises:
            Fenced: the partition has another owner.

        """
        script, keys = self._server.scripts.checkpoint, self._keys(name, state.partition)
        done = script.run(self._server.calls(state.partition), [keys.state], (state.token, *mark, state.replication_id))
        await _as_owner(state, done)

    async def parked(self, name: str, partition: int) -> Mapping[str, ParkedEvents]:
        """Return the retried and parked sessions of a partition."""
        keys, calls = self._keys(name, partition), self._server.calls(partition)
        place, retries = RecordLocation(keys.parked, "hash"), RecordLocation(keys.retries, "zset")
        records, times = await asyncio.gather(
            read(calls, place, "HGETALL"), read(calls, retries, "ZRANGE", 0, -1, "WITHSCORES")
        )
        due = {session_id: decoded(retries, _tried_at, at) for session_id, at in _pairs(times)}
        return {
            session_id: msgspec.structs.replace(found, next_try=due.get(session_id.encode()))
            for session_id, found in decoded_fields(place, _parked, records)
        }

    async def due(self, name: str, partition: int, count: int) -> DueSessions:
        """Return up to `count` sessions that are due, the one that is due for longest first."""
        keys = self._keys(name, partition)
        (seconds, microseconds), times = await asyncio.gather(
            self._call(partition, "TIME"),
            self._call(partition, "ZRANGE", keys.retries, 0, count - 1, "WITHSCORES"),
        )
        now = int(seconds) * 1000 + int(microseconds) // 1000
        due = {i: score for i, score in _pairs(times) if float(score) <= now}
        later = [float(score) for _, score in _pairs(times) if float(score) > now]
        records: list[bytes | None] = await self._call(partition, "HMGET", keys.parked, *due) if due else []
        sessions = {
            i.decode(): msgspec.structs.replace(_parked(record), next_try=_tried_at(score)) if record else NOTHING_KNOWN
            for (i, score), record in zip(due.items(), records, strict=True)
        }
        return DueSessions(_moment(now), sessions, (later[0] - now) / 1000 if later else None)

    async def parked_session(self, name: str, partition: int, session_id: str) -> ParkedEvents | None:
        """Return one retried or parked session; `None` if it is neither."""
        place = RecordLocation(self._keys(name, partition).parked, "hash", session_id)
        record = await read(self._server.calls(partition), place, "HGET", session_id)
        return decoded(place, _parked, record) if record else None

    async def queue(self, name: str, partition: int, session_id: str, count: int) -> Sequence[tuple[int, bytes]]:
        """Return up to `count` parked events of a session from the head on, each as its sequence and its envelope."""
        place = RecordLocation(self._keys(name, partition).queue(session_id), "stream", session_id)
        rows = await read(self._server.calls(partition), place, "XRANGE", "-", "+", "COUNT", count)
        return [(int(entry_id.partition(b"-")[0]), words[1]) for entry_id, words in rows]

    async def park(
        self,
        name: str,
        state: SubscriptionState,
        event: FailedEvent,
        failure: Failure | None = None,
        *,
        lose: bool = True,
    ) -> ParkResult:
        """Append an event to the queue of its session; an event that failed creates the queue.

        Raises:
            Fenced: the partition has another owner.

        """
        keys, settings, failure = self._keys(name, state.partition), self._server.settings, failure or PARKED
        arguments = (
            *(state.token, event.session_id, event.sequence, event.payload, event.reason, event.attempts),
            *(settings.parked_events, settings.parked_event_bytes, int(lose)),
            *(failure.doublings, int(failure.is_parked), _pause(failure), state.replication_id),
        )
        names = (keys.state, keys.parked, keys.queue(event.session_id), keys.retries)
        done = self._server.scripts.park.run(self._server.calls(state.partition), names, arguments)
        return ParkResult(await _as_owner(state, done))

    async def postpone(self, name: str, state: SubscriptionState, session_id: str, failure: Failure) -> bool:
        """Note how the head of a session's queue failed, and the next attempt; False if there is no queue.

        Raises:
            Fenced: the partition has another owner.

        """
        keys = self._keys(name, state.partition)
        first = "" if failure.first is None else milliseconds(failure.first)
        arguments = (
            *(state.token, session_id, failure.reason, failure.attempts, first),
            *(failure.doublings, int(failure.is_parked), _pause(failure)),
        )
        names = (keys.state, keys.parked, keys.retries)
        done = self._server.scripts.postpone.run(self._server.calls(state.partition), names, arguments)
        return bool(await _as_owner(state, done))

    async def hasten(self, name: str, state: SubscriptionState, count: int) -> int:
        """Make the next `count` sessions due that would be later; return how many there were.

        Raises:
            Fenced: the partition has another owner.

        """
        keys = self._keys(name, state.partition)
        calls = self._server.calls(state.partition)
        done = self._server.scripts.hasten.run(calls, (keys.state, keys.retries), (state.token, count))
        return await _as_owner(state, done)

    async def unpark(
        self, name: str, state: SubscriptionState, session_id: str, sequence: int, lost: int | None = None
    ) -> int:
        """Drop the head of a session's queue if it has this sequence; return how many are left.

        Raises:
            Fenced: the partition has another owner.

        """
        keys = self._keys(name, state.partition)
        names = (keys.state, keys.parked, keys.queue(session_id), keys.retries)
        arguments = (state.token, session_id, sequence, "" if lost is None else lost)
        return await _as_owner(
            state, self._server.scripts.unpark.run(self._server.calls(state.partition), names, arguments)
        )

    async def request(self, name: str, partition: int, session_id: str, what: Request) -> None:
        """Ask a partition's owner to redrive or discard a parked session, and notify it."""
        place = RecordLocation(self._keys(name, partition).requests, "hash")
        await read(self._server.calls(partition), place, "HSET", session_id, what)
        await self.membership(name).registry.notify("requests")

    async def requests(self, name: str, partition: int) -> Mapping[str, Request]:
        """Return what is asked for, by session."""
        place = RecordLocation(self._keys(name, partition).requests, "hash")
        pairs = await read(self._server.calls(partition), place, "HGETALL")
        return {i: cast("Request", what) for i, what in decoded_fields(place, bytes.decode, pairs)}

    async def withdraw(self, name: str, partition: int, session_id: str) -> None:
        """Forget a request: it is done."""
        place = RecordLocation(self._keys(name, partition).requests, "hash")
        await read(self._server.calls(partition), place, "HDEL", session_id)

    async def names(self) -> Sequence[str]:
        """Return all subscriptions that ever had a member, but for those forgotten since."""
        place = RecordLocation(self._server.keys.subscriptions, "set")
        names: Sequence[bytes] = await read(self._names, place, "SMEMBERS")
        return sorted(decoded(place, bytes.decode, name) for name in names)

    async def members(self, name: str) -> Sequence[str]:
        """Return the live members of a subscription."""
        return await self.membership(name).registry.living()

    async def checkpoints(self, name: str) -> Mapping[int, LogPosition]:
        """Return the checkpoints, by partition."""
        partitions = range(len(self._server.keys.partitions))
        places = [RecordLocation(self._keys(name, number).state, "hash") for number in partitions]
        calls = map(self._server.calls, partitions)
        answers = await asyncio.gather(
            *(read(c, place, "HMGET", "generation", "sequence") for c, place in zip(calls, places, strict=True))
        )
        marks = [decoded(place, _mark, answer) for place, answer in zip(places, answers, strict=True)]
        return {partition: mark for partition, mark in zip(partitions, marks, strict=True) if mark}

    async def reset(self, name: str, marks: Mapping[int, LogPosition]) -> None:
        """Set checkpoints; the owners of these partitions are fenced, and have to take them again.

        Raises:
            Unavailable: some of them could not be set; repeat it.

        """

        async def set_to(partition: int, mark: LogPosition) -> None:
            keys = self._keys(name, partition)
            reset = self._server.scripts.reset.run(self._server.calls(partition), (keys.lease, keys.state), mark)
            await understood(partition, reset)

        answers = await asyncio.gather(*(set_to(*each) for each in marks.items()), return_exceptions=True)
        await self.membership(name).registry.notify("checkpoints")
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
        await self._call(partition, "UNLINK", keys.state, keys.lease, keys.requests, keys.retries)
        place = RecordLocation(keys.parked, "hash")
        sessions: Sequence[bytes] = await read(self._server.calls(partition), place, "HKEYS")
        names = [decoded(place, bytes.decode, session) for session in sessions]
        for portion in portions_of([keys.queue(name) for name in names]):
            await self._call(partition, "UNLINK", *portion)
        await self._call(partition, "UNLINK", keys.parked)

    def _keys(self, name: str, partition: int) -> SubscriptionKeys:
        return self._server.partition(partition).subscription(name)

    async def _call(self, partition: int, *words: Word) -> Any:  # noqa: ANN401 - whatever the server answers
        return await understood(partition, self._server.calls(partition).call(*words))


async def _as_owner(state: SubscriptionState, answer: Awaitable[int]) -> int:
    """Return the answer of a script that checks the token."""
    done = await understood(state.partition, answer)
    if done < 0:
        raise Fenced(state.partition, "token")
    return done


def _mark(fields: tuple[bytes | None, bytes | None]) -> LogPosition | None:
    return log_position_of(*fields)


def _pairs(answer: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(answer[::2], answer[1::2], strict=True))


def _parked(record: bytes) -> ParkedEvents:
    """Decode a record of `park.lua`; a record of an older version, which did not retry, is parked."""
    count, size, since, _, lost, tries, reason = record.decode().split(" ", 6)
    attempts, first, doublings, is_parked = tries.split(":") if ":" in tries else (tries, since, "0", "1")
    return ParkedEvents(
        count=int(count),
        size=int(size),
        since=_moment(int(since)),
        reason=reason,
        attempts=int(attempts),
        lost=int(lost),
        first=_moment(int(first)) if first != "0" else None,
        doublings=int(doublings),
        is_parked=is_parked == "1",
    )


def _tried_at(score: bytes) -> datetime:
    return _moment(int(float(score)))


def _moment(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


def _pause(failure: Failure) -> str | int:
    """Return the milliseconds until the next try as scripts take it."""
    return "" if failure.retry_in is None else round(failure.retry_in * 1000)
