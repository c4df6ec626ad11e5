"""One endpoint: a durable subscription whose handler posts each event (docs/relay.md)."""

from typing import Final

from turnstream import Consumer, NotHandled, ResyncRequired, Turnstream
from turnstream.client.consumers.handler_calls import is_retry
from turnstream.events import Event
from turnstream.logging import bound, get_logger
from turnstream_relay.configuration import Endpoint
from turnstream_relay.delivery_limiter import CircuitOpen, DeliveryLimiter
from turnstream_relay.messages import message_of
from turnstream_relay.poster import Poster
from turnstream_relay.response import Answer, Outcome
from turnstream_relay.signatures import Message

log = get_logger(__name__)

_COUNTED_FAILURES: Final = (Outcome.FAILED, Outcome.REFUSED)

GAP_ATTEMPTS: Final = 10
"""Attempts to post a gap to an endpoint that refuses it, if the file gives no number."""


def subscription_name(endpoint: str) -> str:
    """Return the name of the durable subscription that belongs to an endpoint."""
    return f"relay.{endpoint}"


class Delivery:
    """Delivers to one endpoint, until stopped or until the endpoint says that it is gone.

    Nothing is shared with other endpoints, so that none waits for another. All processes of the relay have a share of
    the partitions; within one, events are delivered one after the other.
    """

    def __init__(self, ts: Turnstream, name: str, endpoint: Endpoint) -> None:
        """Take part in the endpoint's subscription; `run` begins."""
        self.name = name
        self.endpoint = endpoint
        self.delivered = 0
        self.retried = 0
        self.is_gone = False
        self._poster = Poster(endpoint)
        self._limiter = DeliveryLimiter(
            endpoint.concurrency, endpoint.rate_limit, endpoint.max_backoff, self._try_again
        )
        self._subscription: Consumer[Event] = ts.consumer(
            subscription_name(name),
            *endpoint.types,
            start=endpoint.start,
            attempts=endpoint.retries,
            session_prefix=endpoint.session_prefix,
        )
        self._refusals: dict[str, int] = {}

    @property
    def is_paused(self) -> bool:
        """Whether the endpoint is known to fail."""
        return self._limiter.is_paused

    async def run(self) -> None:
        """Deliver until stopped, then finish the attempts in flight.

        Raises:
            ConfigurationError: the server does not permit what is needed.

        """
        with bound(endpoint=self.name):
            async with self._poster:
                await self._subscription.run(self._handle)

    def stop(self) -> None:
        """Begin no more attempts, and end `run` after those in flight."""
        self._limiter.close()
        self._subscription.stop()

    async def _handle(self, event: Event | ResyncRequired) -> None:
        message = message_of(event)
        answer = await self._attempt(message)
        if answer.outcome is Outcome.DELIVERED:
            self.delivered += 1
            return
        self.retried += 1
        if answer.outcome is Outcome.GONE:
            self._give_up_endpoint()
        elif isinstance(event, ResyncRequired) and self._is_refused_for_good(message.id, answer):
            log.error("endpoint was not told of a gap, for it does not take that", reason=answer.reason)
            return
        raise NotHandled(answer.reason, counts=answer.outcome in _COUNTED_FAILURES)

    async def _attempt(self, message: Message) -> Answer:
        try:
            async with self._limiter.permit(retries=is_retry()) as note:
                answer = await self._poster.post(message)
                note(answer)
        except CircuitOpen as reason:
            raise NotHandled(str(reason), counts=False) from None
        return answer

    def _try_again(self) -> None:
        """Try what was not taken before: the endpoint answers again."""
        self._subscription.hasten()

    def _give_up_endpoint(self) -> None:
        """Deliver no more; the event stays for an endpoint that is enabled again."""
        if not self.is_gone:
            self.is_gone = True
            log.error("endpoint is gone, and gets nothing more until the configuration is read again")
            self.stop()

    def _is_refused_for_good(self, message_id: str, answer: Answer) -> bool:
        """Return whether a gap was refused often enough; there is no session that could be parked for it."""
        if answer.outcome is Outcome.REFUSED:
            self._refusals[message_id] = self._refusals.get(message_id, 0) + 1
        if self._refusals.get(message_id, 0) < (self.endpoint.attempts or GAP_ATTEMPTS):
            return False
        del self._refusals[message_id]
        return True
