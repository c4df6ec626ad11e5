"""The operations on endpoints: replay, and the parked sessions."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from turnstream import Turnstream
from turnstream.admin import ParkedSession
from turnstream.errors import ConfigurationError, SessionNotParked, SubscriptionNotFound
from turnstream_relay.configuration import Configuration
from turnstream_relay.delivery import subscription_name


async def replay(redis_url: str | None, endpoint: str, since: datetime) -> None:
    """Have all events since a moment delivered again, by a relay that runs or the next that does.

    Raises:
        SubscriptionNotFound: no relay ever delivered to it.

    """
    async with Turnstream.connect(redis_url) as ts:
        await ts.admin.consumers.reset(subscription_name(endpoint), since)


async def parked_sessions(redis_url: str | None, endpoints: Sequence[str]) -> list[tuple[str, ParkedSession]]:
    """Return the parked sessions of these endpoints, with the endpoint's name each; of one without any relay none."""
    found: list[tuple[str, ParkedSession]] = []
    async with Turnstream.connect(redis_url) as ts:
        for endpoint in endpoints:
            try:
                sessions = [each async for each in ts.admin.consumers.parked(subscription_name(endpoint))]
            except SubscriptionNotFound:
                continue
            found.extend((endpoint, session) for session in sessions)
    return found


async def redrive(
    redis_url: str | None, endpoint: str, session_ids: Sequence[str], timeout: float
) -> AsyncIterator[tuple[str, int]]:
    """Have parked events delivered again, of these sessions or, if none is named, of all; give how many are left.

    Raises:
        SubscriptionNotFound: no relay ever delivered to it.
        SessionNotParked: one of the named sessions is not.
        Unavailable: no relay has done it in time.

    """
    name = subscription_name(endpoint)
    async with Turnstream.connect(redis_url) as ts:
        for each in session_ids or [session.session_id async for session in ts.admin.consumers.parked(name)]:
            try:
                yield each, await ts.admin.consumers.redrive(name, each, timeout=timeout)
            except SessionNotParked:
                # Another operator may have had one of them delivered.
                if session_ids:
                    raise


async def discard(redis_url: str | None, endpoint: str, session_id: str, timeout: float) -> None:
    """Drop the parked events of a session; the errors are those of `redrive`."""
    async with Turnstream.connect(redis_url) as ts:
        await ts.admin.consumers.discard(subscription_name(endpoint), session_id, timeout=timeout)


def check_endpoint(configuration: Configuration, endpoint: str) -> None:
    """Check that the file knows an endpoint.

    Raises:
        ConfigurationError: it does not.

    """
    if endpoint not in configuration.endpoints:
        known = ", ".join(sorted(configuration.endpoints))
        raise ConfigurationError(f"There is no endpoint {endpoint!r} in the file; there are {known}")
