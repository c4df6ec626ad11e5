"""Reading the events of the past, and where a partition's stream stands (design §6)."""

from collections.abc import Iterator
from datetime import datetime

from turnstream.adapters.redis.faults import understood
from turnstream.adapters.redis.server import Server
from turnstream.codec.records import decode_type_sequences
from turnstream.ports import EventPage

PAGE_BYTES = 1024 * 1024
"""Bytes of payloads at which a page ends, so that no reply is large."""

STEP = 32
"""Events that the script reads at a time, at most."""


class RedisEventLog:
    """Each read is one script that writes nothing, so a user that may only read can run it."""

    def __init__(self, server: Server) -> None:
        """Use a server."""
        self._server = server

    async def read(self, partition: int, after: int, count: int, session_id: str | None = None) -> EventPage:
        """Return up to `count` events behind a sequence (0: none, only how things stand), all of one moment.

        Raises:
            Unavailable: the server does not answer.
            KeyUnusable: something else stands at a key.

        """
        server, of = self._server, self._server.partition(partition)
        keys = [of.partition, of.events, *([of.session(session_id)] if session_id is not None else [])]
        arguments = (after, count, PAGE_BYTES, STEP)
        answer = server.scripts.events.run(server.calls(partition), keys, arguments)
        types = dict(zip(keys, ("hash", "stream", "hash"), strict=False))
        state, oldest, session, entries = await understood(answer, server.calls(partition), types)
        generation, former, sequence, stable, types = state
        head = int(stable or sequence or 0)
        return EventPage(
            generation=(generation or b"").decode(),
            former=tuple(_former(former or b"")),
            oldest=_sequence(oldest) if oldest else head + 1,
            head=head,
            types=decode_type_sequences(types or b"{}"),
            session=int(session or 0),
            payloads=tuple(zip(map(_sequence, entries[::2]), entries[1::2], strict=True)),
        )

    async def written_before(self, partition: int, moment: datetime) -> int:
        """Return a sequence up to which all events were written before a moment; 0 where nothing is known of that.

        Raises:
            Unavailable: the server does not answer.
            KeyUnusable: something else stands at a key.

        """
        key, calls = self._server.partition(partition).partition, self._server.calls(partition)
        marks: bytes | None = await understood(calls.call("HGET", key, "marks"), calls, {key: "hash"})
        known = 0
        for mark in (marks or b"").decode().split():
            at, _, last = mark.partition(":")
            # Its fraction of a millisecond was cut off. Where it is too late, so are all behind it, although their
            # times may be earlier, as when the clock was set back.
            if int(at) + 1 > moment.timestamp() * 1000:
                break
            known = int(last)
        return known


def _former(text: bytes) -> Iterator[tuple[str, int]]:
    for former in text.decode().split():
        generation, _, sequence = former.partition(":")
        yield generation, int(sequence)


def _sequence(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
