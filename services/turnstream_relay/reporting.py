"""What each endpoint got, in the log, every minute."""

import asyncio

from turnstream import SubscriptionInfo, Turnstream, Unavailable
from turnstream.telemetry import get_logger
from turnstream_relay.delivery import Delivery, subscription_name
from turnstream_relay.relay import Relay

log = get_logger(__name__)


async def report(ts: Turnstream, relay: Relay, every: float) -> None:
    """Report again and again, every so many seconds."""
    while True:
        await asyncio.sleep(every)
        await report_once(ts, relay)


async def report_once(ts: Turnstream, relay: Relay) -> None:
    """Log a line for each endpoint: what this process delivered and tried again, and how far the endpoint is.

    What is parked and the lag are the whole endpoint's, whichever processes deliver to it; not known while the server
    is away.
    """
    try:
        infos = {info.name: info for info in await ts.subscriptions.list_all()}
    except Unavailable:
        infos = {}
    for delivery in list(relay):
        _report(delivery, infos.get(subscription_name(delivery.name)))


def _report(delivery: Delivery, info: SubscriptionInfo | None) -> None:
    log.info(
        "endpoint report",
        endpoint=delivery.name,
        delivered=delivery.delivered,
        retried=delivery.retried,
        parked_sessions=info.parked_sessions if info else None,
        parked_events=info.parked_events if info else None,
        lag=info.lag if info else None,
        resting=delivery.is_resting,
        gone=delivery.is_gone,
    )
