"""The streams that the reads of one server name, and the state of those reads after one fails."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
from redis.asyncio.connection import AbstractConnection
from tests.contract.samples import command
from tests.waiting import SOON, wait_until

from turnstream import Settings, Unavailable
from turnstream.adapters.embedded import start_embedded_server
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.adapters.redis.command_stream.standalone_reader import _BlockingRead
from turnstream.ports import START


class Reads:
    """The partitions that each read names, in the order of the reads, and the connections."""

    def __init__(self, backend: RedisBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        self.named: list[list[int]] = []
        self.connections: list[AbstractConnection] = []
        connect, start = backend.server.topology.connect, _BlockingRead.start

        async def connecting(key: str) -> AbstractConnection:
            self.connections.append(await connect(key))
            return self.connections[-1]

        def starting(read: _BlockingRead, cursors: Mapping[int, str], count: int, block: float) -> None:
            if cursors:
                self.named.append([*cursors])
            start(read, cursors, count, block)

        monkeypatch.setattr(backend.server.topology, "connect", connecting)
        monkeypatch.setattr(_BlockingRead, "start", starting)


@pytest.fixture
async def backend() -> AsyncIterator[RedisBackend]:
    """On a separate server, without other readers."""
    with start_embedded_server() as server:
        opened = await RedisBackend.open(Settings(partitions=8).at(server.url), "test", throw_away=True)
        yield opened
        await opened.aclose()


@pytest.fixture
def reads(backend: RedisBackend, monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(backend, monkeypatch)


async def test_those_that_rest_are_not_named_for_each_command_of_a_busy_partition(
    backend: RedisBackend, reads: Reads
) -> None:
    cursors = dict.fromkeys(range(8), START)
    for _ in range(5):
        await backend.queue.publish(3, [command("c")])
        found = await backend.queue.read(dict(cursors), 10, SOON)
        cursors[3] = found[3][-1].entry_id
    assert reads.named == [[*range(8)], [0, 1, 2, 4, 5, 6, 7], [3], [3], [3], [3]]


async def test_a_short_read_ends_in_time_while_a_longer_one_keeps_waiting(backend: RedisBackend, reads: Reads) -> None:
    cursors = {0: START, 1: START}
    longer = asyncio.create_task(backend.queue.read(cursors, 10, 10 * SOON))
    await wait_until(lambda: len(reads.named) == 1)
    longer.cancel()
    await asyncio.wait([longer])
    async with asyncio.timeout(SOON):
        assert await backend.queue.read(cursors, 10, 0.01) == {}
    await backend.queue.publish(1, [command("c")])
    assert list(await backend.queue.read(cursors, 10, SOON)) == [1]
    assert reads.named == [[0, 1]]


async def test_when_one_read_fails_the_other_is_given_up_too(backend: RedisBackend, reads: Reads) -> None:
    cursors = {0: START, 1: START}
    await backend.queue.publish(0, [command("c")])
    found = await backend.queue.read(dict(cursors), 10, SOON)
    cursors[0] = found[0][-1].entry_id
    reading = asyncio.create_task(backend.queue.read(dict(cursors), 10, SOON))
    await wait_until(lambda: len(reads.named) == 3)
    await backend.server.calls(0).call("CLIENT", "KILL", "ID", await _reading(backend))
    with pytest.raises(Unavailable):
        await reading
    assert [connection.is_connected for connection in reads.connections] == [False, False]
    await backend.queue.publish(1, [command("c")])
    assert list(await backend.queue.read(cursors, 10, SOON)) == [1]


async def _reading(backend: RedisBackend) -> str:
    """Return the id of one of the connections on which a read waits."""
    listed: bytes = await backend.server.calls(0).call("CLIENT", "LIST")
    waiting = [line for line in listed.decode().splitlines() if "cmd=xread " in line]
    return waiting[0].partition(" ")[0].removeprefix("id=")
