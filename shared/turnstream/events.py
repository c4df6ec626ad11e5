"""All events, their positions, and the fold that makes a session of them (docs/contract.md, Events).

Example:
    async with ts.subscribe(MessageAdded) as events:
        async for event in events:
            print(event.session_id, event.message.role)

"""

from turnstream.client.subscriptions.resync import ResyncRequired
from turnstream.domain.events import (
    ContextWindowCritical,
    Event,
    EventMeta,
    MessageAdded,
    MessageRemoved,
    MessageUpdated,
    SessionConfigUpdated,
    SessionCreated,
    SessionDeleted,
    SessionUpdated,
    TokenMetricsUpdated,
)
from turnstream.domain.evolution import fold
from turnstream.domain.position import LogPosition, Position

__all__ = [
    "ContextWindowCritical",
    "Event",
    "EventMeta",
    "LogPosition",
    "MessageAdded",
    "MessageRemoved",
    "MessageUpdated",
    "Position",
    "ResyncRequired",
    "SessionConfigUpdated",
    "SessionCreated",
    "SessionDeleted",
    "SessionUpdated",
    "TokenMetricsUpdated",
    "fold",
]
