"""`ts.verify` on a real server: changed stored data is found, and named without contents."""

import pytest
from msgspec.structs import replace
from tests.contract.chats import id_in
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.test_verify import a_life
from tests.contract.workers import worker_of

from turnstream import DeleteSession, Turnstream, Unavailable
from turnstream.admin import Difference
from turnstream.application.queries import verifier
from turnstream.codec.records import decode_message, encode_message
from turnstream.ports import EventPage

SESSION = id_in(0, 4)
FIELDS = {
    "id": ("another", ["id"]),
    "incarnation": ("another", ["incarnation"]),
    "version": ("8", ["version"]),
    "config": ('{"provider":"openai","model":"secret"}', ["config.model", "config.temperature", "listed.model"]),
    "provider": ("secret", ["listed.provider"]),
    "model": ("secret", ["listed.model"]),
    "promptTokens": ("1", ["metrics.promptTokens"]),
    "completionTokens": ("1", ["metrics.completionTokens"]),
    "totalTokens": ("1", ["metrics.totalTokens"]),
    "estimatedCost": ("0.5", ["metrics.estimatedCost"]),
    "contextUtilization": ("0.5", ["metrics.contextUtilization"]),
    "maxContextWindow": ("1", ["metrics.maxContextWindow"]),
    "priceSource": ("unknown", ["metrics.priceSource"]),
    "contextTokens": ("1", ["metrics.contextTokens"]),
    "messageCount": ("7", ["messageCount"]),
    "nextPosition": ("70", ["nextPosition"]),
    "createdAt": ("2020-01-01T00:00:00+00:00", ["createdAt"]),
    "updatedAt": ("2020-01-01T00:00:00+00:00", ["updatedAt"]),
    "isActive": ("1", ["isActive"]),
    "metadata": ('{"secret":1}', ["metadata"]),
    "lastSequence": ("1", ["lastSequence"]),
}
"""Every field of a session's hash, another value for it, and what then differs."""


@pytest.fixture
async def ts(real: EmbeddedDeployment) -> Turnstream:
    """A client after the life of a session, whose worker is gone."""
    worker = await worker_of(real)
    client = await client_of(real, worker=False)
    await a_life(client, SESSION)
    await worker.stop()
    assert (await client.verify(SESSION)).equal
    return client


async def paths(ts: Turnstream) -> list[str]:
    return [difference.path for difference in (await ts.verify(SESSION)).differences]


def hash_of(real: EmbeddedDeployment) -> str:
    return real.keys.partitions[0].session(SESSION)


async def test_every_field_is_tried(real: EmbeddedDeployment, ts: Turnstream) -> None:
    names: list[bytes] = await real.call("HKEYS", hash_of(real))
    assert {name.decode() for name in names} == FIELDS.keys()


@pytest.mark.parametrize("field", FIELDS)
async def test_a_field_of_the_header(real: EmbeddedDeployment, ts: Turnstream, field: str) -> None:
    value, differing = FIELDS[field]
    await real.call("HSET", hash_of(real), field, value)
    assert await paths(ts) == differing


@pytest.mark.parametrize("field", FIELDS)
async def test_a_removed_field(real: EmbeddedDeployment, ts: Turnstream, field: str) -> None:
    await real.call("HDEL", hash_of(real), field)
    assert await paths(ts) == (["listed"] if field in {"provider", "model"} else ["session"])


async def test_a_deleted_session(real: EmbeddedDeployment, ts: Turnstream) -> None:
    await real.call("DEL", hash_of(real))
    found = await ts.verify(SESSION)
    assert (found.version, found.differences) == (0, (Difference("session", "is not stored"),))


async def test_messages(real: EmbeddedDeployment, ts: Turnstream) -> None:
    keys = real.keys.partitions[0]
    bodies, order = keys.messages(SESSION), keys.order(SESSION)
    ids = [i.decode() for i in await real.call("ZRANGE", order, 0, -1)]
    body = await real.call("HGET", bodies, ids[0])

    await real.call("HSET", bodies, ids[0], body.replace(b"four", b"secret"))
    found = await ts.verify(SESSION)
    assert found.differences == (Difference(f"messages[{ids[0]}].content", "differs"),)
    assert "secret" not in str(found)
    await real.call("HSET", bodies, ids[0], body.replace(b'"role":"user"', b'"role":"system"'))
    assert await paths(ts) == [f"messages[{ids[0]}].role"]
    await real.call("HSET", bodies, ids[0], b"{")
    assert await paths(ts) == ["messages"]
    await real.call("HDEL", bodies, ids[0])
    assert await paths(ts) == ["messages"]
    await real.call("ZREM", order, ids[0])
    assert await paths(ts) == ["messageCount", f"messages[{ids[0]}]"]
    await real.call("HSET", bodies, ids[0], body)
    await real.call("ZADD", order, 1_000, ids[0])
    assert (await ts.verify(SESSION)).differences == (Difference("messages", "are in another order"),)
    await real.call("ZADD", order, 0, ids[0])
    assert (await ts.verify(SESSION)).equal
    await real.call(
        "HSET", bodies, "foreign", encode_message(decode_message(body)).replace(ids[0].encode(), b"foreign")
    )
    await real.call("ZADD", order, 2_000, "foreign")
    assert await paths(ts) == ["messageCount", "messages[foreign]"]


