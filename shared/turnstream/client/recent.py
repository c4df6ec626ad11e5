"""Sessions as this client's last results left them, so that the result of an append needs no read (ADR 22)."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from turnstream.codec.records import copy_header, decode_message, encode_message
from turnstream.domain.content import TextContent, ToolCallContent
from turnstream.domain.events import MessageAdded
from turnstream.domain.evolve import evolve_header
from turnstream.domain.models import ChatMessage, Session, SessionHeader, session_of
from turnstream.ports import EPOCH, SessionPlace, milliseconds

MAX_BYTES: Final = 64 * 1024 * 1024
"""What is kept at most, over all sessions, by a rough count."""

OBJECT_BYTES: Final = 500
"""What a message takes besides its text, roughly."""


class Kept(msgspec.Struct, frozen=True):
    """A session, and the event that led to it: one event of one history leads to one state.

    `changeable` is the JSON of those messages, by index, that hold dictionaries: whoever gets the session may change
    these, so each gets its own.
    """

    header: SessionHeader
    messages: tuple[ChatMessage, ...]
    changeable: dict[int, bytes]
    size: int
    generation: str
    sequence: int

    @classmethod
    def of(cls, header: SessionHeader, messages: tuple[ChatMessage, ...], place: SessionPlace) -> "Kept | None":
        """Keep a session that was read behind the command that stands at `place`, if nothing has happened to it since.

        Another life of the session may have come to the same version, but hardly in the same millisecond; and then it
        was another command that led there, so that what comes next does not follow upon this one.
        """
        if milliseconds(header.updated_at) != place.updated_ms:
            return None
        changeable, size = _weighed(messages, 0)
        return cls(header, messages, changeable, size, place.generation, place.sequence)

    def followed_by(self, added: tuple[ChatMessage, ...], version: int, place: SessionPlace) -> "Kept | None":
        """Return the session behind a command that added messages, if the command found it as it is here.

        `added` belongs to the session from now on: nobody else may hold it.
        """
        if (self.generation, self.sequence) != (place.generation, place.previous):
            return None
        header: SessionHeader | None = self.header
        for message in added:
            event = MessageAdded(
                session_id=self.header.id,
                incarnation=self.header.incarnation,
                version=version,
                timestamp=EPOCH + timedelta(milliseconds=place.updated_ms),
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
            sequence=place.sequence,
        )

    def session(self) -> Session:
        """Return it, for somebody who may change what can be changed."""
        messages = self.messages
        if self.changeable:
            copied = list(messages)
            for index, body in self.changeable.items():
                copied[index] = decode_message(body)
            messages = tuple(copied)
        return session_of(copy_header(self.header), messages)


class RecentSessions:
    """The least recently kept make room for others."""

    def __init__(self, most: int = MAX_BYTES) -> None:
        """Keep up to so many bytes; a session that is larger alone is not kept."""
        self._most = most
        self._size = 0
        self._kept: dict[str, Kept] = {}

    def keep(self, kept: Kept) -> None:
        """Remember a session."""
        self.take(kept.header.id)
        if _weight(kept) > self._most:
            return
        self._kept[kept.header.id] = kept
        self._size += _weight(kept)
        while self._size > self._most:
            self.take(next(iter(self._kept)))

    def take(self, session_id: str) -> Kept | None:
        """Return a session, if it is remembered, and forget it."""
        kept = self._kept.pop(session_id, None)
        if kept:
            self._size -= _weight(kept)
        return kept


def _weight(kept: Kept) -> int:
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
