"""The sessions whose events a subscription's handler did not take, with all that has happened to them since."""

from collections.abc import Awaitable, Callable

from turnstream.client.durable.handling import GivenUpError
from turnstream.codec.events import decode_event
from turnstream.domain.events import AnyEvent
from turnstream.ports import FailedEvent, ParkedEvents, Subscriptions, SubscriptionState
from turnstream.telemetry import get_logger, where_of

log = get_logger(__name__)


class ParkedSessions:
    """The parked sessions of a partition, as its owner keeps them: their events wait until an operator acts."""

    def __init__(
        self,
        name: str,
        state: SubscriptionState,
        subscriptions: Subscriptions,
        handle: Callable[[AnyEvent], Awaitable[None]],
        tell_of_lost: Callable[[str, int], Awaitable[None]],
    ) -> None:
        """Know none yet; `load` reads them."""
        self._name = name
        self._state = state
        self._subscriptions = subscriptions
        self._handle = handle
        self._tell_of_lost = tell_of_lost
        self._sessions = set[str]()

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._sessions

    async def load(self) -> None:
        """Read which sessions are parked."""
        self._sessions = set(await self._parked())

    async def add(self, event: FailedEvent, failure: GivenUpError | None = None) -> None:
        """Queue an event: the one that failed, by which `failure`, or one of its session behind it."""
        about = {"session_id": event.session_id, "sequence": event.sequence, "partition": self._state.partition}
        if failure:
            where = where_of(failure)
            log.error("session parked, for an event was not handled", reason=event.reason, where=where, **about)
        if event.session_id not in self._sessions:
            # One that came when the session was not parked any more is not meant for this event.
            await self._subscriptions.withdraw(self._name, self._state.partition, event.session_id)
        if not await self._subscriptions.park(self._name, self._state, event):
            log.error("event of a parked session lost, for too many wait", **about)
        self._sessions.add(event.session_id)

    async def carry_out_requests(self) -> None:
        """Do what operators asked for."""
        if not self._sessions:
            return
        requests = await self._subscriptions.requests(self._name, self._state.partition)
        for session_id, what in requests.items():
            if session_id in self._sessions:
                await self._empty(session_id, handle=what == "redrive")
            await self._subscriptions.withdraw(self._name, self._state.partition, session_id)

    async def _empty(self, session_id: str, *, handle: bool) -> None:
        """Take events from the head of a session's queue, until it is empty or one is not handled again."""
        lost = (await self._parked())[session_id].lost
        if lost and handle:
            await self._tell_of_lost(session_id, lost)
        done = 0
        while queue := await self._subscriptions.queue(self._name, self._state.partition, session_id, 1):
            ((sequence, payload),) = queue
            event = decode_event(payload)
            if handle and event is not None:
                try:
                    await self._handle(event)
                except GivenUpError as failure:
                    again = FailedEvent(session_id, sequence, payload, failure.reason, failure.attempts)
                    await self.add(again, failure)
                    return
            await self._subscriptions.unpark(self._name, self._state, session_id, sequence)
            done += 1
        if not done:
            # All of its events were lost: there is none with which it would leave.
            await self._subscriptions.unpark(self._name, self._state, session_id, 0)
        self._sessions.discard(session_id)
        log.info("session is not parked any more", session_id=session_id, handled=done if handle else 0)

    async def _parked(self) -> dict[str, ParkedEvents]:
        return dict(await self._subscriptions.parked(self._name, self._state.partition))
