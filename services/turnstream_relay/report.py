"""The report of every endpoint, in the log, every minute."""

import asyncio

from turnstream import Turnstream, TurnstreamError
from turnstream.errors import SubscriptionNotFound
from turnstream.logging import get_logger
from turnstream_relay.delivery import subscription_name
from turnstream_relay.relay import Relay

log = get_logger(__name__)


async def report(ts: Turnstream, relay: Relay, every: float) -> None:
    """Report again and again, every so many seconds."""
    while True:
        await asyncio.sleep(every)
        await report_once(ts, relay)


async def report_once(ts: Turnstream, relay: Relay) -> None:
    """Log a line for each endpoint: the deliveries and retries of this process since it began with it.

    What is parked and the lag are the whole endpoint's, whichever processes deliver to it; left out where the server
    does not tell.
    """
    for delivery in relay:
        known = await _standing(ts, subscription_name(delivery.name))
        log.info(
            "endpoint report",
            endpoint=delivery.name,
            delivered=delivery.delivered,
            retried=delivery.retried,
            **known,
            paused=delivery.is_paused,
            gone=delivery.is_gone,
        )


async def _standing(ts: Turnstream, name: str) -> dict[str, int]:
    """Return how far an endpoint's subscription is."""
    try:
        parked = [each async for each in ts.admin.consumers.parked(name)]
        lag = sum([partition.behind async for partition in ts.admin.consumers.lag(name)])
    except SubscriptionNotFound:
        # It has just begun.
        return {}
    except TurnstreamError as error:
        log.warning("endpoint's standing not known", subscription=name, error=str(error))
        return {}
    return {
        "parked_sessions": sum(session.is_parked for session in parked),
        "retried_sessions": sum(not session.is_parked for session in parked),
        "parked_events": sum(session.events for session in parked if session.is_parked),
        "lag": lag,
    }
