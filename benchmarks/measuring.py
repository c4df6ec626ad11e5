"""The measurements of the spine: throughput, latency of commands and events, the cost of an append, memory."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, cast

from redis.asyncio import Redis

from benchmarks.stage import Stage
from turnstream import (
    AddMessage,
    AddMessages,
    CreateSession,
    EventSubscription,
    SessionConfig,
    Ticket,
    Turnstream,
    user_message,
)
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.adapters.redis.connection.executor import CommandExecutor
from turnstream.codec.records import encode_message
from turnstream.domain.models import partition_of
from turnstream.events import EventMeta, MessageAdded
from turnstream.messages import new_id

TEXT = "A message of about a hundred characters, as people write them to a chat model on an ordinary working day."
CONFIG = SessionConfig("openai", "gpt-4o")
TIMEOUT = 120.0
PREFILL = 1_000
BLOCK = 1_000
"""Calls of one kind that are measured in a row."""
EXECUTES_A_SESSION = 10
BURSTS = 5
"""How often an append is measured in turn at each length, before a long session is recreated."""
REST = 2.0
"""Seconds after which partitions that were busy count as idle."""

Figures = dict[str, float]


async def new_session(ts: Turnstream, messages: int = 0) -> str:
    """Create a session that holds so many messages."""
    session_id = (await (await ts.send(CreateSession(CONFIG)))).session_id
    for start in range(0, messages, PREFILL):
        some = [user_message(TEXT) for _ in range(min(PREFILL, messages - start))]
        await (await ts.send(AddMessages(session_id, tuple(some)), timeout=TIMEOUT))
    return session_id


async def applied(tickets: Sequence[Ticket]) -> None:
    """Wait until all commands are applied; a rejected one raises."""
    for each in tickets:
        await each


async def throughput(ts: Turnstream, stage: Stage, commands: int, sessions: int, in_flight: int) -> Figures:
    """Measure add-message commands a second, from the producer's first byte to its last reply.

    Returns:
        Commands a second, and the CPU time a command in microseconds of each process.

    """
    ids = [await new_session(ts) for _ in range(sessions)]
    load = [AddMessage(ids[i % sessions], user_message(TEXT)) for i in range(commands)]
    before, started = stage.cpu_seconds(), time.perf_counter()
    waiting: list[Ticket] = []
    for start in range(0, commands, in_flight // 2):
        sent = await ts.send_many(load[start : start + in_flight // 2], timeout=TIMEOUT)
        await applied(waiting)
        waiting = sent
    await applied(waiting)
    seconds, after = time.perf_counter() - started, stage.cpu_seconds()
    cpu = {f"{name}_cpu_us": (after[name] - before[name]) / commands * 1e6 for name in after}
    return {"commands_per_second": commands / seconds, **cpu}


async def latency(ts: Turnstream, backend: RedisBackend, url: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Measure a PING, one by redis-py, a ticket, and an `execute` on a session of ten messages, one at a time.

    Each kind in long separate blocks, for how long a PING takes depends on what the processes did just before. The
    medians of the blocks are kept as well: how fast the machine is changes from one to the next.
    """
    session_id = await new_session(ts, 10)
    short = iter([await new_session(ts, 10) for _ in range(0, rounds, EXECUTES_A_SESSION)])
    taken: dict[str, list[float]] = {"ping": [], "redis-py ping": [], "ticket": [], "execute": []}
    async with Redis.from_url(url, protocol=2) as plain:
        for _ in range(0, rounds, BLOCK):
            # No other client is at work, and all partitions are idle again.
            await asyncio.sleep(REST)
            for _ in range(BLOCK):
                await timed(taken["ping"], partial(backend.server.calls(0).call, "PING"))
            for _ in range(BLOCK):
                await timed(taken["redis-py ping"], cast("Callable[[], Awaitable[Any]]", plain.ping))
            for _ in range(BLOCK):
                await timed(taken["ticket"], partial(ticket, ts, session_id))
            for session in islice(short, BLOCK // EXECUTES_A_SESSION):
                for _ in range(EXECUTES_A_SESSION):
                    await timed(taken["execute"], partial(_execute, ts, session))
    return {name: {**percentiles(times), "blocks_us": medians(times)} for name, times in taken.items()}


async def live_latency(ts: Turnstream, backend: RedisBackend, rounds: int) -> dict[str, Figures]:
    """Measure, in turn, a PING over the connection of a subscription, and an event from PUBLISH to the iterator."""
    session_id = await new_session(ts)
    partition = partition_of(session_id, backend.partitions)
    server, channel = backend.server, backend.server.keys.event_channel(MessageAdded.type)
    taken: dict[str, list[float]] = {"subscription ping": [], "live event": []}
    async with ts.subscribe(MessageAdded) as events:
        # An event that is not stored is received live only, so it must be live.
        await ts.execute(AddMessage(session_id, user_message(TEXT)))
        await anext(events)
        page = await backend.events.read(partition, 0, 0)
        last = page.types[MessageAdded.type]
        for sequence in range(page.head + 1, page.head + 1 + rounds):
            payload = _live(session_id, partition, page.generation, sequence, last).to_json()
            await timed(taken["subscription ping"], events.ping)
            await timed(taken["live event"], partial(_heard, events, server.calls(partition), channel, payload))
            last = sequence
    return {name: percentiles(times) for name, times in taken.items()}


async def _heard(events: EventSubscription[MessageAdded], calls: CommandExecutor, channel: str, payload: bytes) -> None:
    published = asyncio.ensure_future(calls.call("PUBLISH", channel, payload))
    event = await anext(events)
    await published
    assert isinstance(event, MessageAdded)


def _live(session_id: str, partition: int, generation: str, sequence: int, last: int) -> MessageAdded:
    """Return an event that is next in its chain, and is not stored."""
    meta = EventMeta(
        event_id=new_id(),
        partition=partition,
        generation=generation,
        sequence=sequence,
        previous_of_type=last,
        previous_of_session=last,
        command_id=new_id(),
    )
    message = user_message(TEXT)
    return MessageAdded(
        session_id=session_id,
        incarnation="bench",
        version=sequence,
        timestamp=message.created_at,
        message=message,
        meta=meta,
    )


async def append_cost(ts: Turnstream, lengths: Sequence[int], rounds: int, appends: int) -> dict[int, Figures]:
    """Measure an append at several lengths of the session, in turn: one at a time, and many in flight."""
    single: dict[int, list[float]] = {length: [] for length in lengths}
    many: dict[int, list[float]] = {length: [] for length in lengths}
    *_, longest = sorted(lengths)
    for _ in range(rounds):
        long_session = await new_session(ts, longest)
        for length in [*lengths] * BURSTS:
            # The others are fresh each time, so that they have the length that they stand for.
            session_id = long_session if length == longest else await new_session(ts, length)
            for _ in range(appends):
                await timed(single[length], partial(ticket, ts, session_id))
            load = [AddMessage(session_id, user_message(TEXT)) for _ in range(appends * 10)]
            started = time.perf_counter()
            await applied(await ts.send_many(load, timeout=TIMEOUT))
            many[length].append((time.perf_counter() - started) / len(load))
    return {
        length: {"one_us": statistics.median(single[length]) * 1e6, "many_us": statistics.median(many[length]) * 1e6}
        for length in lengths
    }


async def memory(ts: Turnstream, backend: RedisBackend, messages: int) -> Figures:
    """Measure the server's memory for the hash and the order of a long session, a message, in addition to its JSON."""
    session_id = await new_session(ts, messages)
    partition = partition_of(session_id, backend.partitions)
    keys, call = backend.server.partition(partition), backend.server.calls(partition).call
    used = [
        await call("MEMORY", "USAGE", key, "SAMPLES", 0) for key in (keys.messages(session_id), keys.order(session_id))
    ]
    (message,) = await ts.sessions.messages(session_id, last=1)
    return {"stored_bytes": sum(used) / messages, "json_bytes": float(len(encode_message(message)))}


def percentiles(seconds: Sequence[float]) -> Figures:
    """Return the median and the 99th percentile in microseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50_us": cuts[49] * 1e6, "p99_us": cuts[98] * 1e6}


def medians(seconds: Sequence[float]) -> list[float]:
    """Return the median of each block in microseconds."""
    return [statistics.median(seconds[start : start + BLOCK]) * 1e6 for start in range(0, len(seconds), BLOCK)]


async def timed(times: list[float], call: Callable[[], Awaitable[Any]]) -> None:
    """Await a call, and note how many seconds it took."""
    started = time.perf_counter()
    await call()
    times.append(time.perf_counter() - started)


async def ticket(ts: Turnstream, session_id: str) -> None:
    """Add a message, and wait until it is applied."""
    await (await ts.send(AddMessage(session_id, user_message(TEXT))))


async def _execute(ts: Turnstream, session_id: str) -> None:
    await ts.execute(AddMessage(session_id, user_message(TEXT)))
