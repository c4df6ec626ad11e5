"""Whether a stored session is the fold of its events (design §7, I2), as far as retention has kept them."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from turnstream.application.queries.comparison import DIFFERS, Difference, compare, fields_that_differ
from turnstream.codec.events import decode_event, session_of_event
from turnstream.domain.events import AnyEvent, SessionCreated, SessionDeleted
from turnstream.domain.models import ChatMessage, Entity, SessionHeader, SessionInfo, info_of, partition_of
from turnstream.errors import SessionNotFound, StoredDataInvalid, Unavailable
from turnstream.ports import EventLog, EventPage, MessageRange, SessionReader

MAX_READS = 10
"""Attempts for a session that changes while it is read, or whose last change is not durable yet."""

PAUSE = 0.1
"""Seconds between two looks."""

PAGE = 1_000
"""Events read in one call."""


class Verification(Entity, frozen=True):
    """How a stored session compares with its events.

    `version` is the one that was compared (0: nothing could be read), `events` how many events of it are kept.
    `complete` says that they reach back to its creation; otherwise history begins at the version `history_from`
    (`None`: no event is kept), and earlier changes could not be compared.
    """

    session_id: str
    version: int
    events: int
    complete: bool
    history_from: int | None
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Return whether nothing differs."""
        return not self.differences


class StoredSession(msgspec.Struct, frozen=True):
    """The stored data of a session."""

    header: SessionHeader
    messages: tuple[ChatMessage, ...]
    info: SessionInfo | None


class Verifier:
    """Reads a session and its partition's events.

    A look reads the session and, once, all events that the partition keeps, in pages of up to 1 MiB; of those of other
    sessions only the session id is decoded. To follow a session's events back one by one would be a call for each.
    """

    def __init__(self, reader: SessionReader, log: EventLog, partitions: int) -> None:
        """Use a deployment."""
        self._reader = reader
        self._log = log
        self._partitions = partitions

    async def verify(self, session_id: str) -> Verification:
        """Compare a session with its events.

        Raises:
            SessionNotFound: there is no such session, and no event says that there should be.
            Unavailable: the server does not answer, or the session's last changes are not safe yet.

        """
        found: Verification | None = None
        for attempt in range(MAX_READS):
            if attempt:
                await asyncio.sleep(PAUSE)
            try:
                found, conclusive = await self._look(session_id)
            except StoredDataInvalid as error:
                return await self._unreadable(session_id, error)
            if found and conclusive:
                return found
        if found is None:
            raise Unavailable(f"The last changes of session {session_id} are not safe yet: verify it later")
        return found

    async def _look(self, session_id: str) -> tuple[Verification | None, bool]:
        """Return the findings, and whether they are certain: a change during the read may look like a difference.

        `None` stands for an event of the session that may not be published yet.
        """
        partition = partition_of(session_id, self._partitions)
        before = await self._log.read(partition, 0, 0, session_id)
        stored = await self._stored(session_id)
        page, last, events = await self._history(partition, session_id)
        still = before.session == page.session and before.generation == page.generation == last.generation
        untold = max(page.types.values(), default=0) > page.head
        if untold and (page.session > page.head or (stored is None and events)):
            return None, False
        if isinstance(stored, StoredSession):
            return _compared(session_id, stored, replace(page, oldest=last.oldest), events, still=still)
        if stored is None and not events and still:
            raise SessionNotFound(session_id)
        wrong = stored or Difference("session", "is not stored")
        return _verification(session_id, 0, events, [wrong]), still

    async def _unreadable(self, session_id: str, error: StoredDataInvalid) -> Verification:
        """Return the verification of a session whose history cannot be read."""
        stored = await self._stored(session_id)
        version = stored.header.version if isinstance(stored, StoredSession) else 0
        wrong = stored if isinstance(stored, Difference) else _cannot_be_read("events", error)
        return _verification(session_id, version, (), [wrong])

    async def _stored(self, session_id: str) -> StoredSession | Difference | None:
        unreadable = "session"
        try:
            await self._reader.messages(session_id, MessageRange(count=0))
            unreadable = "messages"
            header, messages = await self._reader.messages(session_id, MessageRange())
            unreadable = "session"
            (info,) = await self._reader.infos([session_id])
        except SessionNotFound:
            return None
        except StoredDataInvalid as error:
            return _cannot_be_read(unreadable, error)
        if isinstance(info, StoredDataInvalid):
            return _cannot_be_read(unreadable, info)
        return StoredSession(header, messages, info)

    async def _history(self, partition: int, session_id: str) -> tuple[EventPage, EventPage, list[AnyEvent]]:
        """Return the first and the last page that were read, and the kept events of the session's present life."""
        events: list[AnyEvent] = []
        first = page = await self._log.read(partition, 0, PAGE, session_id)
        after = 0
        while True:
            if page.oldest > after + 1:
                # The events that were read are not connected with the following ones.
                events.clear()
            for event in _of_session(page, session_id, first.head):
                events.append(event)
                if isinstance(event, SessionDeleted):
                    events.clear()
            if not page.payloads or page.payloads[-1][0] >= first.head:
                return first, page, events
            after = page.payloads[-1][0]
            page = await self._log.read(partition, after, PAGE)


def _cannot_be_read(path: str, error: StoredDataInvalid) -> Difference:
    return Difference(path, f"cannot be read: the key {error.key} holds something else: {error.reason}")


def _of_session(page: EventPage, session_id: str, last: int) -> Iterator[AnyEvent]:
    for sequence, payload in page.payloads:
        # An undecodable entry is from another program; if it replaces an event, that event is missed.
        with suppress(msgspec.DecodeError):
            if sequence <= last and session_of_event(payload) == session_id:
                event = decode_event(payload)
                if event:
                    yield event


def _compared(
    session_id: str, stored: StoredSession, page: EventPage, events: Sequence[AnyEvent], *, still: bool
) -> tuple[Verification, bool]:
    header = stored.header
    if not still:
        events = [e for e in events if e.incarnation == header.incarnation and e.version <= header.version]
    differences = list(compare(header, stored.messages, events))
    if still:
        differences += _of_places(stored, page, events)
    found = _verification(session_id, header.version, events, differences)
    return found, still or (bool(events) and found.equal)


def _of_places(stored: StoredSession, page: EventPage, events: Sequence[AnyEvent]) -> Iterator[Difference]:
    """Yield what differs in what is stored a second time, for listings and to chain events."""
    last = events[-1].meta if events else None
    if page.session != last.sequence if last else page.session >= page.oldest:
        yield Difference("lastSequence", DIFFERS)
    if stored.info is None:
        yield Difference("listed", "is not stored")
    else:
        yield from fields_that_differ(info_of(stored.header), stored.info, "listed.")


def _verification(
    session_id: str, version: int, events: Sequence[AnyEvent], differences: Sequence[Difference]
) -> Verification:
    return Verification(
        session_id=session_id,
        version=version,
        events=len(events),
        complete=bool(events) and isinstance(events[0], SessionCreated),
        history_from=events[0].version if events else None,
        differences=tuple(differences),
    )
