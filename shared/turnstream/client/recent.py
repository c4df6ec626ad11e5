"""Sessions as this client's last results left them, so that the result of an append needs no read (ADR 22)."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from turnstream.codec.records import copy_header, decode_message, encode_message
from turnstream.domain.content import TextContent
from turnstream.domain.events import MessageAdded
from turnstream.domain.evolve import evolve_header
from turnstream.domain.models import ChatMessage, Session, SessionHeader, session_of
from turnstream.ports import EPOCH, SessionPlace

MAX_MESSAGES: Final = 20_000
"""Messages that are kept, over all sessions: some 20 MB where they are short."""


class Kept(msgspec.Struct, frozen=True):
    """A session, and the event that led to it: one event of one history leads to one state.

    `changeable` are the indices of messages that hold dictionaries, which whoever gets the session could change.
    """

    header: SessionHeader
    messages: tuple[ChatMessage, ...]
    changeable: tuple[int, ...]
    generation: str
    sequence: int

    @classmethod
    def of(cls, header: SessionHeader, messages: tuple[ChatMessage, ...], place: SessionPlace) -> "Kept":
        """Keep a session as it was read behind the command that stands at `place`."""
        return cls(header, messages, tuple(_changeable(messages, 0)), place.generation, place.sequence)

    def followed_by(self, added: Sequence[ChatMessage], version: int, place: SessionPlace) -> "Kept | None":
        """Return the session behind a command that added messages, if the command found it as it is here."""
        if (self.generation, self.sequence) != (place.generation, place.previous):
            return None
        header: SessionHeader | None = self.header
        stored = tuple(map(_copy, added))
        for message in stored:
            event = MessageAdded(
                session_id=self.header.id,
                incarnation=self.header.incarnation,
                version=version,
                timestamp=EPOCH + timedelta(milliseconds=place.updated_ms),
                message=message,
            )
            header = evolve_header(header, event)
        return replace(
            self,
            header=header,
            messages=self.messages + stored,
            changeable=(*self.changeable, *_changeable(stored, len(self.messages))),
            sequence=place.sequence,
        )

    def session(self) -> Session:
        """Return it, for somebody who may change what can be changed."""
        messages = self.messages
        if self.changeable:
            copied = list(messages)
            for index in self.changeable:
                copied[index] = _copy(copied[index])
            messages = tuple(copied)
        return session_of(copy_header(self.header), messages)


class RecentSessions:
    """The least recently kept make room for others."""

    def __init__(self, most: int = MAX_MESSAGES) -> None:
        """Keep up to so many messages; a session with none counts as one."""
        self._most = most
        self._count = 0
        self._kept: dict[str, Kept] = {}

    def keep(self, kept: Kept) -> None:
        """Remember a session."""
        self.take(kept.header.id)
        self._kept[kept.header.id] = kept
        self._count += _weight(kept)
        while self._count > self._most:
            self.take(next(iter(self._kept)))

    def take(self, session_id: str) -> Kept | None:
        """Return a session, if it is remembered, and forget it."""
        kept = self._kept.pop(session_id, None)
        if kept:
            self._count -= _weight(kept)
        return kept


def _weight(kept: Kept) -> int:
    return max(1, len(kept.messages))


def _copy(message: ChatMessage) -> ChatMessage:
    """Return a message as reading it would give it."""
    return decode_message(encode_message(message))


def _changeable(messages: Sequence[ChatMessage], start: int) -> Iterable[int]:
    for index, message in enumerate(messages, start):
        plain = message.metadata is None and message.tool_calls is None
        if not plain or any(type(part) is not TextContent for part in message.content):
            yield index
