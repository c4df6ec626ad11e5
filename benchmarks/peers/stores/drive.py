"""Measure one session store: `python -m benchmarks.peers.stores.drive NAME --url redis://… [--quick]`.

Run from the repository's root by the Python of the contender's environment. Prints one line of JSON.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio import Redis

from benchmarks.peers.stores.contenders import CONTENDERS, Contender
from benchmarks.peers.stores.contract import CannotRunError, Store
from benchmarks.peers.stores.crowd import Shift, crowd
from benchmarks.peers.stores.sampling import Budget, appends, calls, far_read, figures, reads

LAST: Final = 20


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    lengths: tuple[int, ...] = (10, 100, 1_000, 10_000)
    far: int = 100_000
    budget: Budget = field(default_factory=Budget)
    shift: Shift = field(default_factory=Shift)


QUICK: Final = Size((10, 1_000), 10_000, Budget(20, 0.3), Shift(3, 1.0))


async def measure(name: str, url: str, size: Size) -> dict[str, Any]:
    """Return the figures of a contender, or why there are none."""
    contender = CONTENDERS[name]
    store = contender.make()
    report: dict[str, Any] = {"name": name, "notes": store.notes, "cuts": store.cuts, "not_run": None}
    try:
        await store.open(url)
    except CannotRunError as error:
        return {**report, "not_run": str(error)}
    try:
        return {**report, "ping": figures(await pings(url, size.budget)), **await everything(store, contender, size)}
    finally:
        await store.close()


async def everything(store: Store[Any, Any], contender: Contender, size: Size) -> dict[str, Any]:
    """Measure at each length, after a round that warms up and does not count."""
    await at_length(store, size.lengths[0], QUICK)
    lengths = {length: await at_length(store, length, size) for length in size.lengths}
    if contender.far:
        far = await far_read(store, size.far, LAST, size.budget)
        lengths[size.far] = {what: figures(times) for what, times in far.items()}
    return {"lengths": lengths}


async def at_length(store: Store[Any, Any], length: int, size: Size) -> dict[str, Any]:
    """Measure reads, appends of one writer and appends of many at one length of the session."""
    times = await reads(store, length, LAST, size.budget)
    times["append"] = await appends(store, length, size.budget)
    return {what: figures(taken) for what, taken in times.items()} | {"crowd": await crowd(store, length, size.shift)}


async def pings(url: str, budget: Budget) -> list[float]:
    """Measure a round trip by redis-py's own client, so that figures of different runs can be put in pings."""
    redis: Any
    async with Redis.from_url(url) as redis:  # pyright: ignore[reportUnknownMemberType]
        return await calls(redis.ping, budget)


def run(main: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Run on uvloop if it is installed; all environments have it, so that it favours no contender."""
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        return asyncio.run(main)
    ran: dict[str, Any] = uvloop.run(main)
    return ran


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("--url", required=True, help="the server, as redis://host:port")
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else Size()
    json.dump(run(measure(arguments.name, arguments.url, size)), sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
