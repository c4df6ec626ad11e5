"""The events that a subscription yields, as both type checkers infer them. Nothing here is run."""

from typing import assert_type

from turnstream import (
    ChatMessage,
    ContextWindowCritical,
    Event,
    EventMeta,
    EventSubscription,
    MessageAdded,
    SessionCreated,
    TokenMetricsUpdated,
    Turnstream,
)


async def of_one_class(ts: Turnstream) -> None:
    async with ts.subscribe(MessageAdded) as events:
        async for event in events:
            assert_type(event, MessageAdded)
            assert_type(event.message, ChatMessage)
            assert_type(event.meta, EventMeta | None)


async def of_several_classes(ts: Turnstream) -> None:
    async with ts.subscribe(MessageAdded, ContextWindowCritical) as events:
        async for event in events:
            assert_type(event, MessageAdded | ContextWindowCritical)
            if isinstance(event, MessageAdded):
                assert_type(event.message.id, str)
            else:
                assert_type(event.crossed, bool)


async def of_the_four_classes_of_the_demo(ts: Turnstream) -> None:
    async for event in ts.subscribe(SessionCreated, MessageAdded, TokenMetricsUpdated, ContextWindowCritical):
        assert_type(event, SessionCreated | MessageAdded | TokenMetricsUpdated | ContextWindowCritical)


async def of_one_session(ts: Turnstream) -> None:
    async for event in ts.subscribe(MessageAdded, session_id="s"):
        assert_type(event, MessageAdded)


async def of_everything(ts: Turnstream) -> None:
    subscription = ts.subscribe()
    assert_type(subscription, EventSubscription[Event])
    async for event in subscription:
        assert_type(event, Event)
        if isinstance(event, MessageAdded):
            assert_type(event.message, ChatMessage)
