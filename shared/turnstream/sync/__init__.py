"""The client without asyncio: the same calls, for any number of threads (design §10).

    with Turnstream.connect("redis://localhost:6379") as ts:
        session = ts.execute(CreateSession(SessionConfig("openai", "gpt-4")))
        ticket = ts.send(AddMessage(session.id, user_message("Hello")))
        applied = ticket.result()

Every client has a thread with an event loop, in which a client of asyncio does the work; what is here hands calls over
to it. A fork does not copy that thread: open the client after the fork.
"""

from turnstream.sync.admin import Admin, MalformedAdmin, ParkedAdmin, WorkerAdmin
from turnstream.sync.client import Turnstream
from turnstream.sync.consumer import Consumer, ConsumerAdmin
from turnstream.sync.sessions import Sessions
from turnstream.sync.subscriptions import EventSubscription
from turnstream.sync.tickets import Ticket

__all__ = [
    "Admin",
    "Consumer",
    "ConsumerAdmin",
    "EventSubscription",
    "MalformedAdmin",
    "ParkedAdmin",
    "Sessions",
    "Ticket",
    "Turnstream",
    "WorkerAdmin",
]
