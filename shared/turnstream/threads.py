"""Threads for what blocks: of the library's own, because a program's work may fill the executor of its event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Value = TypeVar("Value")


async def in_own_thread(work: Callable[[], Value]) -> Value:
    """Run a function in a separate thread and return its result; a cancelled call does not wait for its end.

    The thread keeps no process from ending. For what is rare: each call starts a thread.
    """
    future = Future[Value]()

    def run() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
                future.set_exception(error)

    try:
        Thread(target=run, name="turnstream-call", daemon=True).start()
    except RuntimeError:
        # The interpreter ends: no thread begins any more, and nothing else is left for this one to do.
        return work()
    return await asyncio.wrap_future(future)
