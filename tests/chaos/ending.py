"""Reads the final state of a run: sessions through a client, everything else directly from the server."""

from collections.abc import AsyncIterator, Iterator

from tests.chaos.archive import Archive
from tests.chaos.history import PartitionEnd

from turnstream import Session, Turnstream
from turnstream.adapters.redis.connection.executor import CommandExecutor
from turnstream.adapters.redis.keys import PartitionKeys
from turnstream.adapters.redis.server import Server
from turnstream.codec.events import decode_event
from turnstream.codec.records import decode_outcome
from turnstream.domain.events import AnyEvent
from turnstream.ports import Outcome

PAGE = 1_000


class Ending:
    """Looks at a deployment past every proxy; with an archive, all events are there in the end."""

    def __init__(self, server: Server, archive: Archive | None = None) -> None:
        self._server = server
        self._archive = archive

    async def heads(self) -> dict[int, int]:
        """Return the sequence of every partition's latest event."""
        of_all = enumerate(self._partitions())
        found = {number: await calls.call("HGET", keys.partition, "sequence") for number, (keys, calls) in of_all}
        return {number: int(sequence or 0) for number, sequence in found.items()}

    async def backlog(self) -> int:
        """Return how many commands wait."""
        return sum([int(await calls.call("XLEN", keys.commands)) for keys, calls in self._partitions()])

    async def nothing_waits_for(self, subscription: str) -> bool:
        """Return whether a durable subscription is at the end of every event log and retries no session."""
        for keys, calls in self._partitions():
            sequence = await calls.call("HGET", keys.partition, "sequence")
            found = await calls.call("HMGET", keys.subscription(subscription).state, "sequence", "parked")
            if [int(value or 0) for value in found] != [int(sequence or 0), 0]:
                return False
        return True

    async def all_owned(self) -> bool:
        """Return whether every partition's lease belongs to the token in its hash."""
        for keys, calls in self._partitions():
            lease = await calls.call("GET", keys.lease)
            if lease is None or lease != await calls.call("HGET", keys.partition, "token"):
                return False
        return True

    async def partitions(self) -> list[PartitionEnd]:
        """Return the final state of every partition."""
        return [await self._partition(number, *of) for number, of in enumerate(self._partitions())]

    def _partitions(self) -> Iterator[tuple[PartitionKeys, CommandExecutor]]:
        for number, keys in enumerate(self._server.keys.partitions):
            yield keys, self._server.calls(number)

    async def _partition(self, number: int, keys: PartitionKeys, calls: CommandExecutor) -> PartitionEnd:
        fields = ("token", "generation", "cursor", "sequence")
        values: list[bytes | None] = await calls.call("HMGET", keys.partition, *fields)
        token, generation, cursor, sequence = ((value or b"").decode() for value in values)
        events = (
            await self._archive.events(number)
            if self._archive
            else [event async for event in _events(keys.events, calls)]
        )
        outcomes = await _outcomes(keys, calls)
        parked = frozenset(command_id for command_id, outcome in outcomes.items() if outcome.status == "parked")
        return PartitionEnd(
            number=number,
            lease=(await calls.call("GET", keys.lease) or b"").decode(),
            token=token,
            generation=generation,
            cursor=cursor,
            sequence=int(sequence or 0),
            backlog=await calls.call("XLEN", keys.commands),
            events=events,
            outcomes={i: outcome for i, outcome in outcomes.items() if i not in parked},
            parked=parked,
        )


async def _events(key: str, calls: CommandExecutor) -> AsyncIterator[AnyEvent]:
    start = "-"
    while True:
        rows: list[tuple[bytes, list[bytes]]] = await calls.call("XRANGE", key, start, "+", "COUNT", PAGE)
        for _, (_, payload) in rows:
            event = decode_event(payload)
            assert event is not None
            yield event
        if len(rows) < PAGE:
            return
        start = f"({rows[-1][0].decode()}"


async def _outcomes(keys: PartitionKeys, calls: CommandExecutor) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    prefix = keys.outcomes(0).removesuffix("0")
    for bucket in await calls.call("KEYS", f"{prefix}*"):
        pairs = iter(await calls.call("HGETALL", bucket))
        for command_id, record in zip(pairs, pairs, strict=True):
            outcome = decode_outcome(record)
            # One that was parked and redriven may have an outcome in two of them.
            if outcome.status != "parked" or command_id.decode() not in found:
                found[command_id.decode()] = outcome
    return found


async def stored_sessions(ts: Turnstream) -> dict[str, Session]:
    """Return all sessions, whole, as a client reads them."""
    found: dict[str, Session] = {}
    async for info in ts.sessions.list():
        session = await ts.sessions.get(info.id)
        if session is not None:
            found[info.id] = session
    return found
