"""The examples: the commands of the story as they are sent and applied, with the replies and events of the worker."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import count

import msgspec
from msgspec.structs import replace

from tools.asyncapi.story import BEGINNING, CLIENT, SESSION, STORY, Step
from turnstream.adapters.memory import MemoryBackend
from turnstream.adapters.redis.keys import Keys
from turnstream.application.commands.decoder import CommandDecoder
from turnstream.application.commands.owner_memory import OwnerMemory, ParkingLimits
from turnstream.application.processor import PartitionProcessor
from turnstream.application.queries.query_handler import QueryHandler
from turnstream.catalogue import ModelCatalogue
from turnstream.codec.envelope import encode_command, encode_entry
from turnstream.codec.records import encode_replies, milliseconds
from turnstream.domain.events import AnyEvent
from turnstream.domain.models import partition_of
from turnstream.ports import Batch, CommandEntry, Loaded, Needs, RawEntry, SessionStore
from turnstream.settings import Settings

DEFAULTS = Settings()
"""The default settings, whatever the environment of this process says."""
PARTITION = partition_of(SESSION, DEFAULTS.partitions)
KEYS = Keys(DEFAULTS.namespace, DEFAULTS.partitions).partitions[PARTITION]

GENERATION = "5f0c1c7d9a3b2e48"


class Told(msgspec.Struct, frozen=True):
    """One message on the reply channel, and the commands that it answers."""

    steps: tuple[Step, ...]
    payload: bytes


class Recording(msgspec.Struct, frozen=True):
    """The stream entries of the commands that were applied, and all replies and events in their order."""

    entries: Sequence[tuple[Step, Mapping[bytes, bytes]]]
    replies: Sequence[Told]
    events: Sequence[tuple[AnyEvent, bytes]]


class _Watched:
    """A store that remembers the batches committed to it."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self.batches: list[Batch] = []

    async def load(self, partition: int, needs: Needs) -> Loaded:
        return await self._store.load(partition, needs)

    async def commit(self, batch: Batch) -> None:
        await self._store.commit(batch)
        self.batches.append(batch)


@cache
def recording() -> Recording:
    """Apply the story; the same each time."""
    return asyncio.run(_recorded())


async def _recorded() -> Recording:
    backend = MemoryBackend(DEFAULTS.partitions)
    store = _Watched(backend.store)
    owner = await _owner(backend, store)
    applied: dict[str, tuple[Step, Mapping[bytes, bytes]]] = {}
    told: list[Told] = []
    entries = count()
    for steps in STORY:
        fields = [_fields(step) for step in steps]
        await owner.process([RawEntry(_entry_id(next(entries)), each) for each in fields])
        (replies,) = store.batches[-1].replies.values()
        told.append(Told(steps, encode_replies(replies)))
        for step, sent, reply in zip(steps, fields, replies, strict=True):
            if reply.status == "ok":
                applied.setdefault(step.command_id, (step, sent))
    events = [(event, event.to_json()) for batch in store.batches for event in batch.events]
    return Recording(list(applied.values()), told, events)


async def _owner(backend: MemoryBackend, store: SessionStore) -> PartitionProcessor:
    state = await backend.ownership.take(PARTITION, "worker-1")
    if state is None:
        raise RuntimeError("a partition that was just made has an owner")
    intake = CommandDecoder(PARTITION, DEFAULTS.partitions, DEFAULTS.max_message_bytes, KEYS.is_reply_channel)
    answers = QueryHandler(backend.reader, DEFAULTS.partitions)
    memory = OwnerMemory.empty(backend.quarantine, PARTITION, 1, ParkingLimits())
    return PartitionProcessor(replace(state, generation=GENERATION), intake, store, answers, ModelCatalogue(), memory)


def _entry_id(number: int) -> str:
    """Return the id of a stream entry: one a second."""
    return f"{milliseconds(BEGINNING) + 1_000 * number}-0"


def _fields(step: Step) -> Mapping[bytes, bytes]:
    """Return the stream entry of a command as a worker reads it."""
    entry = CommandEntry(
        step.command_id,
        step.command.type,
        encode_command(step.command, DEFAULTS.max_message_bytes),
        KEYS.reply_channel(CLIENT),
        step.correlation_id,
        step.traceparent,
    )
    words = [word if isinstance(word, bytes) else word.encode() for word in encode_entry(entry)]
    return dict(zip(words[::2], words[1::2], strict=True))
