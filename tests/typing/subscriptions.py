"""The events that a subscription yields, as both type checkers infer them. Nothing here is run."""

from typing import assert_type

from turnstream import ChatMessage, Consumer, EventSubscription, Position, ResyncRequired, Turnstream
from turnstream.events import ContextWindowCritical, Event, EventMeta, MessageAdded, SessionCreated, TokenMetricsUpdated


async def of_one_class(ts: Turnstream) -> None:
    async with ts.subscribe(MessageAdded) as events:
        async for event in events:
            assert_type(event, MessageAdded | ResyncRequired)
            if isinstance(event, ResyncRequired):
                assert_type(event.position, Position)
            else:
                assert_type(event.message, ChatMessage)
                assert_type(event.meta, EventMeta | None)


async def of_several_classes(ts: Turnstream) -> None:
    async with ts.subscribe(MessageAdded, ContextWindowCritical) as events:
        async for event in events:
            assert_type(event, MessageAdded | ContextWindowCritical | ResyncRequired)
            if isinstance(event, MessageAdded):
                assert_type(event.message.id, str)
            elif isinstance(event, ContextWindowCritical):
                assert_type(event.crossed, bool)


async def of_the_four_classes_of_the_demo(ts: Turnstream) -> None:
    async for event in ts.subscribe(SessionCreated, MessageAdded, TokenMetricsUpdated, ContextWindowCritical):
        assert_type(event, SessionCreated | MessageAdded | TokenMetricsUpdated | ContextWindowCritical | ResyncRequired)


async def of_one_session(ts: Turnstream) -> None:
    async for event in ts.subscribe(MessageAdded, session_id="s", start="beginning"):
        assert_type(event, MessageAdded | ResyncRequired)


async def of_everything(ts: Turnstream) -> None:
    subscription = ts.subscribe()
    assert_type(subscription, EventSubscription[Event])
    async for event in subscription:
        assert_type(event, Event | ResyncRequired)
        if isinstance(event, MessageAdded):
            assert_type(event.message, ChatMessage)


async def durable(ts: Turnstream) -> None:
    async def handle(event: MessageAdded | ContextWindowCritical | ResyncRequired) -> None:
        assert_type(event, MessageAdded | ContextWindowCritical | ResyncRequired)

    subscription = ts.consumer("billing", MessageAdded, ContextWindowCritical, start="beginning")
    assert_type(subscription, Consumer[MessageAdded | ContextWindowCritical])
    await subscription.run(handle)
    assert_type(ts.consumer("all"), Consumer[Event])
