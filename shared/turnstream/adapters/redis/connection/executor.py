"""The servers of a deployment, and the connections to them: one server, or a cluster (design §2)."""

from typing import Any, Protocol
from weakref import WeakSet

from redis.asyncio.connection import AbstractConnection

from turnstream.adapters.redis.connection.connector import Open, cut
from turnstream.adapters.redis.connection.pipelined import Patience, PipelinedConnection, Word


class CommandExecutor(Protocol):
    """Runs commands on one server, or on the node that has one slot."""

    async def call(self, *words: Word) -> Any:  # noqa: ANN401 - any reply of the server
        """Send a command and return its reply; text is returned as bytes.

        Raises:
            Unavailable: the connection was lost or no reply came in time; the command may have run.
            ResponseError: the server replied with an error that is not temporary.

        """
        ...


class Topology(Protocol):
    """The servers of a deployment."""

    def calls(self, key: str) -> CommandExecutor:
        """Return the executor for a key and all keys of its slot; it follows the slot when that moves."""
        ...

    async def connect(self, key: str) -> AbstractConnection:
        """Open a separate connection to the server that has a key now.

        Raises:
            Unavailable: the server does not answer.
            ConfigurationError: the server does not let this user in.

        """
        ...

    async def primaries(self) -> list[PipelinedConnection]:
        """Return every server that takes writes."""
        ...

    async def aclose(self) -> None:
        """Close the shared connections for good."""
        ...


class Standalone:
    """One server with all keys, by one shared connection; `open_` may choose another server each time."""

    def __init__(self, open_: Open, where: str, patience: Patience) -> None:
        """Use a function that opens connections, and the server's name for errors."""
        self._open = open_
        self._connections = WeakSet[AbstractConnection]()
        self._connection = PipelinedConnection(open_, where, patience, self._cut_connections)

    def calls(self, key: str) -> CommandExecutor:  # noqa: ARG002 - all keys are here
        """Return the shared connection."""
        return self._connection

    async def connect(self, key: str) -> AbstractConnection:  # noqa: ARG002 - all keys are here
        """Open a separate connection; it ends when the shared connection does."""
        connection = await self._open()
        self._connections.add(connection)
        return connection

    async def primaries(self) -> list[PipelinedConnection]:
        """Return the one server."""
        return [self._connection]

    async def aclose(self) -> None:
        """Close the shared connection for good."""
        await self._connection.aclose()

    def _cut_connections(self) -> None:
        for connection in list(self._connections):
            cut(connection)
