"""The cluster of a run: primaries of it are killed and slots moved, and it is known at each moment who holds what."""

from collections.abc import Sequence
from random import Random

from redis.crc import key_slot
from tests.topologies import PRIMARIES, SLOTS, RunningCluster, copied, slot_on_its_way


class ChaosCluster:
    """Three shards, each with a primary and a replica."""

    def __init__(self, running: RunningCluster) -> None:
        self.running = running
        self._shards = [(node, running.replica_of(node)) for node in running.nodes[:PRIMARIES]]
        self._moved: dict[int, int] = {}

    def fail_over(self, chance: Random) -> None:
        """Kill a primary as it is, with whatever its replica does not have, and promote that."""
        number = chance.randrange(PRIMARIES)
        primary, replica = self._shards[number]
        self._shards[number] = (replica, self.running.fail_over(primary, replica))

    def move_slot(self, keys: Sequence[str], chance: Random) -> None:
        """Move the slot of one of some keys to another primary."""
        key = chance.choice(keys)
        slot = key_slot(key.encode())
        source = self._moved.get(slot, slot * PRIMARIES // SLOTS)
        target, third = chance.sample([number for number in range(PRIMARIES) if number != source], 2)
        primaries = [primary for primary, _ in self._shards]
        with slot_on_its_way(key, primaries[source], primaries[target], [primaries[third]]) as move:
            move()
        self._moved[slot] = target
        # `MIGRATE` waits for no replica: who moves slots waits before the next primary may be lost.
        copied(*self._shards[target])
