"""Reads what is stored when all is quiet: sessions as their users read them, the rest straight from the server."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from redis.asyncio import Redis
from tests.chaos.history import PartitionEnd

from turnstream import Session, Turnstream
from turnstream.adapters.redis.keys import Keys, PartitionKeys
from turnstream.codec.events import decode_event
from turnstream.codec.records import decode_outcome
from turnstream.domain.events import AnyEvent
from turnstream.ports import Outcome

PAGE = 1_000

Call = Callable[..., Awaitable[Any]]


class Ending:
    """Looks at a deployment past every proxy."""

    def __init__(self, url: str, keys: Keys) -> None:
        self._raw = Redis.from_url(url, protocol=2)
        self._call = cast("Call", self._raw.execute_command)
        self._keys = keys

    async def aclose(self) -> None:
        await self._raw.aclose()

    async def heads(self) -> dict[int, int]:
        """Return the sequence of every partition's latest event."""
        found = {n: await self._call("HGET", keys.partition, "sequence") for n, keys in self._partitions}
        return {number: int(sequence or 0) for number, sequence in found.items()}

    async def backlog(self) -> int:
        """Return how many commands wait."""
        return sum([int(await self._call("XLEN", keys.commands)) for _, keys in self._partitions])

    async def all_owned(self) -> bool:
        """Tell whether every partition's lease is that of the token in its hash."""
        for _, keys in self._partitions:
            lease = await self._call("GET", keys.lease)
            if lease is None or lease != await self._call("HGET", keys.partition, "token"):
                return False
        return True

    async def partitions(self) -> list[PartitionEnd]:
        """Return what every partition holds."""
        return [await self._partition(number, keys) for number, keys in self._partitions]

    @property
    def _partitions(self) -> list[tuple[int, PartitionKeys]]:
        return list(enumerate(self._keys.partitions))

    async def _partition(self, number: int, keys: PartitionKeys) -> PartitionEnd:
        fields = ("token", "generation", "cursor", "sequence")
        values: list[bytes | None] = await self._call("HMGET", keys.partition, *fields)
        token, generation, cursor, sequence = ((value or b"").decode() for value in values)
        outcomes = await self._outcomes(keys)
        parked = frozenset(command_id for command_id, outcome in outcomes.items() if outcome.status == "parked")
        return PartitionEnd(
            number=number,
            lease=(await self._call("GET", keys.lease) or b"").decode(),
            token=token,
            generation=generation,
            cursor=cursor,
            sequence=int(sequence or 0),
            backlog=await self._call("XLEN", keys.commands),
            events=[event async for event in self._events(keys.events)],
            outcomes={i: outcome for i, outcome in outcomes.items() if i not in parked},
            parked=parked,
        )

    async def _events(self, key: str) -> AsyncIterator[AnyEvent]:
        start = "-"
        while True:
            rows: list[tuple[bytes, dict[bytes, bytes]]] = await self._call("XRANGE", key, start, "+", "COUNT", PAGE)
            for _, fields in rows:
                event = decode_event(fields[b"event"])
                assert event is not None
                yield event
            if len(rows) < PAGE:
                return
            start = f"({rows[-1][0].decode()}"

    async def _outcomes(self, keys: PartitionKeys) -> dict[str, Outcome]:
        found: dict[str, Outcome] = {}
        prefix = keys.outcomes(0).removesuffix("0")
        for bucket in await self._call("KEYS", f"{prefix}*"):
            records: dict[bytes, bytes] = await self._call("HGETALL", bucket)
            found |= {command_id.decode(): decode_outcome(record) for command_id, record in records.items()}
        return found


async def stored_sessions(ts: Turnstream) -> dict[str, Session]:
    """Return all sessions, whole, as a client reads them."""
    found: dict[str, Session] = {}
    async for info in ts.sessions.iterate():
        session = await ts.sessions.get_session(info.id)
        if session is not None:
            found[info.id] = session
    return found
