"""`ts.admin`: what operators see and change (design §4, §6)."""

from turnstream.client.admin.consumers import ConsumerAdmin
from turnstream.client.admin.malformed_entries import MalformedAdmin
from turnstream.client.admin.parked_sessions import ParkedAdmin
from turnstream.client.admin.workers import WorkerAdmin
from turnstream.client.guard import ClosableBackend
from turnstream.client.sessions import Executes


class Admin:
    """The operations of a deployment. Every list is an async iterator: `async for info in ts.admin.parked.list()`.

    Attributes:
        parked: the sessions whose next command cannot be applied, and their dead-letter queues.
        malformed: the quarantined entries of command streams.
        consumers: the durable subscriptions, their lag, and their parked and retried sessions.
        workers: the live workers.

    """

    def __init__(self, client: Executes, backend: ClosableBackend) -> None:
        """Operate on the deployment of a client, which sends the commands to the owners of the partitions."""
        self.parked = ParkedAdmin(client, backend.quarantine, backend.partitions)
        self.malformed = MalformedAdmin(backend.quarantine, backend.partitions)
        self.consumers = ConsumerAdmin(backend)
        self.workers = WorkerAdmin(backend.ownership)
