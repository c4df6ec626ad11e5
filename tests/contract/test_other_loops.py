"""A client of asyncio belongs to one event loop and one process: in any other, every call says so at once."""

import asyncio
import inspect
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tests.contract.chats import CONFIG
from tests.contract.deployments import Deployment, client_of
from tests.contract.workers import worker_of
from tests.waiting import SOON

from turnstream import AddMessage, CreateSession, Position, Turnstream, user_message
from turnstream.adapters.embedded import EmbeddedServer
from turnstream.client.admin.consumers import ConsumerAdmin
from turnstream.client.admin.malformed_entries import MalformedAdmin
from turnstream.client.admin.parked_sessions import ParkedAdmin
from turnstream.client.admin.workers import WorkerAdmin
from turnstream.client.consumers.consumer import Consumer
from turnstream.client.sessions import Sessions
from turnstream.client.subscriptions.subscription import EventSubscription
from turnstream.commands import GetSession
from turnstream.errors import OpenedElsewhere

Call = Callable[[Turnstream], Awaitable[object]]

on_all = pytest.mark.parametrize("deployment", ["memory", "embedded", "cluster"], indirect=True)

ADD = AddMessage("s", user_message("Hello"))
NAMES = r"the event loop \S+ at 0x\w+ \((\w+)\)"
TOLD = rf"The client was opened in {NAMES}, and is used in {NAMES}: "


async def handled(_: object) -> None:
    raise AssertionError("nothing is handled in another event loop")


async def first(events: AsyncIterator[object]) -> object:
    return await anext(events)


CALLS: dict[str, Call] = {
    "Turnstream.send": lambda ts: ts.send(ADD),
    "Turnstream.send_many": lambda ts: ts.send_many([ADD]),
    "Turnstream.execute": lambda ts: ts.execute(ADD),
    "Turnstream.execute, a query": lambda ts: ts.execute(GetSession("s")),
    "Turnstream.dispatch": lambda ts: ts.dispatch(ADD),
    "Turnstream.verify": lambda ts: ts.verify("s"),
    "Turnstream.position": lambda ts: ts.position(),
    "Turnstream.aclose": lambda ts: ts.aclose(),
    "Sessions.get": lambda ts: ts.sessions.get("s"),
    "Sessions.messages": lambda ts: ts.sessions.messages("s"),
    "Sessions.page": lambda ts: ts.sessions.page(),
    "Sessions.list": lambda ts: first(ts.sessions.list()),
    "Sessions.exists": lambda ts: ts.sessions.exists("s"),
    "Sessions.count": lambda ts: ts.sessions.count(),
    "ParkedAdmin.list": lambda ts: first(ts.admin.parked.list()),
    "ParkedAdmin.show": lambda ts: first(ts.admin.parked.show("s")),
    "ParkedAdmin.redrive": lambda ts: ts.admin.parked.redrive("s"),
    "ParkedAdmin.discard": lambda ts: ts.admin.parked.discard("s"),
    "MalformedAdmin.list": lambda ts: first(ts.admin.malformed.list()),
    "MalformedAdmin.show": lambda ts: ts.admin.malformed.show("0:1-1"),
    "MalformedAdmin.redrive": lambda ts: ts.admin.malformed.redrive("0:1-1"),
    "MalformedAdmin.discard": lambda ts: ts.admin.malformed.discard("0:1-1"),
    "ConsumerAdmin.list": lambda ts: first(ts.admin.consumers.list()),
    "ConsumerAdmin.lag": lambda ts: first(ts.admin.consumers.lag("n")),
    "ConsumerAdmin.reset": lambda ts: ts.admin.consumers.reset("n", "now"),
    "ConsumerAdmin.parked": lambda ts: first(ts.admin.consumers.parked("n")),
    "ConsumerAdmin.redrive": lambda ts: ts.admin.consumers.redrive("n", "s"),
    "ConsumerAdmin.discard": lambda ts: ts.admin.consumers.discard("n", "s"),
    "ConsumerAdmin.forget": lambda ts: ts.admin.consumers.forget("n"),
    "WorkerAdmin.list": lambda ts: first(ts.admin.workers.list()),
    "EventSubscription.__aenter__": lambda ts: ts.subscribe().__aenter__(),
    "EventSubscription.__anext__": lambda ts: first(ts.subscribe()),
    "EventSubscription.ping": lambda ts: ts.subscribe().ping(),
    "EventSubscription.until": lambda ts: first(ts.subscribe().until(Position(()))),
    "EventSubscription.aclose": lambda ts: ts.subscribe().aclose(),
    "Consumer.run": lambda ts: ts.consumer("n").run(handled),
    "Consumer.aclose": lambda ts: ts.consumer("n").aclose(),
}


