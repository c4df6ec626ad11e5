"""Sessions as this client's last results left them, so that the result of an append needs no read (ADR 22)."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from turnstream.codec.records import copy_header, decode_message, encode_message, milliseconds
from turnstream.domain.content import TextContent, ToolCallContent
from turnstream.domain.events import MessageAdded
from turnstream.domain.evolution import evolve_header
from turnstream.domain.models import ChatMessage, Session, SessionHeader, session_of
from turnstream.ports import EPOCH, SessionPosition

MAX_BYTES: Final = 64 * 1024 * 1024
"""The bytes of all cached sessions at most, roughly counted."""

OBJECT_BYTES: Final = 500
"""The bytes of a message besides its text, roughly."""


class CachedSession(msgspec.Struct, frozen=True):
    """A session, and the event that led to it: one event of one history leads to one state.

    `changeable` is the JSON of the messages with dictionaries, by index: a caller may change these and gets a copy.
    """

    header: SessionHeader
    messages: tuple[ChatMessage, ...]
    changeable: dict[int, bytes]
    size: int
    generation: str
    sequence: int

    @classmethod
    def of(
        cls, header: SessionHeader, messages: tuple[ChatMessage, ...], position: SessionPosition
    ) -> "CachedSession | None":
        """Keep a session that was read after the command at `position`, if it has not changed since.

        A recreated session can reach the same version, but hardly in the same millisecond. Even then, another command
        led there, so the next change does not follow this one.
        """
        if milliseconds(header.updated_at) != position.updated_ms:
            return None
        changeable, size = _weighed(messages, 0)
        return cls(header, messages, changeable, size, position.generation, position.sequence)

    def followed_by(
        self, added: tuple[ChatMessage, ...], version: int, position: SessionPosition
    ) -> "CachedSession | None":
        """Return the session after a command that added messages, if the command was applied to this state of it.

        `added` belongs to the session from now on: no caller may keep a reference to it.
        """
        if (self.generation, self.sequence) != (position.generation, position.previous):
            return None
        header: SessionHeader | None = self.header
        for message in added:
            event = MessageAdded(
                session_id=self.header.id,
                incarnation=self.header.incarnation,
                version=version,
                timestamp=EPOCH + timedelta(milliseconds=position.updated_ms),
                message=message,
            )
            header = evolve_header(header, event)
        changeable, size = _weighed(added, len(self.messages))
        return replace(
            self,
            header=header,
            messages=self.messages + added,
            changeable=self.changeable | changeable if changeable else self.changeable,
            size=self.size + size,
            sequence=position.sequence,
        )

    def session(self) -> Session:
        """Return the session for a caller, which may change its dictionaries."""
        messages = self.messages
        if self.changeable:
            copied = list(messages)
            for index, body in self.changeable.items():
                copied[index] = decode_message(body)
            messages = tuple(copied)
        return session_of(copy_header(self.header), messages)


class SessionCache:
    """The least recently kept make room for others."""

    def __init__(self, most: int = MAX_BYTES) -> None:
        """Keep up to so many bytes; a session that is larger alone is not kept."""
        self._most = most
        self._size = 0
        self._kept: dict[str, CachedSession] = {}

    def keep(self, kept: CachedSession) -> None:
        """Remember a session."""
        self.take(kept.header.id)
        if _weight(kept) > self._most:
            return
        self._kept[kept.header.id] = kept
        self._size += _weight(kept)
        while self._size > self._most:
            self.take(next(iter(self._kept)))

    def take(self, session_id: str) -> CachedSession | None:
        """Return a session, if it is remembered, and forget it."""
        kept = self._kept.pop(session_id, None)
        if kept:
            self._size -= _weight(kept)
        return kept


def _weight(kept: CachedSession) -> int:
    return kept.size + OBJECT_BYTES


def _weighed(messages: Sequence[ChatMessage], start: int) -> tuple[dict[int, bytes], int]:
    """Return the JSON of the messages that can be changed, by their index from `start` on, and the size of all."""
    changeable: dict[int, bytes] = {}
    size = len(messages) * OBJECT_BYTES
    for index, message in enumerate(messages, start):
        content = message.content
        if len(content) == 1 and type(content[0]) is TextContent and _is_plain(message):
            size += len(content[0].text)
            continue
        body = encode_message(message)
        size += len(body)
        if not _is_plain(message) or any(type(part) is ToolCallContent for part in content):
            changeable[index] = body
    return changeable, size


def _is_plain(message: ChatMessage) -> bool:
    return message.metadata is None and message.tool_calls is None
