"""Very many hostile entries, written straight to the streams: none is lost, none stops a worker, valid ones apply."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.chaos.ending import Ending
from tests.chaos.history import PartitionEnd
from tests.chaos.processes import Workers
from tests.contract.chats import CONFIG, id_in, texts_of
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.integration.hostile import EntryIds, Fields, hostile, written
from tests.waiting import wait_until

from turnstream import (
    AddMessage,
    AddMessages,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    Turnstream,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
    user_message,
)
from turnstream.adapters.redis.backend import server_at
from turnstream.commands import ChatMessagePatch, GetSession, ListSessions, SessionPatch
from turnstream.domain.commands import AnyCommand

PARTITIONS = 4
VALID_EVERY = 10
"""One valid command to so many hostile ones."""
TOGETHER = 1_000
MISPLACED = 0.1
"""The share of the hostile entries that is in another partition."""
CHOSEN = 0.02
"""The share of the entries, valid ones among them, under chosen ids."""
QUERIES = (GetSession.type.encode(), ListSessions.type.encode())

BUGS = ("entry not read", "partition failed", "command parked", "query quarantined", "workers died on it")
"""The log of a worker that met an unforeseen fault."""

QUICK, ALL = 4_000, 100_000


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": PARTITIONS, "lease": 5.0, "malformed_retention": 10 * ALL, "deduplication_window": 3_600.0}


@pytest.fixture
async def workers(real: EmbeddedDeployment, tmp_path: Path) -> AsyncIterator[Workers]:
    """A worker in a separate process, which could die."""
    names = ("namespace", "partitions", "lease", "malformed_retention", "deduplication_window")
    environment = {f"TURNSTREAM_{name.upper()}": str(getattr(real.settings, name)) for name in names}
    environment["TURNSTREAM_REDIS_URL"] = real.settings.redis_url.get_secret_value()
    started = Workers(environment, tmp_path)
    started.start()
    yield started
    started.close()


def commands_on(session_id: str) -> list[AnyCommand]:
    """Every command there is, on one session."""
    first, second = user_message("ü"), user_message("x")
    return [
        CreateSession(CONFIG, session_id, metadata={"user": "me"}),
        AddMessage(session_id, first),
        AddMessages(session_id, (second, user_message("z"))),
        UpdateMessage(session_id, first.id, updates=ChatMessagePatch(metadata={"a": [1, None]})),
        UpdateSession(session_id, SessionPatch(is_active=False)),
        RemoveMessages(session_id, message_ids=(second.id,)),
        RemoveMessages(session_id, last=3),
        UpdateTokenMetrics(
            session_id,
            prompt_tokens=1_000,
            completion_tokens=2_000,
            cache_read_tokens=3,
            cache_write_tokens=4,
            context_tokens=5,
        ),
        DeleteSession(session_id),
        GetSession(session_id),
        ListSessions(limit=10, cursor=None, provider="openai", model="gpt-4", is_active=True),
    ]


class Flood:
    """Hostile entries for all partitions, with valid ones between them; knows what it wrote under which stream id."""

    def __init__(self, real: EmbeddedDeployment, ts: Turnstream, chance: Random) -> None:
        self.damages: Counter[str] = Counter()
        self.hostile: dict[tuple[int, str], Fields] = {}
        self.targets = [id_in(partition, PARTITIONS) for partition in range(PARTITIONS)]
        self.valid: dict[str, list[str]] = {target: [] for target in self.targets}
        self._real = real
        self._chance = chance
        self._ids = [EntryIds(partition) for partition in range(PARTITIONS)]
        replies = [ts._gateway.channels[partition] for partition in range(PARTITIONS)]
        victims = [id_in(partition, PARTITIONS) for partition in range(PARTITIONS)]
        each = zip(victims, replies, strict=True)
        self._originals = [
            [written("", command, channel) for command in commands_on(victim)] for victim, channel in each
        ]

    async def write(self, number: int) -> None:
        """Write so many hostile entries, some of them into a partition that is not theirs."""
        for start in range(0, number, TOGETHER):
            entries = [self._made(n) for n in range(start, min(start + TOGETHER, number))]
            await self._append([entry for some in entries for entry in some])

    def _made(self, number: int) -> list[tuple[int, Fields, bool]]:
        partition = self._chance.randrange(PARTITIONS)
        damage, fields = hostile(self._chance, self._originals[partition], number)
        self.damages[damage] += 1
        elsewhere = self._chance.random() < MISPLACED
        made = [((partition + elsewhere) % PARTITIONS, fields, True)]
        if number % VALID_EVERY == 0:
            target = self.targets[partition]
            self.valid[target].append(str(number))
            command = AddMessage(target, user_message(str(number)))
            made.append((partition, written(f"valid-{number}", command), False))
        return made

    def _entry_id(self, partition: int) -> str:
        ids = self._ids[partition]
        # All at the same time, for after a leap the outcomes before it are not kept.
        return ids.chosen() if not ids.began or self._chance.random() < CHOSEN else "*"

    async def _append(self, entries: list[tuple[int, Fields, bool]]) -> None:
        writing = self._real.raw.pipeline(transaction=False)
        for partition, fields, _ in entries:
            words = [word for pair in fields.items() for word in pair]
            key, entry_id = self._real.keys.partitions[partition].commands, self._entry_id(partition)
            writing.execute_command("XADD", key, entry_id, *words)
        for (partition, fields, is_hostile), entry_id in zip(entries, await writing.execute(), strict=True):
            if is_hostile:
                self.hostile[partition, entry_id.decode()] = fields


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [QUICK, pytest.param(ALL, marks=pytest.mark.long)])
async def test_every_hostile_entry_is_accounted_for(
    real: EmbeddedDeployment,
    workers: Workers,
    number: int,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    ts = await client_of(real, worker=False)
    flood = Flood(real, ts, Random(7))
    for target in flood.targets:
        await ts.execute(CreateSession(CONFIG, target))
    await flood.write(number)
    await wait_until(lambda: _all_applied(real), seconds=500)

    for target, texts in flood.valid.items():
        assert texts_of(await ts.sessions.messages(target)) == texts
    server = server_at(real.settings, "test")
    async with aclosing(server.topology):
        ends = await Ending(server).partitions()
    set_aside = {(p, m.entry_id) for p in range(PARTITIONS) for m in await real.malformed(p)}
    assert set_aside <= flood.hostile.keys()
    decided = {place: fields for place, fields in flood.hostile.items() if place not in set_aside}
    assert [fields for place, fields in decided.items() if not _answered(ends[place[0]], fields)] == []
    assert len(flood.damages) > 10
    assert len(set_aside) > number / 2

    (worker,) = workers.alive
    assert worker.runs
    log = (tmp_path / f"{worker.name}.log").read_text()
    assert [bug for bug in BUGS if bug in log] == []
    record_property("hostile", f"{number}: {len(set_aside)} set aside, {len(decided)} decided; {dict(flood.damages)}")


async def _all_applied(real: EmbeddedDeployment) -> bool:
    return sum([await real.backlog(partition) for partition in range(PARTITIONS)]) == 0


def _answered(end: PartitionEnd, fields: Fields) -> bool:
    """Return whether an entry that could be read has an outcome; a query has none."""
    return fields[b"type"] in QUERIES or fields[b"id"].decode() in end.outcomes
