"""A cluster: which node holds which slot, and a shared connection to each, made when it is needed (ADR 14)."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any
from weakref import WeakSet

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, MovedError, ResponseError

from turnstream.adapters.redis.connection.addresses import Address, Target
from turnstream.adapters.redis.connection.attempts import first_of
from turnstream.adapters.redis.connection.connector import cut, opened
from turnstream.adapters.redis.connection.executor import CommandExecutor
from turnstream.adapters.redis.connection.pipelined import READS, LostError, Patience, PipelinedConnection, Word
from turnstream.adapters.redis.connection.slots import SLOTS, slot_of
from turnstream.errors import ConfigurationError, TurnstreamError, Unavailable

REDIRECTS = 5
"""How often one command follows a slot that moved."""


class Cluster:
    """The nodes of a cluster.

    A slot's holder is looked up in a map that was read from any node. `MOVED` corrects the map for its slot. A node
    that failed is doubted: the map is read again before it is tried again.
    """

    def __init__(self, target: Target, where: str, patience: Patience) -> None:
        """Take the URL's meaning, and its masked text for errors."""
        self._target = target
        self._where = where
        self._patience = patience
        self._holders: list[Address | None] = [None] * SLOTS
        self._doubted: set[Address] = set()
        self._nodes: dict[Address, PipelinedConnection] = {}
        self._connections: dict[Address, WeakSet[AbstractConnection]] = {}
        self._closed = False
        self._refreshing: asyncio.Task[TurnstreamError | None] | None = None

    def calls(self, key: str) -> CommandExecutor:
        """Return what takes the commands on the keys of a slot."""
        return SlotCalls(self, slot_of(key))

    async def connect(self, key: str) -> AbstractConnection:
        """Open a separate connection to the node that holds a key now."""
        return await self.connect_to(await self.holder(slot_of(key)))

    async def connect_to(self, address: Address) -> AbstractConnection:
        """Open a separate connection to a node; it ends when the node is unusable.

        Raises:
            Unavailable: no server answers there; the map is read again before the next attempt.

        """
        try:
            connection = await opened(self._target.connector_to(address), str(address))
        except Unavailable:
            self.doubt(address)
            raise
        self._connections.setdefault(address, WeakSet()).add(connection)
        return connection

    async def primaries(self) -> list[PipelinedConnection]:
        """Return every node that holds slots."""
        await self._refresh()
        return [self.node(address) for address in sorted(set(filter(None, self._holders)))]

    async def aclose(self) -> None:
        """Close the shared connections for good; calls that wait for an answer get `Unavailable`."""
        self._closed = True
        await self._close(list(self._nodes))
        if self._refreshing is not None:
            await asyncio.wait([self._refreshing])

    async def holder(self, slot: int) -> Address:
        """Return the node that holds a slot.

        Raises:
            Unavailable: no node is known to hold it.
            ConfigurationError: this is no cluster.

        """
        holder = self._holders[slot]
        if holder is None or holder in self._doubted:
            await self._refresh()
            holder = self._holders[slot]
        if holder is None:
            raise Unavailable(f"No node of the cluster at {self._where} holds slot {slot} now")
        return holder

    def node(self, address: Address) -> PipelinedConnection:
        """Return the shared connection to a node.

        Raises:
            Unavailable: all were closed.

        """
        if self._closed:
            raise Unavailable(f"The connections to {self._where} were closed: open a new client")
        node = self._nodes.get(address)
        if node is None:
            open_ = partial(opened, self._target.connector_to(address), str(address))
            on_unusable = partial(self._cut_connections, address)
            node = self._nodes[address] = PipelinedConnection(open_, str(address), self._patience, on_unusable)
        return node

    def moved(self, redirection: MovedError, by: Address) -> None:
        """Note what a node has said of a slot; one that does not know the other's host means its own."""
        self._holders[redirection.slot_id] = address_in(redirection, by)

    def doubt(self, address: Address) -> None:
        """Read the map again before this node is asked for anything."""
        self._doubted.add(address)

    def _cut_connections(self, address: Address) -> None:
        self.doubt(address)
        for connection in list(self._connections.pop(address, ())):
            cut(connection)

    async def _refresh(self) -> None:
        """Read the map; all who need it at the same time wait for the same answer."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._read_map(), name="turnstream-cluster-map")
        failure = await asyncio.shield(self._refreshing)
        if failure is not None:
            raise failure

    async def _read_map(self) -> TurnstreamError | None:
        """Ask a node, and others if that takes long; return the failure if none answers."""
        attempts = [partial(self._map_of, address) for address in self._candidates()]
        try:
            answer, address = await first_of(attempts, (Unavailable,))
        except ResponseError as error:
            return ConfigurationError(
                f"The server at {self._where} is not part of a cluster ({error}): "
                "write redis:// instead of redis+cluster://"
            )
        except ExceptionGroup as silent:
            last = silent.exceptions[-1]
            return Unavailable(f"No node of the cluster at {self._where} answers. The last one: {last}")
        except ConfigurationError as error:
            return error
        await self._use(answer, address)
        return None

    async def _map_of(self, address: Address) -> tuple[Any, Address]:
        try:
            return await self.node(address).call("CLUSTER", "SLOTS"), address
        except Unavailable:
            self.doubt(address)
            raise

    def _candidates(self) -> Iterable[Address]:
        known = [*dict.fromkeys(filter(None, self._holders)), *self._target.asked]
        return dict.fromkeys((*(a for a in known if a not in self._doubted), *known))

    async def _use(self, answer: Sequence[Any], by: Address) -> None:
        holders: list[Address | None] = [None] * SLOTS
        for first, last, (host, port, *_), *_ in answer:
            name = (host or b"").decode()
            # A node that does not know its own name is where it was asked.
            address = Address(by.host if name in ("", "?") else name, int(port))
            holders[first : last + 1] = [address] * (last + 1 - first)
        self._holders = holders
        self._doubted.clear()
        known = {*holders, *self._target.asked}
        await self._close([a for a, node in self._nodes.items() if a not in known and node.idle])

    async def _close(self, addresses: Iterable[Address]) -> None:
        nodes = [self._nodes.pop(address) for address in addresses]
        for node in nodes:
            await node.aclose()


class SlotCalls:
    """Executes commands on the keys of one slot, on whichever node holds it."""

    def __init__(self, cluster: Cluster, slot: int) -> None:
        """Look the slot up at each call."""
        self._cluster = cluster
        self._slot = slot

    async def call(self, *words: Word) -> Any:  # noqa: ANN401 - whatever the server answers
        """Send a command to the slot's holder; a redirection means that it was not carried out, so it is sent again."""
        cluster = self._cluster
        asked_again = words[0] not in READS
        for _ in range(REDIRECTS):
            address = await cluster.holder(self._slot)
            try:
                return await cluster.node(address).call_once(*words)
            except MovedError as redirection:
                cluster.moved(redirection, address)
            except AskError as redirection:
                return await cluster.node(address_in(redirection, address)).call_asking(*words)
            except LostError as lost:
                cluster.doubt(address)
                if asked_again:
                    raise Unavailable(str(lost)) from lost
                asked_again = True
            except Unavailable:
                cluster.doubt(address)
                raise
        raise Unavailable(f"Slot {self._slot} moved {REDIRECTS} times while a command followed it")


def address_in(redirection: AskError, by: Address) -> Address:
    """Return the node that a redirection names."""
    return Address(redirection.host or by.host, int(redirection.port))