async def test_a_trimmed_event(real: EmbeddedDeployment, ts: Turnstream) -> None:
    events = real.keys.partitions[0].events
    await real.call("XDEL", events, "9-0")
    assert "events" in await paths(ts)
    await real.call("XADD", events, "1000-0", "event", "no event")
    assert "events" in await paths(ts)


@pytest.mark.parametrize("field", ["config", "version", "incarnation", "updatedAt", "metadata", "lastSequence", "id"])
async def test_tampering_is_found_where_history_begins_later(
    real: EmbeddedDeployment, ts: Turnstream, field: str
) -> None:
    """The update of the tokens is gone, so what is stored of them is not compared."""
    value, differing = FIELDS[field]
    await real.call("XTRIM", real.keys.partitions[0].events, "MINID", "10-0")
    found = await ts.verify(SESSION)
    assert (found.equal, found.complete, found.version, found.history_from) == (True, False, 9, 7)
    await real.call("HSET", hash_of(real), "totalTokens", "1")
    assert (await ts.verify(SESSION)).equal
    await real.call("HSET", hash_of(real), field, value)
    assert await paths(ts) == differing


async def test_an_order_is_found_where_history_begins_later(real: EmbeddedDeployment, ts: Turnstream) -> None:
    keys = real.keys.partitions[0]
    await real.call("XTRIM", keys.events, "MINID", "10-0")
    last: bytes = (await real.call("ZRANGE", keys.order(SESSION), -1, -1))[0]
    await real.call("ZADD", keys.order(SESSION), 0, last)
    assert (await ts.verify(SESSION)).differences == (Difference("messages", "are in another order"),)


@pytest.mark.parametrize("oldest", [*range(1, 16), 1_000])
async def test_history_is_taken_while_it_is_read(
    real: EmbeddedDeployment, ts: Turnstream, monkeypatch: pytest.MonkeyPatch, oldest: int
) -> None:
    """The session's events, 1 to 13, are read by twos; when 4 were read, retention takes all before one of them."""
    monkeypatch.setattr(verifier, "PAGE", 2)
    events = real.keys.partitions[0].events
    log = ts._backend.events
    read, last = log.read, 13

    async def take_and_read(partition: int, after: int, count: int, session_id: str | None = None) -> EventPage:
        if after == 4:
            await real.call("XTRIM", events, "MINID", f"{oldest}-0")
        return await read(partition, after, count, session_id)

    monkeypatch.setattr(log, "read", take_and_read)
    found = await ts.verify(SESSION)
    assert (found.version, found.differences) == (9, ())
    # An event read before it was trimmed counts, unless a later one is missing.
    assert found.events == (last if oldest <= 5 else max(last + 1 - oldest, 0))


async def test_history_becomes_another_one_while_it_is_read(ts: Turnstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failover rolls events back: a seeming difference is checked again."""
    monkeypatch.setattr(verifier, "PAGE", 2)
    monkeypatch.setattr(verifier, "PAUSE", 0.0)
    log = ts._backend.events
    read, looks = log.read, 0

    async def fail_over(partition: int, after: int, count: int, session_id: str | None = None) -> EventPage:
        nonlocal looks
        page = await read(partition, after, count, session_id)
        looks += not count
        if looks == 1 and after == 4:
            return replace(page, generation="another", head=4, payloads=())
        return page

    monkeypatch.setattr(log, "read", fail_over)
    assert (await ts.verify(SESSION)).equal
    assert looks == 2


@pytest.mark.parametrize("safe", [3, 0])
async def test_unconfirmed_commits_are_waited_for(
    real: EmbeddedDeployment, ts: Turnstream, monkeypatch: pytest.MonkeyPatch, safe: int
) -> None:
    monkeypatch.setattr(verifier, "PAUSE", 0.01)
    key = real.keys.partitions[0].partition
    await real.call("HSET", key, "stable", safe)
    with pytest.raises(Unavailable, match="not safe yet"):
        await ts.verify(SESSION)
    await real.call("HSET", key, "stable", (await real.call("HGET", key, "sequence")).decode())
    assert (await ts.verify(SESSION)).equal


async def test_a_deletion_that_is_not_safe_yet_is_waited_for(
    real: EmbeddedDeployment, ts: Turnstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "PAUSE", 0.01)
    await worker_of(real)
    await ts.execute(DeleteSession(SESSION))
    await real.call("HSET", real.keys.partitions[0].partition, "stable", 13)
    with pytest.raises(Unavailable, match="not safe yet"):
        await ts.verify(SESSION)
