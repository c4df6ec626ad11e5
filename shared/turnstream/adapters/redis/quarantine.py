"""Parked commands and malformed entries (design §4)."""

import re
from collections.abc import Mapping, Sequence
from functools import partial

from redis.exceptions import ResponseError

from turnstream.adapters.redis.command_stream.queue import append_failure
from turnstream.adapters.redis.commit.batch_encoder import ENTRY_ID, parked_command
from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.stored_records import RecordLocation, decoded, decoded_fields, read
from turnstream.codec.envelope import entry_time
from turnstream.codec.records import decode_parked_session
from turnstream.errors import Overloaded
from turnstream.ports import MalformedEntry, ParkedCommand, ParkedSession, PartitionState, Quarantine, RawEntry
from turnstream.signals import Fenced

STREAM_ID = re.compile(rb"\d+-\d+")

NO_WORKER = "No worker has set it aside: another program has written it here"
"""The reason that is given for an entry among the malformed ones that does not have the form of these."""


class RedisQuarantine(Quarantine):
    """A hash that names the parked sessions, a stream of commands for each, and a stream of malformed entries."""

    def __init__(self, server: Server) -> None:
        """Use a server."""
        self._server = server

    async def parked(self, partition: int) -> Mapping[str, ParkedSession]:
        """Return the registry of a partition's parked sessions."""
        place = RecordLocation(self._server.partition(partition).parked, "hash")
        pairs = await read(self._server.calls(partition), place, "HGETALL")
        return dict(decoded_fields(place, decode_parked_session, pairs))

    async def queue(self, partition: int, session_id: str, count: int, after: str = "") -> Sequence[ParkedCommand]:
        """Return up to `count` parked commands of a session, from the head of its queue or after a command of it."""
        place = RecordLocation(self._server.partition(partition).queue(session_id), "stream", session_id)
        rows = await read(self._server.calls(partition), place, "XRANGE", _from(after), "+", "COUNT", count)
        return [decoded(place, partial(_parked, session_id), row) for row in rows]

    async def attempt(self, state: PartitionState, entry_id: str) -> int:
        """Note that the command after the cursor is tried alone; return the number of owners that it has crashed.

        Raises:
            Fenced: the partition has another owner.

        """
        keys = [self._server.partition(state.partition).partition]
        deaths: int = await self._server.scripts.attempt.run(
            self._server.calls(state.partition), keys, (state.token, entry_id)
        )
        if deaths < 0:
            raise Fenced(state.partition, "token")
        return deaths

    async def malformed(self, partition: int, count: int, after: str = "") -> Sequence[tuple[str, MalformedEntry]]:
        """Return up to `count` malformed entries with their ids, oldest first, after an id."""
        place = RecordLocation(self._server.partition(partition).malformed, "stream")
        rows = await read(self._server.calls(partition), place, "XRANGE", _from(after), "+", "COUNT", count)
        return [(entry_id.decode(), _malformed(entry_id, words)) for entry_id, words in rows]

    async def requeue(self, partition: int, malformed_id: str) -> bool:
        """Move an entry that could not be read to the end of the command stream; False if there is no such entry.

        Raises:
            Overloaded: more commands wait there than may.

        """
        keys, limit = self._server.partition(partition), self._server.settings.max_backlog
        requeue = self._server.scripts.requeue
        calls = self._server.calls(partition)
        try:
            moved: int = await requeue.run(calls, [keys.malformed, keys.commands], (malformed_id, limit))
        except ResponseError as error:
            raise await append_failure(self._server, partition, error) from None
        if moved < 0:
            raise Overloaded(-moved, limit)
        return moved > 0

    async def drop(self, partition: int, malformed_id: str) -> bool:
        """Forget an entry that could not be read; False if there is no such entry."""
        place = RecordLocation(self._server.partition(partition).malformed, "stream")
        return bool(await read(self._server.calls(partition), place, "XDEL", malformed_id))


def _parked(session_id: str, row: tuple[bytes, Sequence[bytes]]) -> ParkedCommand:
    """Return a command of a queue; raises `ValueError` for an entry that has not the id of a command."""
    command = parked_command(session_id, *row)
    entry_time(command.entry.entry_id)
    return command


def _malformed(place: bytes, words: Sequence[bytes]) -> MalformedEntry:
    if words[::2][:2] != [ENTRY_ID.encode(), b"error"] or not STREAM_ID.fullmatch(words[1]):
        fields = dict(zip(words[::2], words[1::2], strict=True))
        return MalformedEntry(RawEntry(place.decode(), fields), NO_WORKER)
    entry_id, error, pairs = words[1], words[3], words[4:]
    fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return MalformedEntry(RawEntry(entry_id.decode(), fields), error.decode(errors="replace"))


def _from(after: str) -> str:
    return f"({after}" if after else "-"
