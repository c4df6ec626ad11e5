"""The sync client does what the async one does, works for many threads, and closes cleanly."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, assert_type, cast

import pytest
from tests.builders import CONFIG
from tests.contract.chats import id_in
from tests.waiting import SOON

from turnstream import (
    AddMessage,
    AddMessages,
    Applied,
    ChatMessage,
    CommandTimeout,
    CreateSession,
    DeleteSession,
    NotHandled,
    Position,
    RemoveMessages,
    ResyncRequired,
    RetryPolicy,
    Session,
    SessionNotFound,
    SessionPage,
    Settings,
    Trace,
    Unavailable,
    UpdateMessage,
    UpdateSession,
    sync,
    user_message,
)
from turnstream.adapters.embedded import start_embedded_server
from turnstream.admin import QueueProgress
from turnstream.commands import (
    ChatMessagePatch,
    GetSession,
    ListSessions,
    RemovedMessage,
    SessionConfigPatch,
    SessionPatch,
)
from turnstream.domain.command_specs import HANDLERS
from turnstream.domain.position import LogPosition
from turnstream.errors import CommandParked, SessionNotParked
from turnstream.events import Event, MessageAdded, SessionCreated
from turnstream.sync import handler_threads
from turnstream.sync.facade import ITEMS_PER_CALL
from turnstream.worker import partition_leases

PARTITIONS = 8
"""Few of them: the tested behaviour does not depend on their number."""


@pytest.fixture(params=["in_memory", "embedded"])
def ts(request: pytest.FixtureRequest) -> Generator[sync.Turnstream]:
    open_client = getattr(sync.Turnstream, request.param)
    with open_client(settings=Settings(partitions=PARTITIONS)) as client:
        yield client


@pytest.fixture
def workerless() -> Generator[sync.Turnstream]:
    """A client of a server without a worker."""
    with (
        start_embedded_server() as server,
        sync.Turnstream.connect(server.url, settings=Settings(partitions=PARTITIONS)) as client,
    ):
        yield client


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.005)


def texts(messages: tuple[ChatMessage, ...]) -> list[str]:
    return [str(getattr(message.content[0], "text", "")) for message in messages]


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "turnstream"]


# ── commands ──


def test_execute_returns_the_commands_own_result(ts: sync.Turnstream) -> None:
    session = ts.execute(CreateSession(CONFIG))
    assert_type(session, Session)
    message = user_message("Hello")
    session = ts.execute(AddMessages(session.id, [message, user_message("again")]))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert texts(session.messages) == ["Hello", "again"]
    found = ts.execute(GetSession(session.id))
    assert_type(found, Session | None)
    assert found == session
    page = ts.execute(ListSessions())
    assert_type(page, SessionPage)
    assert [info.id for info in page.sessions] == [session.id]
    removed = ts.execute(RemoveMessages(session.id, message_ids=(message.id,)))
    assert_type(removed, tuple[ChatMessage | RemovedMessage, ...])
    assert removed == (message,)
    deleted = ts.execute(DeleteSession(session.id))
    assert_type(deleted, bool)
    assert deleted


def test_a_ticket_gives_its_result_again_and_again(ts: sync.Turnstream) -> None:
    ticket = ts.send(CreateSession(CONFIG, "chat"), command_id="first", trace=Trace(correlation_id="request-1"))
    assert (ticket.command_id, ticket.session_id) == ("first", "chat")
    assert ticket.result() == ticket.result(timeout=5) == Applied("chat", 1)
    assert "first" in repr(ticket)


def test_a_rejection_is_raised_by_the_ticket_and_returned_by_dispatch(ts: sync.Turnstream) -> None:
    command = AddMessage("nowhere", user_message("Hello?"))
    with pytest.raises(SessionNotFound) as rejection:
        ts.send(command).result()
    result = ts.dispatch(command)
    assert (result.success, result.error) == (False, str(rejection.value))


def test_send_many_runs_the_callers_iterable_in_the_callers_thread(ts: sync.Turnstream) -> None:
    def commands() -> Iterator[AddMessage]:
        session = ts.execute(CreateSession(CONFIG, "chat"))
        yield from (AddMessage(session.id, user_message(str(n))) for n in range(20))

    tickets = ts.send_many(commands())
    assert [ticket.result().version for ticket in tickets] == list(range(2, 22))


def test_a_result_is_waited_for_as_long_as_is_said_there(workerless: sync.Turnstream) -> None:
    ticket = workerless.send(CreateSession(CONFIG), timeout=10 * SOON)
    with pytest.raises(CommandTimeout) as timeout:
        ticket.result(timeout=0.2)
    assert timeout.value.command_id == ticket.command_id
    assert 0.2 <= timeout.value.timeout < SOON


def test_without_a_timeout_the_ticket_waits_as_long_as_the_send(workerless: sync.Turnstream) -> None:
    workerless.send(CreateSession(CONFIG))
    ticket = workerless.send(CreateSession(CONFIG), timeout=1)
    with pytest.raises(CommandTimeout) as timeout:
        ticket.result()
    assert 1 <= timeout.value.timeout < SOON


# ── sessions ──


def test_sessions_are_read_and_written(ts: sync.Turnstream) -> None:
    session = ts.execute(CreateSession(CONFIG, "chat", metadata={"team": "blue"}))
    message = user_message("Helo")
    ts.execute(AddMessage("chat", message))
    ts.execute(UpdateMessage("chat", message.id, updates=ChatMessagePatch(content=user_message("Hello").content)))
    ts.execute(AddMessage("chat", user_message("again")))
    session = ts.execute(UpdateSession("chat", SessionPatch(config=SessionConfigPatch(temperature=0.5))))
    assert ts.sessions.get("chat") == session
    assert session.metadata == {"team": "blue"}
    assert texts(ts.sessions.messages("chat", last=5)) == ["Hello", "again"]
    assert texts(ts.sessions.messages("chat", after=message.id, limit=1)) == ["again"]
    assert ts.sessions.exists("chat")
    assert [info.message_count for info in ts.sessions.page(provider="openai").sessions] == [2]
    assert ts.execute(DeleteSession("chat"))
    assert not ts.sessions.exists("chat")
    assert ts.sessions.get("chat") is None
    with pytest.raises(SessionNotFound):
        ts.sessions.messages("chat")


def test_iterate_sees_every_session_once(ts: sync.Turnstream) -> None:
    count = ITEMS_PER_CALL * 2 + 3
    tickets = ts.send_many(CreateSession(CONFIG, f"chat-{n}") for n in range(count))
    for ticket in tickets:
        ticket.result()
    assert ts.sessions.count() == count
    assert sorted(info.id for info in ts.sessions.list()) == sorted(f"chat-{n}" for n in range(count))
    assert len(list(islice(ts.sessions.list(), 2))) == 2


# ── threads ──


def test_many_threads_send_at_once_and_each_keeps_its_order(ts: sync.Turnstream) -> None:
    threads, messages = 12, 25

    def write(number: int) -> None:
        session = ts.execute(CreateSession(CONFIG, f"chat-{number}"))
        tickets = [ts.send(AddMessage(session.id, user_message(f"{number}.{n}"))) for n in range(messages)]
        assert tickets[-1].result().version == messages + 1

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, range(threads)))
    for number in range(threads):
        stored = ts.sessions.messages(f"chat-{number}")
        assert texts(stored) == [f"{number}.{n}" for n in range(messages)]


def test_many_threads_write_to_one_session(ts: sync.Turnstream) -> None:
    ts.execute(CreateSession(CONFIG, "chat"))

    def write(number: int) -> int:
        return ts.execute(AddMessage("chat", user_message(str(number)))).version

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(write, range(80))) == 81
    assert sorted(texts(ts.sessions.messages("chat")), key=int) == [str(n) for n in range(80)]


# ── events ──


def test_events_are_iterated_while_another_thread_writes(ts: sync.Turnstream) -> None:
    def write() -> None:
        ts.execute(CreateSession(CONFIG, "chat"))
        for ticket in ts.send_many(AddMessage("chat", user_message(str(n))) for n in range(50)):
            ticket.result()

    with ts.subscribe(SessionCreated, MessageAdded, session_id="chat") as events, ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        created = next(events)
        assert isinstance(created, SessionCreated)
        added = list(islice(events, 50))
        writing.result()
    assert texts(tuple(event.message for event in added if isinstance(event, MessageAdded))) == [
        str(n) for n in range(50)
    ]
    assert list(events) == []


def test_a_subscription_is_typed_by_its_classes(ts: sync.Turnstream) -> None:
    with ts.subscribe(SessionCreated) as events:
        assert_type(events, sync.EventSubscription[SessionCreated])
        ts.execute(CreateSession(CONFIG, "chat"))
        for event in events:
            assert isinstance(event, SessionCreated)
            assert event.session.id == "chat"
            break


def test_a_subscription_starts_where_the_last_one_was(ts: sync.Turnstream) -> None:
    everything = ts.position()
    for name in "ab":
        ts.execute(CreateSession(CONFIG, name))
    with ts.subscribe(SessionCreated, start="beginning") as events:
        assert {_id_of(event) for event in islice(events, 2)} == {"a", "b"}
    with ts.subscribe(SessionCreated, start=everything) as events:
        first = _id_of(next(events))
        stored = str(events.position)
    with ts.subscribe(SessionCreated, start=everything) as events:
        assert {_id_of(event) for event in events.until(ts.position())} == {"a", "b"}
    with ts.subscribe(SessionCreated, start=Position.parse(stored)) as events:
        assert {first, _id_of(next(events))} == {"a", "b"}


def test_a_subscription_is_notified_of_lost_events(ts: sync.Turnstream) -> None:
    with ts.subscribe(start=Position((LogPosition("elsewhere", 5),) * PARTITIONS)) as events:
        told = list(islice(events, PARTITIONS))
        assert {gone.reason for gone in told if isinstance(gone, ResyncRequired)} == {"reset"}
        assert len(told) == PARTITIONS
        ts.execute(CreateSession(CONFIG, "chat"))
        assert _id_of(next(events)) == "chat"
    with pytest.raises(ValueError, match="partitions"):
        ts.subscribe(start=Position.parse("g:1"))


def _id_of(event: Event | ResyncRequired) -> str:
    assert isinstance(event, Event)
    return event.session_id


def test_a_bare_iteration_listens_from_its_first_step_on(ts: sync.Turnstream) -> None:
    events = ts.subscribe(SessionCreated)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, events)
        number = 0
        while not first.done():  # it is not known when the other thread has taken its first step
            number += 1
            ts.execute(CreateSession(CONFIG, f"chat-{number}"))
        created = first.result()
        assert isinstance(created, SessionCreated)
        assert created.session.id.startswith("chat-")
    events.close()
    events.close()


@pytest.mark.parametrize("what", ["subscription", "client"])
def test_a_close_ends_an_iteration_that_waits(ts: sync.Turnstream, what: str) -> None:
    waiting = threading.Event()

    def listen(events: Iterator[MessageAdded | ResyncRequired]) -> list[MessageAdded]:
        seen: list[MessageAdded] = []
        for event in events:
            assert isinstance(event, MessageAdded)
            seen.append(event)
            waiting.set()
        return seen

    ts.execute(CreateSession(CONFIG, "chat"))
    with ThreadPoolExecutor(1) as pool, ts.subscribe(MessageAdded) as events:
        listening = pool.submit(listen, events)
        ts.execute(AddMessage("chat", user_message("Hello")))
        waiting.wait(10)
        (events if what == "subscription" else ts).close()
        assert texts(tuple(event.message for event in listening.result(10))) == ["Hello"]


def test_a_close_of_a_connected_client_ends_an_iteration_that_waits(workerless: sync.Turnstream) -> None:
    with ThreadPoolExecutor(1) as pool, workerless.subscribe() as events:
        listening = pool.submit(list, events)
        wait_until(listening.running)
        workerless.close()
        assert listening.result(10) == []


def test_a_lost_server_is_waited_for_and_not_taken_for_the_end() -> None:
    settings = Settings(partitions=PARTITIONS)
    with (
        start_embedded_server() as server,
        sync.Turnstream.connect(server.url, settings=settings) as ts,
        ts.subscribe() as events,
    ):
        assert_type(events, sync.EventSubscription[Event])
        os.kill(server.pid, signal.SIGKILL)
        with ThreadPoolExecutor(1) as pool:
            listening = pool.submit(list, events)
            with pytest.raises(TimeoutError):
                listening.result(0.5)
            events.close()
            assert listening.result(10) == []


# ── closing ──


def test_close_ends_the_thread_and_may_be_called_again(ts: sync.Turnstream) -> None:
    mine = [thread for thread in loop_threads() if thread is ts._portal._thread]
    assert len(mine) == 1
    ts.close()
    ts.close()
    assert not mine[0].is_alive()


def test_a_class_that_is_no_event_is_refused(ts: sync.Turnstream) -> None:
    wrong: Any = "message-added"
    with pytest.raises(ValueError, match="not a class of events"):
        ts.subscribe(wrong)
    with pytest.raises(ValueError, match="not a class of events"):
        ts.consumer("billing", wrong)


def test_a_closed_client_says_so(ts: sync.Turnstream) -> None:
    ticket = ts.send(CreateSession(CONFIG, "chat"))
    ticket.result()
    events = ts.subscribe()
    ts.close()
    calls: list[Callable[[], object]] = [
        lambda: ts.execute(CreateSession(CONFIG)),
        lambda: ts.send_many([]),
        ts.sessions.count,
        ticket.result,
        events.__enter__,
        ts.subscribe,
        lambda: ts.consumer("billing"),
        lambda: list(ts.sessions.list()),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="The client is closed") as raised:
            call()
        assert isinstance(raised.value, Unavailable)
    assert list(events) == []


def test_a_caller_waiting_for_a_result_learns_that_the_client_was_closed(workerless: sync.Turnstream) -> None:
    ticket = workerless.send(CreateSession(CONFIG))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ticket.result)
        wait_until(waiting.running)
        workerless.close()
        with pytest.raises((Unavailable, RuntimeError), match="closed"):
            waiting.result(10)


def test_several_threads_close_at_once(ts: sync.Turnstream) -> None:
    with ThreadPoolExecutor(4) as pool:
        for closing in [pool.submit(ts.close) for _ in range(4)]:
            closing.result(10)
    assert not ts._portal._thread.is_alive()


def test_a_failed_opening_leaves_no_thread() -> None:
    before = loop_threads()
    with pytest.raises(Unavailable, match="No server answers"):
        sync.Turnstream.connect("redis://127.0.0.1:1")
    assert loop_threads() == before


def test_its_own_thread_cannot_wait_for_itself(ts: sync.Turnstream) -> None:
    async def call_from_inside() -> None:
        with pytest.raises(RuntimeError, match="wait for itself"):
            ts.sessions.count()
        with pytest.raises(RuntimeError, match="wait for itself"):
            ts.close()

    ts._portal.call(call_from_inside())
    assert ts.sessions.count() == 0


async def test_it_works_below_another_event_loop() -> None:
    with sync.Turnstream.in_memory() as ts:
        assert ts.execute(CreateSession(CONFIG)).version == 1


def test_data_in_a_directory_is_there_again(tmp_path: Path) -> None:
    with sync.Turnstream.embedded(tmp_path / "data") as ts:
        ts.execute(CreateSession(CONFIG, "chat"))
    with sync.Turnstream.embedded(tmp_path / "data") as ts:
        assert ts.sessions.exists("chat")


# ── processes ──

_PROLOGUE = """
import os, sys
from turnstream import CreateSession, SessionConfig
from turnstream.sync import Turnstream
CONFIG = SessionConfig("openai", "gpt-4")
"""

_INTERRUPTED = """
with Turnstream.in_memory() as ts, ts.subscribe() as events:
    try:
        print("ready", flush=True)
        next(events)
    except KeyboardInterrupt:
        print(ts.execute(CreateSession(CONFIG)).version, next(events).type)