ADMIN = (ParkedAdmin, MalformedAdmin, ConsumerAdmin, WorkerAdmin)
MODULES = (Turnstream, Sessions, *ADMIN, EventSubscription, Consumer)


def test_every_call_is_tried() -> None:
    public = {
        f"{kind.__name__}.{name}"
        for kind in MODULES
        for name, call in inspect.getmembers(kind)
        if (inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call))
        and (not name.startswith("_") or name in {"__aenter__", "__anext__"})
    }
    assert public - {name.partition(",")[0] for name in CALLS} == set()


async def elsewhere(ts: Turnstream, call: Call) -> OpenedElsewhere:
    """Make a call in another event loop, and see that it fails before it waits for anything."""

    async def calling() -> OpenedElsewhere:
        work = call(ts).__await__()
        with pytest.raises(OpenedElsewhere) as failure:
            work.send(None)
        return failure.value

    return await asyncio.to_thread(asyncio.run, calling())


@on_all
@pytest.mark.parametrize("name", CALLS)
async def test_in_another_loop_it_is_said_at_once(ts: Turnstream, name: str) -> None:
    error = await elsewhere(ts, CALLS[name])
    assert re.match(TOLD, str(error))
    assert hex(id(asyncio.get_running_loop())) in error.opened_in
    assert hex(id(asyncio.get_running_loop())) not in error.used_in


@on_all
async def test_the_owning_loop_keeps_working(ts: Turnstream) -> None:
    await ts.execute(CreateSession(CONFIG, "s"))
    async with ts.subscribe() as events:
        for call in CALLS.values():
            await elsewhere(ts, call)
        assert (await ts.execute(ADD)).version == 2
        assert (await anext(events)).session_id == "s"


@on_all
async def test_a_ticket_is_waited_for_in_its_own_loop(deployment: Deployment) -> None:
    ts = await client_of(deployment, worker=False)
    ticket = await ts.send(CreateSession(CONFIG, "s"))

    async def waiting(_: Turnstream) -> object:
        return await ticket

    await elsewhere(ts, waiting)
    await worker_of(deployment)
    applied = await ticket
    # A known partition count is known everywhere.
    assert await asyncio.to_thread(asyncio.run, waiting(ts)) == applied


# ── after its loop was closed, and after a fork ──────────────────────────────────────────────────────────────────────


async def opened_in_memory() -> Turnstream:
    ts = await Turnstream.in_memory()
    await ts.execute(CreateSession(CONFIG, "s"))
    return ts


def test_after_its_loop_was_closed_it_is_said_at_once() -> None:
    ts = asyncio.run(opened_in_memory())

    async def all_of_them() -> set[str]:
        return {re.match(TOLD, str(await elsewhere(ts, call)))[1] for call in CALLS.values()}  # type: ignore[index]

    assert asyncio.run(all_of_them()) == {"closed"}


_FORKED = """
import asyncio, os, sys
from turnstream import AddMessage, CreateSession, SessionConfig, Turnstream, user_message
from turnstream.errors import OpenedElsewhere

def in_child(loop):
    try:
        loop.run_until_complete(ts.execute(AddMessage("s", user_message("from a child"))))
    except OpenedElsewhere as error:
        print(error, flush=True)
    os._exit(0)

async def opening():
    return await Turnstream.connect(sys.argv[1])

loop = asyncio.new_event_loop()
ts = loop.run_until_complete(opening())
for name in ("the loop of the parent", "a loop of its own"):
    if os.fork() == 0:
        in_child(loop if name == "the loop of the parent" else asyncio.new_event_loop())
    os.wait()
print(loop.run_until_complete(ts.sessions.count()))
loop.run_until_complete(ts.aclose())
"""


def test_after_a_fork_the_error_names_both_processes_and_the_parent_still_works(empty_server: EmbeddedServer) -> None:
    command = (sys.executable, "-W", "ignore", "-c", _FORKED, empty_server.url)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        first, second, count = process.communicate(timeout=SOON)[0].splitlines()
    told = rf"The client was opened in process {process.pid}, and is used in process (\d+): "
    assert re.match(told, first)
    assert re.match(told, second)
    assert count == "0"
