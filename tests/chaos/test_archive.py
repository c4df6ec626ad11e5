"""The archive of the runs: all events of a history that is left, whatever retention, failovers and flushes take."""

from typing import Any

import pytest
from tests.chaos.archive import Archive
from tests.contract.chats import a_session
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment

from turnstream.adapters.redis.backend import server_at


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 1}


async def test_the_surviving_history_is_archived_whole(real: EmbeddedDeployment) -> None:
    ts = await client_of(real)
    server = server_at(real.settings, "archive")
    real.resources.push_async_callback(server.topology.aclose)
    archive = Archive(server)

    async def versions() -> list[int]:
        return [event.version for event in await archive.events(0)]

    keys = real.keys.partitions[0]
    assert await versions() == []
    for session_id in ("s", "t", "u"):
        await a_session(ts, "one", session_id=session_id)
        assert (await versions())[-2:] == [1, 2]
    await real.call("XTRIM", keys.events, "MAXLEN", 1)
    assert await versions() == [1, 2, 1, 2, 1, 2]

    # As after a failover that lost four events, one of whose sequences was used again since.
    (rest,) = await real.call("XRANGE", keys.events, "-", "+")
    former = (await real.call("HGET", keys.partition, "generation")).decode()
    await real.call("DEL", keys.events)
    await real.call("XADD", keys.events, "2-0", "event", rest[1][b"event"])
    await real.call("HSET", keys.partition, "generation", "g", "formerGenerations", f"{former}:2", "sequence", "2")
    assert await versions() == [1, 2]
    await real.call("FLUSHALL")
    assert await versions() == []
