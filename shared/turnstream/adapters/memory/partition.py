"""What is stored of one partition: bytes, so that no caller holds anything that could change it."""

import secrets
from collections import deque
from collections.abc import Iterable
from itertools import chain

import msgspec

from turnstream.adapters.memory.outcomes import Outcomes
from turnstream.adapters.memory.parking import Deaths, Parked
from turnstream.adapters.memory.ranking import Ranking
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

RANDOM_BYTES = 8


class StoredEvent(msgspec.Struct, frozen=True):
    """An event's envelope under its sequence."""

    sequence: int
    payload: bytes


class StoredSession(msgspec.Struct):
    """A session: the header's fields, the messages as JSON, and their ids by position."""

    header: dict[bytes, bytes] = msgspec.field(default_factory=dict[bytes, bytes])
    messages: dict[str, bytes] = msgspec.field(default_factory=dict[str, bytes])
    order: Ranking = msgspec.field(default_factory=Ranking)

    def decoded_header(self) -> StoredHeader:
        """Return the header."""
        return decode_header(list(chain.from_iterable(self.header.items())))

    def decoded(self, message_ids: Iterable[str]) -> dict[str, ChatMessage]:
        """Return those of these messages that are there."""
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
        self.index = Ranking()
        self.events: deque[StoredEvent] = deque()
        self.marks: deque[tuple[float, int]] = deque()
        self.outcomes = Outcomes(window)
        self.malformed: deque[MalformedEntry] = deque(maxlen=MALFORMED_RETENTION)
        self.parked = Parked()
        self.deaths = Deaths()
        self.cursor = START
        self.sequence = 0
        self.type_sequences = encode_type_sequences({})
        self.generation = secrets.token_hex(RANDOM_BYTES)
        self.token: str | None = None
        self._epoch = 0
        self.owner: str | None = None
        self._leased = False

    def take(self, worker_id: str) -> PartitionState | None:
        """Give the partition to a worker, under a new token; `None` while it is another one's."""
        if self._leased and self.owner != worker_id:
            return None
        died = self.deaths.take(self.cursor, self.token, self.token if self.owner == worker_id else None)
        self._epoch += 1
        self.token = f"{self._epoch}-{secrets.token_hex(RANDOM_BYTES)}"
        self.owner = worker_id
        self._leased = True
        return self._state(self.token, len(self.commands) if died else 0)

    def renew(self, token: str) -> bool:
        """Keep the lease; a lease that was given up is taken back as long as nobody else has it."""
        self._leased = self._leased or token == self.token
        return token == self.token

    def release(self, token: str) -> bool:
        """Give the lease up; False if it is another one's. The token holds until the next owner's."""
        released = self._leased and token == self.token
        if released:
            self.deaths.released = token
        self._leased = self._leased and not released
        return released

    def expire(self) -> None:
        """Let the lease run out: its owner is gone."""
        self._leased = False

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
        )
