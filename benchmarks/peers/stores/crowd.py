"""Many writers of one session: how much they write, and how much of it is found in the end."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.peers.stores.contract import Store
from benchmarks.peers.stores.sampling import figures, prefill, text

WRITERS: Final = 16
PATIENCE: Final = 20.0


@dataclass(frozen=True)
class Shift:
    """How much is written: no append begins after so many seconds."""

    messages: int = 20
    seconds: float = 4.0


@dataclass
class Crowd:
    """The writers' notes."""

    store: Store[Any, Any]
    shift: Shift
    started: float
    ended: float = 0.0
    times: list[float] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def write(self, session: Any, writer: int) -> None:  # noqa: ANN401 - what the store calls a session
        """Append messages, one after the other."""
        for number in range(self.shift.messages):
            begun = time.perf_counter()
            if begun > self.started + self.shift.seconds:
                return
            message = text(f"w{writer}-{number}")
            try:
                if self.store.rejoins:
                    session = await self.store.join(session)
                await self.store.append(session, message)
            except Exception as error:  # noqa: BLE001 - whatever a contender raises is one of its figures
                self.errors.append(f"{type(error).__name__}: {error}")
            else:
                self.ended = time.perf_counter()
                self.times.append(self.ended - begun)
                self.acknowledged.append(message)


async def crowd(store: Store[Any, Any], length: int, shift: Shift) -> dict[str, Any]:
    """Let 16 writers append to one session; each holds it as a separate process would."""
    texts = prefill(length)
    session = await store.new(texts)
    held = [await store.join(session) for _ in range(WRITERS)]
    noted = Crowd(store, shift, time.perf_counter())
    unfinished = await _wait([asyncio.create_task(noted.write(session, n)) for n, session in enumerate(held)])
    found = store.texts(await store.all(await store.join(session)))
    return {"writers": WRITERS, **_rate(noted), **_check(noted, texts, found), "unfinished": unfinished}


async def _wait(writers: list[asyncio.Task[None]]) -> int:
    """Return how many writers had to be stopped within an append."""
    done, pending = await asyncio.wait(writers, timeout=PATIENCE)
    for writer in pending:
        writer.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for writer in done:
        writer.result()
    return len(pending)


def _rate(noted: Crowd) -> dict[str, Any]:
    seconds = noted.ended - noted.started
    rate = len(noted.acknowledged) / seconds if noted.acknowledged else 0.0
    return {"appends_per_second": round(rate, 1), **(figures(noted.times) if len(noted.times) > 1 else {})}


def _check(noted: Crowd, prefilled: list[str], found: list[str]) -> dict[str, Any]:
    """Compare the stored messages with the acknowledged ones; failed and stopped appends may be there or not."""
    counts = Counter(found)
    known = {*prefilled, *noted.acknowledged}
    return {
        "acknowledged": len(noted.acknowledged),
        "lost": len(known - counts.keys()),
        "duplicated": counts.total() - len(counts),
        "unacknowledged": len(counts.keys() - known),
        "errors": len(noted.errors),
        "error": noted.errors[0] if noted.errors else None,
    }
