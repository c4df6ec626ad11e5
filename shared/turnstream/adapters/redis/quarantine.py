"""Parked commands and malformed entries (design §4)."""

from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

from turnstream.adapters.redis.commands import appended
from turnstream.adapters.redis.faults import culprit, understood
from turnstream.adapters.redis.parking import parked_command
from turnstream.adapters.redis.server import Server
from turnstream.codec.records import decode_parked_session
from turnstream.errors import BatchRefused, Fenced, Overloaded
from turnstream.ports import MalformedEntry, ParkedCommand, ParkedSession, PartitionState, RawEntry


class RedisQuarantine:
    """A hash that names the parked sessions, a stream of commands for each, and a stream of malformed entries."""

    def __init__(self, server: Server) -> None:
        """Use a server."""
        self._server = server

    async def parked(self, partition: int) -> Mapping[str, ParkedSession]:
        """Return the registry of a partition's parked sessions."""
        pairs: list[bytes] = await self._call(partition, "HGETALL", self._server.partition(partition).parked)
        return {i.decode(): decode_parked_session(r) for i, r in zip(pairs[::2], pairs[1::2], strict=True)}

    async def queue(self, partition: int, session_id: str, count: int, behind: str = "") -> Sequence[ParkedCommand]:
        """Return up to `count` parked commands of a session, from the head or from behind a place in its queue."""
        key = self._server.partition(partition).queue(session_id)
        rows = await self._call(partition, "XRANGE", key, _from(behind), "+", "COUNT", count)
        return [parked_command(session_id, *row) for row in rows]

    async def attempt(self, state: PartitionState, entry_id: str) -> int:
        """Note that the command behind the cursor is tried alone; return how many owners have died of it so far.

        Raises:
            Fenced: the partition has another owner.

        """
        keys = [self._server.partition(state.partition).partition]
        calls = self._server.calls(state.partition)
        attempt = self._server.scripts.attempt.run(calls, keys, (state.token, entry_id))
        deaths: int = await understood(attempt, calls, {keys[0]: "hash"})
        if deaths < 0:
            raise Fenced(state.partition, "token")
        return deaths

    async def malformed(self, partition: int, count: int, behind: str = "") -> Sequence[tuple[str, MalformedEntry]]:
        """Return up to `count` entries that could not be read, with their ids, oldest first, from behind an id on."""
        key = self._server.partition(partition).malformed
        rows = await self._call(partition, "XRANGE", key, _from(behind), "+", "COUNT", count)
        return [(place.decode(), _malformed(words)) for place, words in rows]

    async def requeue(self, partition: int, malformed_id: str) -> bool:
        """Move an entry that could not be read to the end of the command stream; False if there is no such entry.

        Raises:
            Overloaded: more commands wait there than may.

        """
        keys, limit = self._server.partition(partition), self._server.settings.max_backlog
        requeue = self._server.scripts.requeue
        answer = requeue.run(self._server.calls(partition), [keys.malformed, keys.commands], (malformed_id, limit))
        types = {keys.malformed: keys.types[keys.malformed]}
        moved = await appended(self._server, partition, answer, types)
        if moved < 0:
            raise Overloaded(-moved, limit)
        return moved > 0

    async def drop(self, partition: int, malformed_id: str) -> bool:
        """Forget an entry that could not be read; False if there is no such entry."""
        dropped = await self._call(partition, "XDEL", self._server.partition(partition).malformed, malformed_id)
        return bool(dropped)

    async def _call(self, partition: int, *words: str | int) -> Any:  # noqa: ANN401 - whatever the server answers
        calls = self._server.calls(partition)
        try:
            return await calls.call(*words)
        except ResponseError as error:
            found = await culprit(calls, self._server.partition(partition).types)
            raise found or BatchRefused(partition, f"{words[1]}: {error}") from None


def _malformed(words: Sequence[bytes]) -> MalformedEntry:
    entry_id, error, pairs = words[1], words[3], words[4:]
    fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return MalformedEntry(RawEntry(entry_id.decode(), fields), error.decode(errors="replace"))


def _from(behind: str) -> str:
    return f"({behind}" if behind else "-"
