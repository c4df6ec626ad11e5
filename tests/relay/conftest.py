"""A deployment on the real server with a worker, and endpoints of it on loopback."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.relay.receiver import Receiver
from tests.waiting import wait_until

from turnstream import Turnstream
from turnstream_relay.configuration import Configuration, Endpoint
from turnstream_relay.relay import Relay

LOOPBACK = ("127.0.0.0/8", "::1/128")
NAME = "hooks"


class MakeEndpoint(Protocol):
    """Makes the endpoint of a receiver, from what the file would say."""

    def __call__(self, receiver: Receiver, **settings: Any) -> Endpoint: ...  # noqa: ANN401 - as below


@pytest.fixture
async def ts(real: EmbeddedDeployment) -> Turnstream:
    return await client_of(real)


@pytest.fixture
def endpoint(tmp_path: Path) -> MakeEndpoint:
    """Make endpoints whose backoffs are short; they begin with the first event."""

    def make(receiver: Receiver, **settings: Any) -> Endpoint:  # noqa: ANN401 - whatever pydantic is to check
        (tmp_path / (name := uuid4().hex)).write_text(receiver.secret)
        usual = {
            "url": receiver.url,
            "secret": {"file": name},
            "allow_http": True,
            "allow_networks": LOOPBACK,
            "start": "beginning",
            "max_backoff": 0.05,
        }
        return Endpoint.model_validate(usual | settings, context={"directory": tmp_path})

    return make


@asynccontextmanager
async def relaying(ts: Turnstream, **endpoints: Endpoint) -> AsyncGenerator[Relay]:
    """Deliver to these endpoints during the block."""
    relay = Relay(ts, Configuration(endpoints=endpoints))
    running = asyncio.create_task(relay.run())
    try:
        await wait_until(lambda: len(list(relay)) == len(endpoints))
        yield relay
        assert not running.done(), running.exception()
    finally:
        relay.stop()
        await running
