"""The share of each worker, which every worker computes from the live ones: there is no leader (design §5)."""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b


def assigned(worker: str, alive: Iterable[str], partitions: int) -> set[int]:
    """Return the partitions of one worker.

    Rendezvous hashing, so that few partitions move when a worker comes or goes, capped at the ceiling of an equal
    share, so that none gets much more than the others.

    A worker's place comes from its instance, so one that is started again gets what it had before.

    Args:
        worker: the worker's id, `<instance>:<random>`; it counts as alive in any case.
        alive: the ids of all live workers.
        partitions: how many partitions there are.

    """
    workers = sorted({worker, *alive})
    room = dict.fromkeys(workers, -(-partitions // len(workers)))
    own: set[int] = set()
    for partition in range(partitions):
        owner = max((w for w in workers if room[w]), key=lambda w: _weight(w, partition))
        room[owner] -= 1
        if owner == worker:
            own.add(partition)
    return own


@lru_cache(maxsize=65_536)
def _weight(worker: str, partition: int) -> bytes:
    instance = worker.rpartition(":")[0] or worker
    return blake2b(f"{instance}:{partition}".encode(), digest_size=8).digest()
