"""Whether the deployment is made, and made as this program is set to (design §1).

Workers and `turnstream setup` make it. A program that starts before them only reads: it uses its
settings, and looks again until it finds a deployment to compare them with.
"""

import asyncio
from typing import Final

from turnstream.adapters.redis.deployment.mismatch import made_otherwise
from turnstream.adapters.redis.failures import understood
from turnstream.adapters.redis.keys import LAYOUT
from turnstream.adapters.redis.server import Server
from turnstream.errors import ConfigurationError, Unavailable
from turnstream.logging import get_logger

log = get_logger(__name__)

CHECK_INTERVAL_S: Final = 1.0
"""Seconds between two looks at whether a worker has made the deployment by now."""


class Deployment:
    """The content of the key `layout`: the partitions and the layout of the deployment."""

    def __init__(self, server: Server) -> None:
        """Nothing is read yet."""
        self._server = server
        self._wanted = f"{len(server.keys.partitions)} {LAYOUT}"
        self._looking: asyncio.Task[None] | None = None
        self.made = False
        """Whether it was found, and fits."""

    async def make(self) -> None:
        """Create the deployment if it does not exist: for workers and for `turnstream setup`.

        Raises:
            Unavailable: the server does not answer or is full, or an unexpected value is stored at the key.
            ConfigurationError: it was made with another number of partitions or another layout.

        """
        if await self._found() is None:
            # Another worker may have been faster.
            await self._call("SET", self._server.keys.layout, self._wanted, "NX")
            await self._found()

    async def look(self) -> bool:
        """Return whether the deployment is made, without writing anything.

        Raises:
            Unavailable: the server does not answer, or an unexpected value is stored at the key.
            ConfigurationError: it was made with another number of partitions or another layout.

        """
        return await self._found() is not None

    async def look_until_made(self) -> None:
        """Look now, and if the deployment does not exist yet, in the background until it does.

        Raises:
            Unavailable: the server does not answer, or an unexpected value is stored at the key.
            ConfigurationError: it was made with another number of partitions or another layout.

        """
        if not await self.look():
            log.warning("the deployment is not made yet: start a worker", server=self._server.where)
            self._looking = asyncio.create_task(self._look_again(), name="turnstream-deployment")

    async def aclose(self) -> None:
        """End looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look_again(self) -> None:
        while not self.made:
            await asyncio.sleep(CHECK_INTERVAL_S)
            try:
                await self.look()
            except Unavailable:
                continue
            except ConfigurationError as mismatch:
                log.error("the deployment was made otherwise", error=str(mismatch))  # noqa: TRY400 - says all
                # Every later call fails with it: this program would read and write keys that no worker uses.
                self._server.mismatch = mismatch
                return

    async def _found(self) -> str | None:
        """Return the partitions and layout of the deployment; `None` if it does not exist yet."""
        answer = await self._call("GET", self._server.keys.layout)
        if answer is None:
            return None
        found = answer.decode(errors="replace")
        if found != self._wanted:
            raise made_otherwise(f"The deployment at {self._server.where}", self._server, *found.split(" ", 1))
        self.made = True
        return found

    async def _call(self, *words: str) -> bytes | None:
        calls = self._server.topology.calls(self._server.keys.layout)
        answer: bytes | None = await understood(calls.call(*words), calls, {self._server.keys.layout: "string"})
        return answer
