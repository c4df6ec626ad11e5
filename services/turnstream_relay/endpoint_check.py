"""`turnstream relay check`: a signed ping to every endpoint."""

import asyncio
from typing import NamedTuple

from turnstream_relay.configuration import Configuration, Endpoint
from turnstream_relay.messages import ping
from turnstream_relay.poster import Poster
from turnstream_relay.response import Answer, Outcome


class Checked(NamedTuple):
    """The answer of an endpoint to a ping."""

    name: str
    answer: Answer

    @property
    def is_well(self) -> bool:
        """Whether it took the ping."""
        return self.answer.outcome is Outcome.DELIVERED


async def check_endpoints(configuration: Configuration) -> list[Checked]:
    """Ping all endpoints at the same time; no server of Turnstream's is needed."""
    return list(await asyncio.gather(*(_check(name, each) for name, each in configuration.endpoints.items())))


async def _check(name: str, endpoint: Endpoint) -> Checked:
    async with Poster(endpoint) as poster:
        return Checked(name, await poster.post(ping()))
