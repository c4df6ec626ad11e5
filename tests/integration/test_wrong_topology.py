"""A URL of another form than the servers it names: the error gives the right form, in one line."""

import pytest
from tests.topologies import RunningCluster, RunningSentinels

from turnstream import Turnstream, Unavailable
from turnstream.adapters.embedded import EmbeddedServer
from turnstream.errors import ConfigurationError


async def refused(url: str, error: type[Exception] = ConfigurationError) -> str:
    with pytest.raises(error) as caught:
        await Turnstream.connect(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_server_that_is_not_a_cluster(server: EmbeddedServer) -> None:
    said = await refused(server.url.replace("redis", "redis+cluster"))
    assert "not part of a cluster" in said
    assert "write redis://" in said


async def test_one_server_that_is_part_of_a_cluster(cluster: RunningCluster) -> None:
    assert "write redis+cluster://" in await refused(cluster.nodes[0].url)


async def test_one_server_that_is_a_sentinel(sentinels: RunningSentinels) -> None:
    said = await refused(sentinels.sentinels[0].url)
    assert "is a Sentinel" in said
    assert "redis+sentinel://" in said


async def test_a_server_that_is_not_a_sentinel(server: EmbeddedServer) -> None:
    said = await refused(f"redis+sentinel://127.0.0.1:{server.port}/sessions")
    assert "is no Sentinel" in said


async def test_a_cluster_without_an_answering_node() -> None:
    said = await refused("redis+cluster://me:secret@127.0.0.1:1,127.0.0.1:2", Unavailable)
    assert "redis+cluster://me:***@127.0.0.1:1,127.0.0.1:2" in said
    assert "secret" not in said


async def test_a_database_of_a_cluster(cluster: RunningCluster) -> None:
    assert "namespace" in await refused(f"{cluster.url}/1")
