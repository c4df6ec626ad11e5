"""Where the keys of a deployment lie, and the way there: one server, or a cluster of them (design §2, one slot)."""

from typing import Any, Protocol
from weakref import WeakSet

from redis.asyncio.connection import AbstractConnection

from turnstream.adapters.redis.topology.connection import Open, Patience, PipelinedConnection, Word, cut


class Calls(Protocol):
    """Takes commands for one place."""

    async def call(self, *words: Word) -> Any:  # noqa: ANN401 - whatever the server answers
        """Send a command and return its answer, bytes where it is text.

        Raises:
            Unavailable: the connection was lost or no answer came in time: it is not known whether it was carried out.
            ResponseError: the server answered with an error that does not pass by itself.

        """
        ...


class Topology(Protocol):
    """The servers of a deployment."""

    def calls(self, key: str) -> Calls:
        """Return what takes the commands on a key, and on all keys of its slot, wherever that lies now or later."""
        ...

    async def connect(self, key: str) -> AbstractConnection:
        """Open a connection of one's own to who holds a key now.

        Raises:
            Unavailable: nobody answers there.
            ConfigurationError: the server does not let this user in.

        """
        ...

    async def primaries(self) -> list[PipelinedConnection]:
        """Return every server that takes writes."""
        ...

    async def aclose(self) -> None:
        """Close the shared connections for good."""
        ...


class OneServer:
    """All keys on one server, by one shared connection; `open_` may find out each time which server that is."""

    def __init__(self, open_: Open, where: str, patience: Patience) -> None:
        """Take what opens connections, and the server's name for errors."""
        self._open = open_
        self._connections = WeakSet[AbstractConnection]()
        self._connection = PipelinedConnection(open_, where, patience, self._left)

    def calls(self, key: str) -> Calls:  # noqa: ARG002 - all keys are here
        """Return the shared connection."""
        return self._connection

    async def connect(self, key: str) -> AbstractConnection:  # noqa: ARG002 - all keys are here
        """Open a connection of one's own; it ends when the server is left."""
        connection = await self._open()
        self._connections.add(connection)
        return connection

    async def primaries(self) -> list[PipelinedConnection]:
        """Return the one server."""
        return [self._connection]

    async def aclose(self) -> None:
        """Close the shared connection for good."""
        await self._connection.aclose()

    def _left(self) -> None:
        for connection in list(self._connections):
            cut(connection)
