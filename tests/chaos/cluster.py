"""The cluster of a run: it kills primaries, moves slots, and knows the owner of each slot."""

import asyncio
import signal
from collections.abc import Sequence
from random import Random

from redis.crc import key_slot
from tests.chaos.waits import until
from tests.topologies import PRIMARIES, SLOTS, RunningCluster, copied, slot_on_its_way


class ChaosCluster:
    """Three shards, each with a primary and a replica."""

    def __init__(self, running: RunningCluster) -> None:
        self.running = running
        self._shards = [(node, running.replica_of(node)) for node in running.nodes[:PRIMARIES]]
        self._moved: dict[int, int] = {}

    @staticmethod
    def chosen(chance: Random) -> int:
        """Choose a shard."""
        return chance.randrange(PRIMARIES)

    def pause_replica(self, shard: int) -> None:
        """Pause the replica of a shard, so that it confirms nothing, until its primary is dead."""
        self._shards[shard][1].process.server.send_signal(signal.SIGSTOP)

    async def fail_over(self, shard: int) -> None:
        """Kill a primary, whatever its replica still lacks, and promote the replica."""
        primary, replica = self._shards[shard]
        failing = asyncio.ensure_future(asyncio.to_thread(self.running.fail_over, primary, replica))

        async def killed() -> bool:
            return failing.done() or not primary.running

        await until(killed)
        replica.process.server.send_signal(signal.SIGCONT)
        self._shards[shard] = (replica, await failing)

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
        # `MIGRATE` does not wait for a replica, so this does, before the next primary may be lost.
        copied(*self._shards[target])
