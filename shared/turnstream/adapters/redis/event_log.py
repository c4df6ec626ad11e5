"""Reads past events and the state of a partition's event log (design §6)."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from redis.exceptions import ResponseError

from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.stored_records import RecordLocation, decoded, invalid, read
from turnstream.codec.records import decode_type_sequences
from turnstream.ports import EventLog, EventPage

PAGE_BYTES = 1024 * 1024
"""Bytes of payloads at which a page ends, so that no reply is large."""

STEP = 32
"""The most events that the script reads at a time."""


class RedisEventLog(EventLog):
    """The event log on a server. Each read is one read-only script, so a user with only read permissions can run it."""

    def __init__(self, server: Server) -> None:
        """Use a server."""
        self._server = server

    async def read(self, partition: int, after: int, count: int, session_id: str | None = None) -> EventPage:
        """Return up to `count` events after a sequence, as of one point in time; with 0 only the log's state.

        Raises:
            StoredDataInvalid: one of the keys has another type.
            Unavailable: the server does not answer.

        """
        server, of = self._server, self._server.partition(partition)
        places = [RecordLocation(of.partition, "hash"), RecordLocation(of.events, "stream")]
        if session_id is not None:
            places.append(RecordLocation(of.session(session_id), "hash", session_id))
        arguments = (after, count, PAGE_BYTES, STEP)
        keys = [place.key for place in places]
        try:
            answer = await server.scripts.events.run(server.calls(partition), keys, arguments)
        except ResponseError as error:
            raise await invalid(server.calls(partition), places, error) from None
        state, oldest, session, entries = answer
        return decoded(places[0], _state, state).page(
            oldest=_sequence(oldest) if oldest else None,
            session=decoded(places[-1], int, session or 0),
            payloads=tuple(zip(map(_sequence, entries[::2]), entries[1::2], strict=True)),
        )

    async def written_before(self, partition: int, moment: datetime) -> int:
        """Return a sequence up to which all events were written before a time; 0 if none is known.

        Raises:
            Unavailable: the server does not answer.

        """
        place = RecordLocation(self._server.partition(partition).partition, "hash")
        marks = decoded(place, _marks, await read(self._server.calls(partition), place, "HGET", "marks") or b"")
        known = 0
        for at, last in marks:
            # A mark's time is rounded down to a millisecond. After the first mark that is too late no other is used,
            # although its time may be earlier because the clock was set back.
            if at + 1 > moment.timestamp() * 1000:
                break
            known = last
        return known


class _State(NamedTuple):
    """The state of a partition's event log."""

    generation: str
    former: tuple[tuple[str, int], ...]
    head: int
    types: dict[str, int]

    def page(self, oldest: int | None, session: int, payloads: tuple[tuple[int, bytes], ...]) -> EventPage:
        """Return a page of its events."""
        return EventPage(
            generation=self.generation,
            former=self.former,
            oldest=self.head + 1 if oldest is None else oldest,
            head=self.head,
            types=self.types,
            session=session,
            payloads=payloads,
        )


def _state(fields: Sequence[bytes | None]) -> _State:
    generation, former, sequence, stable, types = fields
    return _State(
        generation=(generation or b"").decode(),
        former=tuple(_former(former or b"")),
        head=int(stable or sequence or 0),
        types=decode_type_sequences(types or b"{}"),
    )


def _marks(text: bytes) -> list[tuple[int, int]]:
    pairs = (mark.partition(":") for mark in text.decode().split())
    return [(int(at), int(last)) for at, _, last in pairs]


def _former(text: bytes) -> Iterator[tuple[str, int]]:
    for former in text.decode().split():
        generation, _, sequence = former.partition(":")
        yield generation, int(sequence)


def _sequence(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
