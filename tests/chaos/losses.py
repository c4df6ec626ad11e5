"""Faults that lose history: a disconnected replica is promoted, or everything is deleted."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from random import Random

from redis import Redis
from tests.chaos.faults import Fault, Loss
from tests.chaos.members import NAME, Members
from tests.chaos.outages import Failover, FlushScripts, swallowing
from tests.chaos.pair import Pair
from tests.chaos.proxy import Proxy
from tests.chaos.waits import until
from tests.chaos.witness import owner_in

from turnstream.adapters.redis.keys import Keys

NOTICED_WITHIN = 10.0
"""Seconds that the members of a subscription have to notice a loss before one of them may be hurt."""
GENERATION = "generation"


class Quiet:
    """A time in which no member is hurt: only one that lives knows what it has handled and what the server lost.

    Checkpoints go back together with the events, or away with them.
    """

    def __init__(self, pair: Pair, keys: Keys, members: Members) -> None:
        self._pair = pair
        self._keys = [(partition, partition.subscription(NAME)) for partition in keys.partitions]
        self._members = members

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[None]:
        """Begin when the members share all partitions, end when they have found what is left in each."""
        async with self._members.quiet:
            with suppress(TimeoutError):
                await until(self._is_shared, NOTICED_WITHIN)
            yield
            with suppress(TimeoutError):
                await until(self._is_noticed, NOTICED_WITHIN)
            # A former owner of a partition checks it once per lease.
            await asyncio.sleep(3 * self._members.lease)

    async def _is_shared(self) -> bool:
        with self._raw() as raw:
            owners = [owner_in(str(token)) if token else "" for token in raw.mget([of.lease for _, of in self._keys])]
        shares = [owners.count(member.name) for member in self._members.alive]
        return sum(shares) == len(owners) and min(shares) == len(owners) // len(shares)

    async def _is_noticed(self) -> bool:
        with self._raw() as raw:
            pairs = [(raw.hget(of.partition, GENERATION), raw.hget(mine.state, GENERATION)) for of, mine in self._keys]
        return all(there is not None and there == seen for there, seen in pairs)

    def _raw(self) -> Redis:
        return Redis.from_url(self._pair.url, protocol=2, decode_responses=True)


class LoseHistory(Failover):
    """A replica is cut off and promoted, and what the primary does until it dies is lost; a new replica is attached."""

    name = "primary killed, cut-off replica promoted"

    def __init__(self, pair: Pair, quiet: Quiet, chance: Random) -> None:
        super().__init__(chance)
        self._pair = pair
        self._quiet = quiet

    async def apply(self) -> None:
        async with self._quiet():
            await super().apply()

    async def begin(self) -> None:
        await asyncio.to_thread(self._pair.cut_off)

    async def promote(self) -> None:
        await self._pair.fail_over()


class FlushAll(Loss):
    """All data is deleted."""

    name = "everything flushed"

    def __init__(self, pair: Pair, quiet: Quiet) -> None:
        super().__init__()
        self._pair = pair
        self._quiet = quiet

    async def apply(self) -> None:
        async with self._quiet():
            with self.losing():
                await asyncio.to_thread(self._pair.flush)


def pair_faults(pair: Pair, ways: Mapping[str, Proxy], keys: Keys, members: Members, chance: Random) -> list[Fault]:
    """Return the faults of a pair of servers by which history is lost, and of the ways to it."""
    quiet = Quiet(pair, keys, members)
    faults: list[Fault] = [LoseHistory(pair, quiet, chance), FlushAll(pair, quiet), FlushScripts(lambda: [pair.url])]
    for way, proxy in ways.items():
        faults += swallowing([proxy], way)
    return faults
