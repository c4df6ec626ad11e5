"""`ts.admin.workers`: the live workers of a deployment (design §5)."""

from collections import Counter
from collections.abc import AsyncIterator

from turnstream.domain.models import Entity
from turnstream.ports import Ownership


class WorkerInfo(Entity, frozen=True, kw_only=True):
    """A live worker.

    `name` is its `TURNSTREAM_WORKER_ID`, or its host and process id, joined by a hyphen; `id` is the name and a random
    part, new with each start. `partitions` is the number of partitions that it owns, and `last_heartbeat` the seconds
    since its last sign of life, by the server's clock.
    """

    id: str
    name: str
    partitions: int
    last_heartbeat: float


class WorkerAdmin:
    """The workers of a deployment."""

    def __init__(self, ownership: Ownership) -> None:
        """Read the registry of the workers and the leases of the partitions."""
        self._ownership = ownership

    async def list(self) -> AsyncIterator[WorkerInfo]:
        """Yield the live workers, by id: those that gave a sign of life within the lease time.

        Raises:
            StoredDataInvalid: an unexpected value is stored at a key of the registry or at a lease.
            Unavailable: the server does not answer.

        """
        condition = await self._ownership.condition(0)
        owned = Counter((await self._ownership.owners()).values())
        for worker_id, age in sorted(condition.workers.items()):
            if age <= condition.lease:
                name = worker_id.rpartition(":")[0]
                yield WorkerInfo(id=worker_id, name=name, partitions=owned[worker_id], last_heartbeat=age)
