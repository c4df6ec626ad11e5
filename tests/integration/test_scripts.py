"""The Lua scripts on a real server: lost ones come back, and none leaves half of its work."""

import asyncio
import re
from importlib.resources import files
from typing import Any

import pytest
from redis.exceptions import ResponseError
from tests.contract.chats import a_session, texts_of
from tests.contract.deployments import client_of, opened
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.samples import batch_of, command, created, taken
from tests.contract.workers import worker_of

from turnstream import AddMessage, SessionInfo, user_message
from turnstream.adapters.redis.server import Scripts
from turnstream.errors import Overloaded
from turnstream.ports import START, MessageRange

FOLDER = files("turnstream.adapters.redis") / "scripts"
FILES = {path.name.removesuffix(".lua") for path in FOLDER.iterdir() if path.name.endswith(".lua")}
SCRIPTS = sorted(FILES)
FOR_FULL_SERVERS = {"commit_when_full"}
"""Those that are another's text with another flag."""


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"partitions": 1}


def test_every_script_is_used() -> None:
    assert vars(Scripts()).keys() - {"library"} - FOR_FULL_SERVERS == FILES


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_documents_its_arguments(name: str) -> None:
    lines = FOLDER.joinpath(f"{name}.lua").read_text().splitlines()
    assert lines[0].startswith("#!lua")
    assert lines[1].startswith("-- ")
    assert any(line.startswith("-- KEYS") for line in lines)


async def test_every_script_comes_back_after_a_flush(real: EmbeddedDeployment) -> None:
    backend = await opened(real)

    async def flush() -> None:
        await real.call("SCRIPT", "FLUSH")

    await flush()
    state = await taken(backend)
    await flush()
    assert await backend.ownership.renew([state]) == [True]
    await flush()
    await backend.queue.publish(0, [command("c")])
    await flush()
    batch = batch_of(state, created("s", ["m"]), cursor=(await backend.queue.read({0: START}, 1, 1.0))[0][0].entry_id)
    await backend.store.commit(batch)
    await flush()
    assert len((await backend.reader.messages("s", MessageRange()))[1]) == 1
    await flush()
    assert [i.id if isinstance(i, SessionInfo) else None for i in await backend.reader.infos(["s"])] == ["s"]
    await flush()
    assert (await backend.events.read(0, 0, 1)).head == 1
    await flush()
    assert list(await backend.ownership.beat("worker-1")) == ["worker-1"]
    await flush()
    await backend.ownership.release([batch.after])
    assert await real.backlog(0) == 0


async def test_scripts_are_flushed_while_commands_flow(real: EmbeddedDeployment) -> None:
    await worker_of(real)
    clients = [await client_of(real, worker=False) for _ in range(3)]
    session = await a_session(clients[0])
    done = asyncio.Event()

    async def flush() -> int:
        flushes = 0
        while not done.is_set():
            await real.call("SCRIPT", "FLUSH")
            flushes += 1
            await asyncio.sleep(0)
        return flushes

    flushing = asyncio.create_task(flush())
    try:
        for number in range(100):
            await clients[number % 3].execute(AddMessage(session.id, user_message(str(number))))
        sends = [clients[0].send(AddMessage(session.id, user_message(str(number)))) for number in range(100, 400)]
        for ticket in await asyncio.gather(*sends):
            await ticket
    finally:
        done.set()
        flushes = await flushing
    assert flushes > 100
    assert texts_of(await clients[1].sessions.messages(session.id)) == [str(number) for number in range(400)]


@pytest.mark.parametrize("overrides", [{"partitions": 1, "max_backlog": 2}])
async def test_a_malformed_entry_stays_where_it_is_while_too_many_wait(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    fields = ("entryId", "1-0", "error", "Not JSON", "id", "c")
    malformed_id: bytes = await real.call("XADD", real.keys.partitions[0].malformed, "*", *fields)
    await backend.queue.publish(0, [command("c1"), command("c2")])
    with pytest.raises(Overloaded):
        await backend.quarantine.requeue(0, malformed_id.decode())
    assert await real.backlog(0) == 2
    assert len(await real.malformed(0)) == 1


@pytest.mark.parametrize(
    "writes",
    [
        ("FLUSHALL",),
        ("DEL", "(session)"),
        ("HSET", "(session)", "version", "9", "5,000 words"),
        ("too few words",),
    ],
)
async def test_a_batch_of_a_wrong_shape_writes_nothing(real: EmbeddedDeployment, writes: tuple[str, ...]) -> None:
    """A bug in the adapter must not leave half a batch: a valid write comes before the invalid one."""
    backend = await opened(real)
    state = await taken(backend)
    keys = real.keys.partitions[0]
    words = [word.replace("(session)", keys.session("s")) for word in writes]
    if words[-1] == "5,000 words":
        words[-1:] = ["x"] * 5_000
    count = 3 if words == ["too few words"] else len(words)
    commit: Any = real.raw.register_script(FOLDER.joinpath("commit.lua").read_text())
    before = await real.dump()
    with pytest.raises(ResponseError, match="BADBATCH"):
        await commit(
            keys=[keys.partition, keys.events],
            args=[
                *(state.token, state.replication_id, state.cursor, state.sequence),
                *("", 1_000, 0, 0, 0),
                *(4, "HSET", keys.session("s"), "version", "1"),
                *(count, *words),
            ],
        )
    assert await real.dump() == before


def test_a_right_is_tried_for_every_write_of_a_commit() -> None:
    table = FOLDER.joinpath("commit.lua").read_text().partition("local TYPES = {")[2].partition("}")[0]
    written = set(re.findall(r"([A-Z]+) =", table)) - {"SPUBLISH"}
    rights = FOLDER.joinpath("rights.lua").read_text()
    assert len(written) > 5
    assert [command for command in written if f"'{command}'" not in rights] == []


@pytest.mark.parametrize("overrides", [{"partitions": 1}])
async def test_only_the_owner_publishes_a_batch_and_its_events_once(real: EmbeddedDeployment) -> None:
    backend = await real.open()
    real.resources.push_async_callback(backend.aclose)
    first = await taken(backend, "worker-1")
    await backend.ownership.release([first])
    owner = await taken(backend, "worker-2")
    heard = await backend.channels.subscribe(["events", "replies"])
    settle, keys = backend.server.scripts.settle, [real.keys.partitions[0].partition]

    async def tell(token: str, replication_id: str, text: str) -> None:
        words = (token, replication_id, 7, 2, "events", text, "replies", text)
        await settle.run(backend.server.calls(0), keys, words)

    with pytest.raises(ResponseError, match="FENCED token"):
        await tell(first.token, owner.replication_id, "of who lost the partition")
    with pytest.raises(ResponseError, match="FENCED replid"):
        await tell(owner.token, "0" * 40, "of another history")
    await tell(owner.token, owner.replication_id, "one")
    await tell(owner.token, owner.replication_id, "again")
    messages = aiter(heard)
    assert [await anext(messages) for _ in range(3)] == [
        ("events", b"one"),
        ("replies", b"one"),
        ("replies", b"again"),
    ]
    assert await real.call("HGET", keys[0], "stable") == b"7"
    await heard.aclose()
