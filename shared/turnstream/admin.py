"""The classes of `ts.admin`, of what it lists, and of the result of `ts.verify`.

Example:
    async for info in ts.admin.parked.list():
        print(info.session_id, info.commands, info.error)

"""

from turnstream.application.queries.comparison import Difference
from turnstream.application.queries.verifier import Verification
from turnstream.client.admin.admin import Admin
from turnstream.client.admin.consumers import ConsumerAdmin, ParkedSession, PartitionLag, SubscriptionInfo
from turnstream.client.admin.malformed_entries import MalformedAdmin, MalformedInfo
from turnstream.client.admin.parked_sessions import ParkedAdmin, ParkedInfo, WaitingCommand
from turnstream.client.admin.workers import WorkerAdmin, WorkerInfo
from turnstream.domain.commands import QueueProgress

__all__ = [
    "Admin",
    "ConsumerAdmin",
    "Difference",
    "MalformedAdmin",
    "MalformedInfo",
    "ParkedAdmin",
    "ParkedInfo",
    "ParkedSession",
    "PartitionLag",
    "QueueProgress",
    "SubscriptionInfo",
    "Verification",
    "WaitingCommand",
    "WorkerAdmin",
    "WorkerInfo",
]
