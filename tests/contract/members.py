"""Members of durable subscriptions for tests: a handler that refuses events on request, and a member's end."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.waiting import SOON

from turnstream import Consumer, ResyncRequired
from turnstream.events import Event

PARTITIONS = 4


class Handler:
    """Records events; refuses them on request."""

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self.resyncs: list[ResyncRequired] = []
        self.refused: set[str] = set()
        self.refusals = Counter[str]()

    async def __call__(self, event: Event | ResyncRequired) -> None:
        if isinstance(event, ResyncRequired):
            self.resyncs.append(event)
            return
        if event.session_id in self.refused:
            self.refusals[event.session_id] += 1
            raise ConnectionError("a secret that must not be logged")
        self.seen.append(event)

    def versions(self, session_id: str) -> list[int]:
        return [event.version for event in self.seen if event.session_id == session_id]


@asynccontextmanager
async def running(
    subscription: Consumer[Any], handler: Callable[[Event | ResyncRequired], Awaitable[None]]
) -> AsyncGenerator[None]:
    """Run a member for a while, and end it as a program would."""
    task = asyncio.create_task(subscription.run(handler))
    try:
        yield
        assert not task.done(), task
    finally:
        subscription.stop()
        await asyncio.wait_for(task, SOON)


async def killed(subscription: Consumer[Any], task: "asyncio.Task[None]") -> None:
    """End a member as if its process was killed: nothing is written down, nothing given up."""

    async def nothing() -> None:
        pass

    member = subscription._member
    assert member is not None
    member._leave = nothing  # type: ignore[method-assign]
    works = list(member._leases._tasks.values())
    for work in works:
        work.cancel()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def started(subscription: Consumer[Any]) -> bool:
    member = subscription._member
    return member is not None and len(member.owned) == PARTITIONS and all(c.progress for c in member.owned.values())