"""

_FORKED = """
with Turnstream.in_memory() as ts:
    sys.stdout.flush()
    if child := os.fork():
        os.waitpid(child, 0)
        print(ts.execute(CreateSession(CONFIG)).version)
    else:
        try:
            ts.execute(CreateSession(CONFIG))
        except RuntimeError as error:
            print(error, flush=True)
"""

_LEFT_OPEN = """
ts = Turnstream.embedded()
print(ts.execute(CreateSession(CONFIG)).version)
"""


_AT_EXIT = """
import atexit
ts = Turnstream.embedded()
atexit.register(print, "closed", flush=True)
atexit.register(ts.close)
print(ts._target._settings.redis_url.get_secret_value(), flush=True)
"""


def start(script: str) -> subprocess.Popen[str]:
    command = (sys.executable, "-W", "ignore::DeprecationWarning", "-c", _PROLOGUE + script)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_ctrl_c_ends_a_wait_and_the_client_stays_usable() -> None:
    with start(_INTERRUPTED) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=SOON)[0] == "1 session-created\n"
    assert process.returncode == 0


def test_after_a_fork_the_child_gets_an_error_and_the_parent_still_works() -> None:
    with start(_FORKED) as process:
        output = process.communicate(timeout=SOON)[0]
    told = re.fullmatch(r"The client was opened in process (\d+), and is used in process (\d+): .*\n1\n", output)
    assert told
    assert told[1] == str(process.pid) != told[2]
    assert process.returncode == 0


def test_a_client_that_is_left_open_does_not_keep_its_process() -> None:
    with start(_LEFT_OPEN) as process:
        assert process.communicate(timeout=SOON)[0] == "1\n"
    assert process.returncode == 0


def test_a_client_is_closed_as_its_process_ends() -> None:
    """No server is left, and `close` itself has ended it: the process ends with the next statement."""
    with start(_AT_EXIT) as process:
        url, closed = process.communicate(timeout=30)[0].splitlines()
    assert closed == "closed"
    assert process.returncode == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))


# ── what could not be applied ──


def test_an_operator_needs_no_event_loop(ts: sync.Turnstream, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(*_: object) -> None:
        raise ZeroDivisionError

    session = ts.execute(CreateSession(CONFIG))
    with monkeypatch.context() as bug:
        bug.setitem(cast("dict[Any, Any]", HANDLERS), AddMessages, buggy)
        with pytest.raises(CommandParked):
            ts.execute(AddMessages(session.id, (user_message("Hello"),)))
        with pytest.raises(CommandParked):
            ts.execute(DeleteSession(session.id))
    assert [info.commands for info in ts.admin.parked.list()] == [2]
    assert [waiting.type for waiting in ts.admin.parked.show(session.id)] == ["add-messages", "delete-session"]
    assert ts.admin.parked.discard(session.id) == QueueProgress(done=1, left=1)
    assert ts.admin.parked.redrive(session.id) == QueueProgress(done=1, left=0)
    assert ts.sessions.count() == 0
    assert list(ts.admin.malformed.list()) == []
    assert ts.admin.malformed.show("0:1-0") is None
    assert not ts.admin.malformed.redrive("0:1-0")
    assert not ts.admin.malformed.discard("0:1-0")


def test_a_durable_subscription_handles_in_threads(ts: sync.Turnstream) -> None:
    seen: list[int] = []
    subscription = ts.consumer("billing", MessageAdded, start="beginning")

    def handle(event: MessageAdded | ResyncRequired) -> None:
        assert isinstance(event, MessageAdded)
        assert threading.current_thread() is not threading.main_thread()
        seen.append(event.version)
        if len(seen) == 20:
            subscription.stop()

    ts.execute(CreateSession(CONFIG, "chat"))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(subscription.run, handle)
        for ticket in ts.send_many(AddMessage("chat", user_message(str(n))) for n in range(20)):
            ticket.result()
        running.result(10)
    assert seen == list(range(2, 22))
    assert [(info.name, info.lag) for info in ts.admin.consumers.list()] == [("billing", 0)]
    assert sum(lag.behind for lag in ts.admin.consumers.lag("billing")) == 0
    ts.admin.consumers.reset("billing", "beginning")
    assert list(ts.admin.consumers.parked("billing")) == []
    for ask in (ts.admin.consumers.redrive, ts.admin.consumers.discard):
        with pytest.raises(SessionNotParked, match="billing has not parked the session chat"):
            ask("billing", "chat")
    ts.admin.consumers.forget("billing")
    assert ts.position() == ts.position()


def test_an_event_still_handled_by_a_thread_is_not_delivered_elsewhere(
    ts: sync.Turnstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread cannot be stopped, so the partition is handed over when it has returned, however long that takes."""
    monkeypatch.setattr(partition_leases, "HANDOVER_S", 0.1)
    begun, overlapping, goes_on = threading.Event(), threading.Event(), threading.Event()
    handled: list[str] = []

    def handle(name: str) -> None:
        (overlapping if begun.is_set() and not goes_on.is_set() else begun).set()
        goes_on.wait()
        handled.append(name)

    first, second = ts.consumer("billing", start="beginning"), ts.consumer("billing")
    ts.execute(CreateSession(CONFIG, "chat"))
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(first.run, lambda _: handle("first"))]
        try:
            assert begun.wait(10)
            running.append(pool.submit(second.run, lambda _: handle("second")))
            first.stop()
            wait_until(lambda: "partition cut short" in caplog.text)
            assert not overlapping.wait(1)
            goes_on.set()
            wait_until(lambda: handled == ["first", "second"])
        finally:
            goes_on.set()
            second.stop()
        for each in running:
            each.result(10)


