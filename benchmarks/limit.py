"""The server's own limit: the same bytes as bare pipelined commands, no logic at all.

The bytes are those that a real command has left on the server: its stream entry, message, header, outcome and event.
For each command of the limit they are written once more, to as many partitions and sessions under a separate
namespace, one server command for each write and nothing folded; the requests are packed before the clock starts and the
answers only counted.
"""

import socket
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final
from urllib.parse import urlsplit

import hiredis
import msgspec

from benchmarks.measuring import TEXT
from benchmarks.stage import client_of
from turnstream import AddMessage, CreateSession, SessionConfig, Settings, user_message
from turnstream.adapters.redis.connection.pipelined import Word, pack
from turnstream.adapters.redis.keys import Keys, PartitionKeys
from turnstream.codec.envelope import encode_command, encode_entry
from turnstream.domain.models import partition_of
from turnstream.messages import new_id
from turnstream.ports import CommandEntry

PARTITIONS: Final = 64

WINDOW: Final = 64 * PARTITIONS
"""Commands in flight. A partition's bookkeeping is written once for those of it, as by a worker's batch."""


class Sample(msgspec.Struct, frozen=True):
    """The bytes of one applied add-message: its stream entry, and the values at the keys of session and partition."""

    entry: Sequence[Word]
    body: bytes
    header: Sequence[Word]
    outcome: bytes
    event: bytes
    types: bytes


CHANGED: Final = (b"version", b"messageCount", b"nextPosition", b"updatedAt", b"lastSequence")
"""The fields of a header that an appended message changes."""

MAIN_THREAD: Final = ("used_cpu_user_main_thread:", "used_cpu_sys_main_thread:")
"""The server's times that count: those of the thread that carries out commands."""


async def sample(settings: Settings) -> Sample:
    """Add a message to a new session and read back what that has left; a worker must be running."""
    async with client_of(settings) as (ts, backend):
        session = await ts.execute(CreateSession(SessionConfig("openai", "gpt-4o")))
        command = AddMessage(session.id, user_message(TEXT))
        await ts.execute(command)
        number = partition_of(session.id, backend.partitions)
        keys, call = backend.server.partition(number), backend.server.calls(number).call
        header = await call("HGETALL", keys.session(session.id))
        pairs = [(name, value) for name, value in zip(header[::2], header[1::2], strict=True) if name in CHANGED]
        ((_, event),) = await call("XREVRANGE", keys.events, "+", "-", "COUNT", 1)
        _, (bucket, *_) = await call("SCAN", 0, "MATCH", f"{keys.outcomes_prefix}*", "COUNT", 1_000_000)
        entry = CommandEntry(new_id(), command.type, encode_command(command, 1 << 20), keys.reply_channel("0" * 16))
        return Sample(
            entry=encode_entry(entry),
            body=await call("HGET", keys.messages(session.id), command.message.id),
            header=list(chain.from_iterable(pairs)),
            outcome=(await call("HGETALL", bucket))[-1],
            event=event[1],
            types=await call("HGET", keys.partition, "types"),
        )


def measure(url: str, of: Sample, commands: int, sessions: int) -> dict[str, float]:
    """Write the bytes of so many commands over one connection.

    Returns:
        Commands a second, and the server's CPU time a command in microseconds.

    """
    portions = [*_portions(of, commands, sessions)]
    packed = [b"".join(map(pack, portion)) for portion in portions]
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "localhost", place.port or 6379)) as connection:
        before, started = _server_seconds(connection), time.perf_counter()
        _stream(connection, packed, [len(portion) for portion in portions])
        seconds, cpu = time.perf_counter() - started, _server_seconds(connection) - before
    return {"commands_per_second": commands / seconds, "server_cpu_us": cpu / commands * 1e6}


def _server_seconds(connection: socket.socket) -> float:
    """Return the CPU time that the server says it has used."""
    connection.sendall(pack(("INFO", "cpu")))
    told = connection.recv(1 << 16).decode()
    return sum(float(line.partition(":")[2]) for line in told.splitlines() if line.startswith(MAIN_THREAD))


def _stream(connection: socket.socket, portions: Sequence[bytes], answers: Sequence[int]) -> None:
    """Keep one portion under way while the answers of the one before it are read."""
    reader = hiredis.Reader()
    due = 0
    for portion, before in zip([*portions, b""], [0, *answers], strict=True):
        connection.sendall(portion)
        due += before
        while due > 0:
            reader.feed(connection.recv(1 << 20))
            while (answer := reader.gets()) is not False:
                if isinstance(answer, Exception):
                    raise answer
                due -= 1


def _portions(of: Sample, commands: int, sessions: int) -> Iterator[list[Sequence[Word]]]:
    partitions = Keys("limit", PARTITIONS).partitions
    for start in range(0, commands, WINDOW):
        numbers = range(start, min(start + WINDOW, commands))
        places = [(n, partitions[n % sessions % PARTITIONS], f"{n % sessions:036}") for n in numbers]
        books = [_books(of, keys, start) for keys in partitions]
        yield [*chain.from_iterable(_writes(of, *place) for place in places), *chain.from_iterable(books)]


def _writes(of: Sample, n: int, keys: PartitionKeys, session_id: str) -> list[Sequence[Word]]:
    """Return the writes of one command: nine, of which the first is the producer's."""
    message_id, command_id = f"{n:036}", f"command-{n:028}"
    return [
        ("XADD", keys.commands, "*", *of.entry),
        ("HSET", keys.messages(session_id), message_id, of.body),
        ("ZADD", keys.order(session_id), n, message_id),
        ("HSET", keys.session(session_id), *of.header),
        ("ZADD", keys.index, n, session_id),
        ("HSET", keys.outcomes(0), command_id, of.outcome),
        ("XADD", keys.events, "*", "event", of.event),
        ("PUBLISH", "limit:events:message-added", of.event),
        ("PUBLISH", f"limit:session:{session_id}", of.event),
    ]


def _books(of: Sample, keys: PartitionKeys, n: int) -> list[Sequence[Word]]:
    """Return what is written once a batch."""
    return [
        ("XTRIM", keys.commands, "MAXLEN", 0),
        ("HSET", keys.partition, "cursor", f"{n}-0", "sequence", n, "types", of.types),
    ]
