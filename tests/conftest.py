"""The backends under test, and clients of them; every test gets its own deployment."""

import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace
from redis import Redis
from tests.contract.deployments import Deployment, MemoryDeployment, client_of, opened
from tests.contract.redis_deployments import (
    ClusterDeployment,
    EmbeddedDeployment,
    FakeDeployment,
    SentinelDeployment,
)
from tests.topologies import (
    RunningCluster,
    RunningSentinels,
    remove_what_was_left,
    running_cluster,
    running_sentinels,
)

from turnstream import Turnstream
from turnstream.adapters.embedded import EmbeddedServer, start_embedded_server
from turnstream.ports import Backend
from turnstream.settings import Secret, Settings

KINDS = ("memory", "fakeredis", "embedded", "cluster")

_namespaces = count()

# A shell starts background jobs with SIGINT ignored, and the programs under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Twice as many processes as cores with `-n auto`: much of the suite's time is spent waiting for others."""
    return max(2, (os.cpu_count() or 1) * 2)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin without what a run that was cut has left; once, not in each process."""
    if not hasattr(session.config, "workerinput"):
        remove_what_was_left()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo the logging configuration of a program that ran in the test's process."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """One real server a test process."""
    with start_embedded_server() as running:
        yield running


@pytest.fixture(scope="session")
def cluster() -> Iterator[RunningCluster]:
    """One cluster a test process; no test moves its slots or ends its nodes."""
    with running_cluster() as running:
        yield running


@pytest.fixture(scope="session")
def sentinels() -> Iterator[RunningSentinels]:
    """One primary with a replica and Sentinels a test process; no test ends them."""
    with running_sentinels() as running:
        yield running


@pytest.fixture
def empty_server(server: EmbeddedServer) -> EmbeddedServer:
    """The server without what tests of other kinds have left on it."""
    with Redis.from_url(server.url, protocol=2) as raw:
        raw.flushall()
    return server


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Settings that a test wants otherwise: override this fixture, or parametrise it."""
    return {}


@pytest.fixture
def settings(overrides: dict[str, Any]) -> Settings:
    """Settings with a namespace of the test's own; few partitions, so that each gets something to do."""
    chosen: dict[str, Any] = {"namespace": f"test-{next(_namespaces)}", "partitions": 4, "worker_id": "test"}
    return Settings(**(chosen | overrides))


@pytest.fixture(params=KINDS)
async def deployment(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Deployment]:
    """A fresh deployment on every kind of backend; every key left has a time to live or is permanent."""
    made = _made(request, settings)
    yield made
    await made.aclose()


def _made(request: pytest.FixtureRequest, settings: Settings) -> Deployment:
    """Make a deployment; a group of servers is started by the first test that needs it."""
    match request.param:
        case "embedded":
            return EmbeddedDeployment(_at(request.getfixturevalue("empty_server"), settings))
        case "cluster":
            return ClusterDeployment(settings, request.getfixturevalue("cluster"))
        case "sentinel":
            return SentinelDeployment(settings, request.getfixturevalue("sentinels"))
        case "fakeredis":
            return FakeDeployment(settings)
        case _:
            return MemoryDeployment(settings)


@pytest.fixture
async def real(empty_server: EmbeddedServer, settings: Settings) -> AsyncIterator[EmbeddedDeployment]:
    """A fresh deployment on the real server only."""
    made = EmbeddedDeployment(_at(empty_server, settings))
    yield made
    await made.aclose()


@pytest.fixture
async def backend(deployment: Deployment) -> Backend:
    """A backend of the deployment."""
    return await opened(deployment)


@pytest.fixture
async def peer(deployment: Deployment, backend: Backend) -> Backend:
    """The backend of another process; in memory the same one."""
    return await opened(deployment)


@pytest.fixture
async def ts(deployment: Deployment) -> Turnstream:
    """A client of the deployment, with a worker in this event loop."""
    return await client_of(deployment)


def _at(server: EmbeddedServer, settings: Settings) -> Settings:
    return replace(settings, redis_url=Secret(server.url))