def test_an_event_waiting_for_a_thread_is_not_begun_after_its_partition_was_revoked(
    ts: sync.Turnstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(partition_leases, "HANDOVER_S", 0.1)
    threads = ThreadPoolExecutor(1)

    def the_same(*_: object) -> ThreadPoolExecutor:
        return threads

    monkeypatch.setattr(handler_threads, "ThreadPoolExecutor", the_same)
    goes_on = threading.Event()
    begun: list[str] = []

    def handle(event: Event | ResyncRequired) -> None:
        begun.append(event.type)
        goes_on.wait(10)

    for partition in range(2):
        ts.execute(CreateSession(CONFIG, id_in(partition, PARTITIONS)))
    subscription = ts.consumer("billing", start="beginning")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(subscription.run, handle)
        try:
            wait_until(lambda: len(begun) == 1 and threads._work_queue.qsize() == 1)
            subscription.stop()
            wait_until(lambda: caplog.text.count("partition cut short") == 2)
            ts._portal.call(asyncio.sleep(0))  # after the cancelled one
        finally:
            goes_on.set()
        running.result(10)
    assert len(begun) == 1


def test_closing_ends_a_durable_subscription_that_runs_in_another_thread(ts: sync.Turnstream) -> None:
    subscription = ts.consumer("billing", start="beginning")
    begun, goes_on = threading.Event(), threading.Event()
    handled: list[str] = []

    def handle(event: Event | ResyncRequired) -> None:
        begun.set()
        assert goes_on.wait(10)
        handled.append(event.type)

    ts.execute(CreateSession(CONFIG, "chat"))
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(subscription.run, handle)
        assert begun.wait(10)
        closing = pool.submit(ts.close)
        wait_until(lambda: ts._portal.closed)
        assert not closing.done()
        goes_on.set()
        closing.result(10)
        running.result(10)
    assert handled == ["session-created"]


def test_a_handler_may_close_the_client(ts: sync.Turnstream) -> None:
    subscription = ts.consumer("billing", start="beginning")
    ts.execute(CreateSession(CONFIG, "chat"))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(subscription.run, lambda _: ts.close()).exception(10)
    ts.close()


def test_a_handler_may_close_its_consumer(ts: sync.Turnstream) -> None:
    consumer = ts.consumer("billing", start="beginning")
    assert consumer.name == "billing"
    ts.execute(CreateSession(CONFIG, "chat"))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(consumer.run, lambda _: consumer.close()).result(10)
    assert [info.lag for info in ts.admin.consumers.list()] == [0]
    with pytest.raises(Unavailable, match="closed"):
        consumer.run(lambda _: None)
    ts.close()
    consumer.close()


def test_parked_sessions_are_hastened_by_any_thread(ts: sync.Turnstream) -> None:
    policy = RetryPolicy(attempts=1, parked_every=600)
    consumer = ts.consumer("billing", start="beginning", attempts=policy)
    tries: list[str] = []

    def handle(event: Event | ResyncRequired) -> None:
        tries.append(event.type)
        if len(tries) == 1:
            raise NotHandled("later")

    def is_tried_again() -> bool:
        consumer.hasten()
        return len(tries) == 2

    ts.execute(CreateSession(CONFIG, "chat"))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(consumer.run, handle)
        try:
            wait_until(is_tried_again)
        finally:
            consumer.close()
        running.result(10)
