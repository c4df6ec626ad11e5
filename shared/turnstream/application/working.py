"""One session while a batch is decided on it: what was loaded, and over it what the batch has done so far.

It is what `decide` looks at and what `evolve_messages` changes; out of it come the writes, so the stored state is the
fold of the events by construction (design §3).
"""

from itertools import islice

from turnstream.domain.events import AnyEvent
from turnstream.domain.evolve import evolve_header, evolve_messages
from turnstream.domain.models import ChatMessage, SessionHeader
from turnstream.domain.patches import ChatMessagePatch, apply_patch
from turnstream.ports import LoadedSession, SessionWrite, StoredHeader


class WorkingSession:
    """A `SessionView` and a `MessageTarget`; messages that no command of the batch needs are not known to it."""

    def __init__(self, session_id: str, stored: StoredHeader | None, loaded: LoadedSession | None) -> None:
        """Start from the stored header and the loaded messages."""
        self.header: SessionHeader | None = stored.header if stored else None
        self.last_sequence = stored.last_sequence if stored else 0
        self.write = SessionWrite(session_id, before=stored)
        self._messages: dict[str, ChatMessage] = dict(loaded.messages) if loaded else {}
        self._tail = dict.fromkeys(message.id for message in loaded.tail) if loaded else {}
        if loaded:
            self._messages.update((message.id, message) for message in loaded.tail)

    def message(self, message_id: str) -> ChatMessage | None:
        """Return a message as the batch has left it."""
        return self._messages.get(message_id)

    def tail(self, count: int) -> tuple[ChatMessage, ...]:
        """Return the last messages as the batch has left them, oldest first."""
        newest_first = islice(reversed(self._tail), count)
        return tuple(self._messages[message_id] for message_id in newest_first)[::-1]

    def apply(self, event: AnyEvent, sequence: int) -> None:
        """Let an event happen, the one with this sequence in the partition."""
        evolve_messages(self, self.header, event)
        self.header = evolve_header(self.header, event)
        self.last_sequence = sequence

    def finished(self) -> SessionWrite:
        """Return what the batch changes of this session."""
        self.write.after = StoredHeader(self.header, self.last_sequence) if self.header else None
        return self.write

    def clear(self) -> None:
        """Forget all messages, also those that are stored."""
        self._messages.clear()
        self._tail.clear()
        self.write = SessionWrite(self.write.session_id, self.write.before, cleared=True, unseen=self.write.unseen)

    def append(self, message: ChatMessage, position: int) -> None:
        """Add a message at its position."""
        self._messages[message.id] = message
        self._tail[message.id] = None
        self.write.put[message.id] = message
        self.write.placed[message.id] = position
        if not self.write.cleared and message.id not in self.write.removed:
            self.write.unseen.add(message.id)

    def update(self, message_id: str, updates: ChatMessagePatch) -> None:
        """Change fields of a message that was loaded or added."""
        updated = apply_patch(self._messages[message_id], updates)
        self._messages[message_id] = updated
        self.write.put[message_id] = updated

    def remove(self, message_id: str) -> None:
        """Take a message away."""
        del self._messages[message_id]
        self._tail.pop(message_id, None)
        self.write.put.pop(message_id, None)
        self.write.placed.pop(message_id, None)
        if message_id not in self.write.unseen:
            self.write.removed.add(message_id)
