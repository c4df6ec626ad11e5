"""The table of the sync client: the async class of each sync class, and the edits of its docstrings."""

from dataclasses import dataclass
from typing import NamedTuple

PACKAGE = "turnstream.sync"


class Edit(NamedTuple):
    """Replaces a text of a docstring, however its lines are broken."""

    old: str
    new: str


@dataclass(frozen=True)
class SyncClass:
    """A class to generate.

    Attributes:
        source: the module of the async class.
        name: the name of both classes.
        edits: changes to its docstrings; the generator refuses one that matches nothing.
        left_out: public methods that are for the async client's own use.

    """

    source: str
    name: str
    edits: tuple[Edit, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class SyncModule:
    """A module to generate, with its docstring and its classes."""

    name: str
    docstring: str
    classes: tuple[SyncClass, ...]


PACKAGE_DOCSTRING = """\
The client without asyncio: the same calls, for any number of threads (design §10).

    with Turnstream.connect("redis://localhost:6379") as ts:
        session = ts.execute(CreateSession(SessionConfig("openai", "gpt-4")))
        ticket = ts.send(AddMessage(session.id, user_message("Hello")))
        applied = ticket.result()

Each client has a thread with an event loop, in which an async client does the work. A fork does not copy that thread:
open the client after the fork.
"""

EDITS = (
    Edit("an async iterator", "an iterator"),
    Edit("An async iterator", "An iterator"),
    Edit("`async with", "`with"),
    Edit("`async for", "`for"),
    Edit("`await …run(handler)`", "`run(handler)`"),
    Edit("(await ts.position())", "(ts.position())"),
    Edit("each time that it is awaited,", "each time that its result is asked for,"),
    Edit("whose ticket or result was awaited", "whose result was returned"),
    Edit("whose result or ticket was awaited before", "whose result was returned before"),
    Edit("in this event loop", "in the thread of the client"),
    Edit("this is not the event loop of its client", "another process opened its client"),
    Edit("this is not its event loop; nothing is closed", "another process opened it; nothing is closed"),
)
"""For the docstrings of all classes; one that matches nothing is allowed."""

MODULES = (
    SyncModule(
        "tickets",
        "Tickets of the sync client.",
        (
            SyncClass(
                "turnstream.client.replies.ticket",
                "Ticket",
                edits=(
                    Edit(
                        "A queued command; await it, again and again if need be, to learn that it was applied.",
                        "A queued command; its `result`, which may be asked for repeatedly, says that it was applied.",
                    ),
                ),
            ),
        ),
    ),
    SyncModule(
        "subscriptions",
        "Subscriptions of the sync client.",
        (SyncClass("turnstream.client.subscriptions.subscription", "EventSubscription"),),
    ),
    SyncModule(
        "consumer",
        "Consumers of durable subscriptions of the sync client.",
        (
            SyncClass(
                "turnstream.client.consumers.consumer",
                "Consumer",
                edits=(
                    Edit("until it is stopped or cancelled", "until it is stopped"),
                    Edit("but concurrently for several sessions:", "but in threads for several sessions:"),
                ),
            ),
        ),
    ),
    SyncModule(
        "sessions",
        "The stored sessions, read by the sync client.",
        (SyncClass("turnstream.client.sessions", "Sessions"),),
    ),
    SyncModule(
        "admin",
        "`ts.admin` of the sync client: operations for operators.",
        (
            SyncClass("turnstream.client.admin.parked_sessions", "ParkedAdmin"),
            SyncClass("turnstream.client.admin.malformed_entries", "MalformedAdmin"),
            SyncClass("turnstream.client.admin.consumers", "ConsumerAdmin"),
            SyncClass("turnstream.client.admin.workers", "WorkerAdmin"),
            SyncClass("turnstream.client.admin.admin", "Admin"),
        ),
    ),
    SyncModule(
        "client",
        "`Turnstream` of the sync client.",
        (
            SyncClass(
                "turnstream.client.client",
                "Turnstream",
                edits=(
                    Edit(
                        "Every call raises `OpenedElsewhere` in another event loop than the one that opened it, and "
                        "after a fork.",
                        "Any thread may call it. Every call\nraises `OpenedElsewhere` after a fork.",
                    ),
                ),
            ),
        ),
    ),
)
