"""A key of another type, or one that cannot be decoded: each reading call names session and key; others continue."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from tests.contract.chats import a_session, id_in
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import RedisDeployment
from tests.contract.workers import worker_of

from turnstream import Turnstream
from turnstream.adapters.redis.keys import PartitionKeys
from turnstream.codec.records import encode_parked_session
from turnstream.commands import GetSession, ListSessions
from turnstream.errors import StoredDataInvalid
from turnstream.ports import ParkedSession

pytestmark = pytest.mark.parametrize("deployment", ["embedded", "cluster"], indirect=True)

SESSION, OTHER = id_in(0, 4), id_in(1, 4)
SECRET = "a secret of the message"

OTHER_TYPES: dict[str, tuple[str, ...]] = {
    "string": ("SET", "{}", SECRET),
    "list": ("RPUSH", "{}", SECRET),
    "set": ("SADD", "{}", SECRET),
    "zset": ("ZADD", "{}", "1", SECRET),
    "hash": ("HSET", "{}", "field", SECRET),
    "stream": ("XADD", "{}", "*", "field", SECRET),
}
"""How to write a value of each type to a key."""


class Held(NamedTuple):
    """The expected type of a key, and whether it belongs to one session."""

    kind: str
    of_session: bool = False


HELD = {
    "session": Held("hash", of_session=True),
    "order": Held("zset", of_session=True),
    "messages": Held("hash", of_session=True),
    "queue": Held("stream", of_session=True),
    "index": Held("zset"),
    "partition": Held("hash"),
    "events": Held("stream"),
    "parked": Held("hash"),
    "malformed": Held("stream"),
    "subscription": Held("hash"),
    "parked events": Held("hash"),
}


def key_of(name: str, keys: PartitionKeys, session_id: str) -> str:
    """Return the key of that name in a partition, of a session or a subscription where it is one of these."""
    of_subscription = keys.subscription("billing")
    named = {
        "session": keys.session(session_id),
        "order": keys.order(session_id),
        "messages": keys.messages(session_id),
        "queue": keys.queue(session_id),
        "subscription": of_subscription.state,
        "parked events": of_subscription.parked,
        "requests": of_subscription.requests,
        "lease of a subscription": of_subscription.lease,
    }
    return named.get(name) or str(getattr(keys, name))


CASES = [(name, kind) for name, held in HELD.items() for kind in OTHER_TYPES if kind != held.kind]


@pytest.fixture
async def client(deployment: RedisDeployment) -> Turnstream:
    """A client after two sessions, in two partitions, got messages and a subscription a member; nothing runs now."""
    worker = await worker_of(deployment)
    ts = await client_of(deployment, worker=False)
    for name in (SESSION, OTHER):
        await a_session(ts, SECRET, "two", session_id=name)
    await worker.stop()
    await deployment.call("SADD", deployment.keys.subscriptions, "billing")
    return ts


async def every_call(ts: Turnstream) -> dict[str, object]:
    """Return what each reading call gives, or the error that it raised."""
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: ts.sessions.get(SESSION),
        "execute": lambda: ts.execute(GetSession(SESSION)),
        "get_messages": lambda: ts.sessions.messages(SESSION, last=1),
        "exists": lambda: ts.sessions.exists(SESSION),
        "count": ts.sessions.count,
        "page": lambda: ts.execute(ListSessions()),
        "iterate": lambda: everything(ts.sessions.list()),
        "verify": lambda: ts.verify(SESSION),
        "position": ts.position,
        "subscribe": lambda: first_event(ts),
        "parked": lambda: everything(ts.admin.parked.list()),
        "queue": lambda: everything(ts.admin.parked.show(SESSION)),
        "malformed": lambda: everything(ts.admin.malformed.list()),
        "consumers": lambda: everything(ts.admin.consumers.list()),
        "lag": lambda: everything(ts.admin.consumers.lag("billing")),
        "parked events": lambda: everything(ts.admin.consumers.parked("billing")),
    }
    return {name: await outcome(call) for name, call in calls.items()}


async def outcome(call: Callable[[], Awaitable[object]]) -> object:
    try:
        return await call()
    except StoredDataInvalid as error:
        return error


async def everything(items: Any) -> list[object]:  # noqa: ANN401 - any asynchronous iterator
    return [item async for item in items]


async def first_event(ts: Turnstream) -> object:
    async with ts.subscribe(session_id=SESSION, start="beginning") as events:
        return await anext(events)


@pytest.mark.parametrize(("name", "kind"), CASES)
async def test_another_type_is_named_with_key_and_session(
    deployment: RedisDeployment, client: Turnstream, name: str, kind: str
) -> None:
    held, keys = HELD[name], deployment.keys.partitions[0]
    key = key_of(name, keys, SESSION)
    well = await every_call(client)
    assert not [value for value in well.values() if isinstance(value, StoredDataInvalid)]
    await deployment.call("DEL", key)
    await deployment.call(*(word.format(key) for word in OTHER_TYPES[kind]))
    found = await every_call(client)
    refused = {call: error for call, error in found.items() if isinstance(error, StoredDataInvalid)}
    assert refused
    for error in refused.values():
        assert (error.key, error.reason) == (key, f"it is a {kind}, expected a {held.kind}")
        assert error.session_id == (SESSION if held.of_session else None)
        assert key in str(error)
        assert SECRET not in str(error)
    # A call that reads nothing there does not notice.
    assert "count" not in refused or name == "index"
    await deployment.call("DEL", key)


@pytest.mark.parametrize("kind", ["string", "list"])
async def test_one_broken_session_does_not_end_a_listing(
    deployment: RedisDeployment, client: Turnstream, kind: str
) -> None:
    key = deployment.keys.partitions[0].session(SESSION)
    await deployment.call("DEL", key)
    await deployment.call(*(word.format(key) for word in OTHER_TYPES[kind]))
    await check_listings(client, key)
    await deployment.call("DEL", key)


async def test_nor_does_one_with_undecodable_fields(deployment: RedisDeployment, client: Turnstream) -> None:
    key = deployment.keys.partitions[0].session(SESSION)
    await deployment.call("HSET", key, "messageCount", SECRET)
    await check_listings(client, key)


async def check_listings(ts: Turnstream, key: str) -> None:
    """The other session is listed, and what could not be read is named."""
    page = await ts.execute(ListSessions())
    assert [info.id for info in page.sessions] == [OTHER]
    assert page.unreadable == (SESSION,)
    sessions = ts.sessions.list()
    assert (await anext(sessions)).id == OTHER
    with pytest.raises(StoredDataInvalid) as raised:
        await anext(sessions)
    assert (raised.value.key, raised.value.session_id) == (key, SESSION)
    with pytest.raises(StoredDataInvalid):
        await ts.sessions.exists(SESSION)


GARBAGE = {
    "a header's number": ("session", ("HSET", "{}", "version", "many")),
    "a header's time": ("session", ("HSET", "{}", "createdAt", "0001-01-01T00:00:00+23:00")),
    "a header's bytes": ("session", ("HSET", "{}", "provider", b"\xff", "id", b"\xff")),
    "a header's configuration": ("session", ("HSET", "{}", "config", "[]")),
    "a header's source": ("session", ("HSET", "{}", "priceSource", SECRET)),
    "a header's last sequence": ("session", ("HSET", "{}", "lastSequence", SECRET)),
    "a header's field": ("session", ("HDEL", "{}", "metadata")),
    "metadata too deep": ("session", ("HSET", "{}", "metadata", "[" * 100_000 + "]" * 100_000)),
    "an order's member": ("messages", ("ZADD", "{order}", "1000", b"\xff")),
    "a sequence": ("partition", ("HSET", "{}", "sequence", SECRET)),
    "types": ("partition", ("HSET", "{}", "types", f'{{"a": "{SECRET}"}}')),
    "former generations": ("partition", ("HSET", "{}", "formerGenerations", SECRET)),
    "a place in the index": ("index", ("ZADD", "{}", "inf", SESSION)),
    "a name in the index": ("index", ("ZADD", "{}", "1", b"\xff")),
    "a parked session": ("parked", ("HSET", "{}", SESSION, f'"{SECRET}"')),
    "a parked session's name": ("parked", ("HSET", "{}", b"\xff", "{}")),
    "a parked command": ("queue", ("XADD", "{}", "*", "entryId", SECRET)),
    "a checkpoint": ("subscription", ("HSET", "{}", "generation", "g", "sequence", SECRET)),
    "a parked event's session": ("parked events", ("HSET", "{}", SESSION, SECRET)),
}


@pytest.mark.parametrize("case", GARBAGE)
async def test_data_that_cannot_be_decoded_is_named_without_its_content(
    deployment: RedisDeployment, client: Turnstream, case: str
) -> None:
    name, words = GARBAGE[case]
    keys = deployment.keys.partitions[0]
    key, order = key_of(name, keys, SESSION), keys.order(SESSION)
    named = {"{}": key, "{order}": order}
    await deployment.call(*(named.get(word, word) if isinstance(word, str) else word for word in words))
    refused = [error for error in (await every_call(client)).values() if isinstance(error, StoredDataInvalid)]
    assert {error.key for error in refused} == {key}
    assert not [error for error in refused if SECRET in str(error)]
    if HELD[name].of_session:
        assert {error.session_id for error in refused} == {SESSION}
    await deployment.call("DEL", keys.queue(SESSION), keys.subscription("billing").state)


async def test_a_message_that_cannot_be_decoded(deployment: RedisDeployment, client: Turnstream) -> None:
    key = deployment.keys.partitions[0].messages(SESSION)
    (first,) = await client.sessions.messages(SESSION, limit=1)
    bodies = [b"", b"{", b"[]", b"\xff", f'{{"role":"{SECRET}"}}'.encode(), b"[" * 100_000]
    for body in bodies:
        await deployment.call("HSET", key, first.id, body)
        with pytest.raises(StoredDataInvalid) as raised:
            await client.sessions.get(SESSION)
        assert (raised.value.key, raised.value.session_id) == (key, SESSION)
        assert SECRET not in str(raised.value)
        # The other keys can be read.
        assert len(await client.sessions.messages(SESSION, last=1)) == 1


@pytest.mark.parametrize(("name", "path"), [("session", "session"), ("messages", "messages"), ("events", "events")])
async def test_verify_reports_it_as_a_difference(
    deployment: RedisDeployment, client: Turnstream, name: str, path: str
) -> None:
    key = key_of(name, deployment.keys.partitions[0], SESSION)
    await deployment.call("DEL", key)
    await deployment.call("SET", key, SECRET)
    found = await client.verify(SESSION)
    assert [difference.path for difference in found.differences] == [path]
    assert key in found.differences[0].problem
    assert SECRET not in str(found)
    await deployment.call("DEL", key)


async def test_an_invalid_entry_among_the_malformed_is_listed_with_them(
    deployment: RedisDeployment, client: Turnstream
) -> None:
    key = deployment.keys.partitions[0].malformed
    for words in (("a", "b"), ("entryId", "none", "error", "x"), ("entryId", "1-1", "other", "x")):
        await deployment.call("XADD", key, "*", *words)
    found = [info async for info in client.admin.malformed.list()]
    assert [info.error for info in found] == ["No worker has set it aside: another program has written it here"] * 3
    assert found[0].fields == {"a": "b"}


async def test_an_invalid_entry_in_a_queue_is_shown_as_far_as_possible(
    deployment: RedisDeployment, client: Turnstream
) -> None:
    keys = deployment.keys.partitions[0]
    await deployment.call("HSET", keys.parked, SESSION, encode_parked_session(ParkedSession(1, 10, 0, "a bug")))
    await deployment.call("XADD", keys.queue(SESSION), "*", "entryId", "1-1", "a", "b")
    (shown,) = [waiting async for waiting in client.admin.parked.show(SESSION)]
    assert (shown.command_id, shown.type, bytes(shown.data)) == ("", "", b"null")
