"""The stored data of one partition: bytes, so that no caller can change it."""

import secrets
from collections import deque
from collections.abc import Iterable
from itertools import chain

import msgspec

from turnstream.adapters.memory.leases import RANDOM_BYTES, MemoryLease
from turnstream.adapters.memory.outcomes import Outcomes
from turnstream.adapters.memory.parked_commands import OwnerDeaths, ParkedCommandQueues
from turnstream.adapters.memory.sorted_set import SortedSet
from turnstream.adapters.memory.stream import CommandStream
from turnstream.codec.records import (
    decode_header,
    decode_message,
    decode_type_sequences,
    encode_type_sequences,
)
from turnstream.domain.models import ChatMessage
from turnstream.ports import START, MalformedEntry, PartitionState, StoredHeader

REPLICATION_ID = ""
"""There is no server whose history could be another one."""

MALFORMED_RETENTION = 1_000
"""Entries that could not be read, kept of each partition."""


class StoredEvent(msgspec.Struct, frozen=True):
    """An event's envelope under its sequence."""

    sequence: int
    payload: bytes


class StoredSession(msgspec.Struct):
    """A session: the header's fields, the messages as JSON, and their ids by position."""

    header: dict[bytes, bytes] = msgspec.field(default_factory=dict[bytes, bytes])
    messages: dict[str, bytes] = msgspec.field(default_factory=dict[str, bytes])
    order: SortedSet = msgspec.field(default_factory=SortedSet)

    def decoded_header(self) -> StoredHeader:
        """Return the header."""
        return decode_header(list(chain.from_iterable(self.header.items())))

    def decoded(self, message_ids: Iterable[str]) -> dict[str, ChatMessage]:
        """Return the messages that exist."""
        return {i: decode_message(self.messages[i]) for i in message_ids if i in self.messages}

    def clear(self) -> None:
        """Take all messages away."""
        self.messages.clear()
        self.order.clear()

    def remove(self, message_id: str) -> None:
        """Take a message away."""
        self.messages.pop(message_id, None)
        self.order.remove(message_id)


class Partition:
    """Everything under one partition's number."""

    def __init__(self, number: int, window: float) -> None:
        """Start empty and free; outcomes are kept for `window` seconds."""
        self.number = number
        self.commands = CommandStream()
        self.sessions: dict[str, StoredSession] = {}
        self.index = SortedSet()
        self.events: deque[StoredEvent] = deque()
        self.event_bytes = 0
        self.marks: deque[tuple[float, int]] = deque()
        self.outcomes = Outcomes(window)
        self.malformed: deque[MalformedEntry] = deque(maxlen=MALFORMED_RETENTION)
        self.parked = ParkedCommandQueues()
        self.deaths = OwnerDeaths()
        self.cursor = START
        self.passed = 0
        self.sequence = 0
        self.type_sequences = encode_type_sequences({})
        self.generation = secrets.token_hex(RANDOM_BYTES)
        self.lease = MemoryLease()

    @property
    def token(self) -> str | None:
        """The owner's token, also of one that has given the partition up."""
        return self.lease.token

    def take(self, worker_id: str) -> PartitionState:
        """Give the partition, which is free for it, to a worker, under a new token."""
        died = self.deaths.take(self.cursor, self.token, self.token if self.lease.owner == worker_id else None)
        return self._state(self.lease.take(worker_id), len(self.commands) if died else 0)

    def release(self, token: str) -> bool:
        """Give the lease up; False if it is another one's."""
        released = self.lease.release(token)
        if released:
            self.deaths.released = token
        return released

    def _state(self, token: str, suspects: int) -> PartitionState:
        return PartitionState(
            partition=self.number,
            token=token,
            replication_id=REPLICATION_ID,
            cursor=self.cursor,
            generation=self.generation,
            sequence=self.sequence,
            type_sequences=decode_type_sequences(self.type_sequences),
            suspects=suspects,
            passed=self.passed,
        )
