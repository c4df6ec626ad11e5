"""The raw access to a backend that tests need in addition to the ports."""

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Protocol

import msgspec
import pytest

from turnstream import Turnstream
from turnstream.adapters.memory import MemoryBackend
from turnstream.adapters.memory.parked_events import ParkedEventLimits
from turnstream.adapters.memory.retention import EventLimits
from turnstream.client import lifecycle
from turnstream.codec.events import decode_event
from turnstream.domain.events import AnyEvent
from turnstream.ports import START, Backend, PartitionState, SubscriptionState
from turnstream.settings import Settings

EVERYTHING = 1_000_000

also_on_sentinel = pytest.mark.parametrize(
    "deployment", ["memory", "fakeredis", "embedded", "cluster", "sentinel"], indirect=True
)
"""For the ports whose connections Sentinels lead to: the rest is the same as on one server."""

not_on_fakeredis = pytest.mark.parametrize("deployment", ["memory", "embedded", "cluster"], indirect=True)
"""For what fakeredis cannot do, or takes many seconds for: it has no replication id, and its Lua is slow."""


class Malformed(msgspec.Struct, frozen=True):
    """A quarantined entry: its former position, the reason, and the part that was kept."""

    entry_id: str
    error: str
    fields: dict[bytes, bytes]


class Opens(Protocol):
    """A backend for clients and workers to open."""

    settings: Settings
    resources: AsyncExitStack
    """Everything that a test has opened; closed before the keys that are left are checked."""

    async def open(self) -> Backend:
        """Return a backend of another process (in memory there is one process, so it is always the same)."""
        ...


class Deployment(Opens, Protocol):
    """A fresh deployment on one kind of backend."""

    async def append(self, partition: int, fields: Mapping[bytes, bytes]) -> str:
        """Write any fields straight to a command stream; return the entry's id."""
        ...

    async def dump(self) -> object:
        """Return everything that is stored, for a comparison."""
        ...

    async def names(self) -> list[str]:
        """Return all names under which something is stored."""
        ...

    async def publish(self, channel: str, payload: bytes) -> None:
        """Publish anything on a channel, as any program may."""
        ...

    async def backlog(self, partition: int) -> int:
        """Return how many commands a stream holds."""
        ...

    async def events(self, partition: int) -> list[AnyEvent]:
        """Return the events that are kept, in the order of the stream."""
        ...

    async def trim(self, partition: int, oldest: int) -> None:
        """Take the events before a sequence from the stream, as retention does."""
        ...

    async def malformed(self, partition: int) -> list[Malformed]:
        """Return the quarantined entries."""
        ...

    async def expire(self, state: PartitionState) -> None:
        """Let the owner's lease expire; its token remains."""
        ...

    async def expire_member(self, name: str, state: SubscriptionState) -> None:
        """Let the lease of a subscription's member expire; its token remains."""
        ...

    async def aclose(self) -> None:
        """Close open resources, check the remaining keys, and remove them."""
        ...


class MemoryDeployment:
    """Everything in this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.resources = AsyncExitStack()
        self._backend = MemoryBackend(
            settings.partitions,
            max_backlog=settings.max_backlog,
            deduplication_window=settings.deduplication_window,
            parked_events=ParkedEventLimits(settings.parked_events, settings.parked_event_bytes),
            event_limits=EventLimits(
                settings.event_retention, settings.event_retention_age, settings.event_retention_bytes
            ),
        )
        self._partitions = self._backend.store._partitions

    async def open(self) -> Backend:
        return _Process(self._backend)

    async def append(self, partition: int, fields: Mapping[bytes, bytes]) -> str:
        return self._backend.append_raw(partition, fields)

    async def dump(self) -> object:
        return [
            {
                "commands": p.commands.after(START, EVERYTHING),
                "sessions": {i: (dict(s.header), dict(s.messages)) for i, s in p.sessions.items()},
                "orders": {i: s.order.between(None, None, None, from_end=False) for i, s in p.sessions.items()},
                "index": p.index.between(None, None, None, from_end=False),
                "events": list(p.events),
                "outcomes": len(p.outcomes),
                "malformed": list(p.malformed),
                "parked": (dict(p.parked.sessions), {i: dict(queue) for i, queue in p.parked.queues.items()}),
                "progress": (p.cursor, p.sequence, p.type_sequences, p.token, p.generation),
            }
            for p in self._partitions
        ]

    async def names(self) -> list[str]:
        return [
            name
            for p in self._partitions
            for name in (*p.sessions, *(f"parked:{session}" for session in p.parked.queues))
        ]

    async def publish(self, channel: str, payload: bytes) -> None:
        self._backend.channels.publish(channel, payload)

    async def backlog(self, partition: int) -> int:
        return len(self._partitions[partition].commands)

    async def events(self, partition: int) -> list[AnyEvent]:
        return decoded(kept.payload for kept in self._partitions[partition].events)

    async def trim(self, partition: int, oldest: int) -> None:
        events = self._partitions[partition].events
        while events and events[0].sequence < oldest:
            events.popleft()

    async def malformed(self, partition: int) -> list[Malformed]:
        kept = self._partitions[partition].malformed
        return [Malformed(m.entry.entry_id, m.error, dict(m.entry.fields)) for m in kept]

    async def expire(self, state: PartitionState) -> None:
        self._partitions[state.partition].lease.expire()

    async def expire_member(self, name: str, state: SubscriptionState) -> None:
        self._backend.subscriptions.membership(name).partitions[state.partition].lease.expire()

    async def aclose(self) -> None:
        await self.resources.aclose()
        await self._backend.aclose()


class _Process:
    """One of many that share a backend: closing it leaves the others' resources open."""

    def __init__(self, shared: Backend) -> None:
        self.partitions = shared.partitions
        self.store = shared.store
        self.reader = shared.reader
        self.events = shared.events
        self.queue = shared.queue
        self.ownership = shared.ownership
        self.quarantine = shared.quarantine
        self.channels = shared.channels
        self.subscriptions = shared.subscriptions

    async def aclose(self) -> None:
        """Leave it to the others."""


def decoded(payloads: Iterable[bytes]) -> list[AnyEvent]:
    events = [decode_event(payload) for payload in payloads]
    return [event for event in events if event is not None]


async def opened(deployment: Opens) -> Backend:
    """Open a backend until the test is over."""
    backend = await deployment.open()
    deployment.resources.push_async_callback(backend.aclose)
    return backend


async def client_of(deployment: Opens, *, worker: bool = True) -> Turnstream:
    """Open a client until the test is over; with a worker in this event loop, as `Turnstream.embedded` does."""
    async with AsyncExitStack() as resources:
        backend = await deployment.open()
        resources.push_async_callback(backend.aclose)
        if worker:
            await lifecycle._start_worker(backend, deployment.settings, resources)
        client = Turnstream(backend, deployment.settings, resources.pop_all())
    deployment.resources.push_async_callback(client.aclose)
    return client
