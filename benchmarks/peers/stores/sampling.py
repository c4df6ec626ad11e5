"""How one writer and one reader are measured: call after call, until there are enough samples or time is up."""

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from benchmarks.peers.stores.contract import Store

FILLER: Final = "says a user to a chat model, with a text of about a hundred characters, on an ordinary day."
LEAST: Final = 3
SHORTEST_RUN: Final = 10
GROWTH: Final = 10


@dataclass(frozen=True)
class Budget:
    """When a measurement ends: it takes at least three samples."""

    samples: int = 300
    seconds: float = 2.0

    def spent(self, times: Sequence[float]) -> bool:
        """Return whether these are enough."""
        return len(times) >= self.samples or (len(times) >= LEAST and sum(times) >= self.seconds)


def text(name: str) -> str:
    """Return a text of a hundred characters that no other name has."""
    return f"{name:<8} {FILLER}"


def prefill(length: int) -> list[str]:
    """Return the texts that a session of a length starts with."""
    return [text(f"p{number}") for number in range(length)]


async def timed(times: list[float], call: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - whatever it returns
    """Await a call, note how many seconds it took, and return what it returned."""
    started = time.perf_counter()
    result = await call()
    times.append(time.perf_counter() - started)
    return result


async def calls(call: Callable[[], Awaitable[Any]], budget: Budget) -> list[float]:
    """Measure a call, again and again; the first one warms up and does not count."""
    await call()
    times: list[float] = []
    while not budget.spent(times):
        await timed(times, call)
    return times


async def reads(store: Store[Any, Any], length: int, last: int, budget: Budget) -> dict[str, list[float]]:
    """Measure reading the last messages of a session, and all."""
    session, texts = await store.new(prefill(length)), prefill(length)
    _same(store.texts(await store.last(session, last)), texts[-last:])
    _same(store.texts(await store.all(session)), texts)
    return {
        f"last{last}": await calls(partial(store.last, session, last), budget),
        "all": await calls(partial(store.all, session), budget),
    }


async def far_read(store: Store[Any, Any], length: int, last: int, budget: Budget) -> dict[str, list[float]]:
    """Measure reading the last messages of a session that is too long for anything else."""
    session = await store.new(prefill(length))
    _same(store.texts(await store.last(session, last)), prefill(length)[-last:])
    return {f"last{last}": await calls(partial(store.last, session, last), budget)}


async def appends(store: Store[Any, Any], length: int, budget: Budget) -> list[float]:
    """Measure appends of one writer; a session that grew by a tenth, or by ten messages, is replaced by a fresh one."""
    times: list[float] = []
    while not budget.spent(times):
        session, texts = await store.new(prefill(length)), prefill(length)
        for number in range(max(SHORTEST_RUN, length // GROWTH)):
            texts.append(text(f"a{number}"))
            await timed(times, partial(store.append, session, texts[-1]))
            if budget.spent(times):
                break
        _same(store.texts(await store.all(session)), texts)
    return times


def figures(seconds: Sequence[float]) -> dict[str, Any]:
    """Return the median, the 99th percentile and the samples, in microseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    samples = [round(taken * 1e6, 1) for taken in seconds]
    return {"p50_us": round(cuts[49] * 1e6, 1), "p99_us": round(cuts[98] * 1e6, 1), "samples_us": samples}


def _same(found: list[str], wanted: list[str]) -> None:
    assert found == wanted, f"{len(found)} messages instead of {len(wanted)}, or others"
