"""The users of deploy/users.acl cannot do any harm but that which is named here as trusted."""

import asyncio
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final, NamedTuple, cast

import pytest
import redis
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry
from tests.contract.chats import CONFIG

from turnstream import CreateSession, Turnstream
from turnstream.adapters.embedded import EmbeddedServer, start_embedded_server
from turnstream.adapters.redis.backend import RedisBackend
from turnstream.adapters.redis.function_library import library
from turnstream.adapters.redis.keys import Keys, PartitionKeys
from turnstream.catalogue import default_catalogue
from turnstream.domain.models import partition_of
from turnstream.settings import Settings
from turnstream.worker.worker import Worker

USERS: Final = Path(__file__).parents[2] / "deploy" / "users.acl"
NAMES: Final = ("producer", "subscriber", "consumer", "worker")
SETTINGS: Final = Settings(namespace="ts", partitions=4)
KEYS: Final = Keys("ts", 4)
ODD: Final = ("zz}:commands", "zz}:commands:{1}", "ts:commands:{1}", "x}:subscription:billing", "*", "events")
"""Ids of sessions that look like keys of another kind."""


def partition(session_id: str = "s") -> PartitionKeys:
    return KEYS.partitions[partition_of(session_id, 4)]


class Attack(NamedTuple):
    """A command, and the users that can give it: for what they are trusted with."""

    words: tuple[str, ...]
    trusted: tuple[str, ...] = ()


def attacks() -> list[Attack]:
    of, call = partition(), library().function
    subscription = of.subscription("billing")
    names, members, worker = KEYS.subscriptions, KEYS.members("billing").members, ("worker",)
    on_sessions = [
        *(("HSET", of.session(i), "version", "99") for i in ("s", *ODD)),
        *(("SET", of.messages(i), "boom") for i in ("s", *ODD)),
        *(("XADD", key, "*", "f", "v") for i in ("s", *ODD) for key in (of.session(i), of.queue(i))),
        *(("UNLINK", of.session(i)) for i in ("s", *ODD)),
        *(("DEL", of.order("s")), ("ZADD", of.order("s"), "1", "m"), ("HDEL", of.messages("s"), "m")),
        *(("EXPIRE", of.session("s"), "1"), ("APPEND", of.messages("s"), "x")),
    ]
    on_partitions = [
        *(("SET", key, "boom") for key in (of.commands, of.events, of.lease, of.partition, of.index, KEYS.layout)),
        *(("DEL", key) for key in (of.commands, of.events, of.lease, of.partition, of.index, of.parked, KEYS.layout)),
        *(("UNLINK", key) for key in (of.commands, of.events, of.malformed, of.outcomes(1), KEYS.layout, KEYS.workers)),
        *(("EXPIRE", key, "1") for key in (of.commands, of.partition, KEYS.layout)),
        *(("SET", KEYS.layout, "999 9"), ("SET", KEYS.layout, "4 2", "PX", "1"), ("SET", KEYS.layout, "4 2", "NX")),
        *(("GETDEL", KEYS.layout), ("GETEX", KEYS.layout, "PX", "1"), ("SETRANGE", KEYS.layout, "0", "9")),
        *(("XTRIM", of.commands, "MAXLEN", "0"), ("XDEL", of.commands, "1-0"), ("XSETID", of.commands, "9-0")),
        *(("XGROUP", "CREATE", of.commands, "g", "0"), ("XGROUP", "DESTROY", of.commands, "turnstream")),
        *(("XADD", of.events, "*", "event", "forged"), ("XTRIM", of.events, "MAXLEN", "0")),
        *(("XADD", of.malformed, "*", "f", "v"), ("HSET", of.parked, "s", "1"), ("ZADD", of.index, "1", "s")),
        *(("HSET", of.partition, "cursor", "9-0"), ("HSET", of.partition, "token", "mine")),
        *(("HSET", of.outcomes(1), "c", "ok"), ("HSET", KEYS.workers, "w", "1 "), ("HDEL", KEYS.workers, "w")),
        *(("PEXPIRE", of.lease, "1"), ("SREM", names, "billing"), ("UNLINK", names), ("DEL", members)),
    ]
    on_subscriptions = [
        *(("HSET", subscription.state, "sequence", "9"), ("UNLINK", subscription.state), ("SADD", names, "x")),
        *(("HSET", members, "m", "1 "), ("XADD", subscription.queue("s"), "*", "event", "{}")),
        *(("SET", subscription.lease, "mine"), ("PUBLISH", KEYS.members("billing").changes, "members")),
    ]
    functions = [
        ("FCALL", call("enqueue"), "1", of.events, "9", "c", "add-message", "{}", "0"),
        ("FCALL", call("enqueue"), "1", of.session("zz}:commands"), "9", "c", "add-message", "{}", "0"),
        ("FCALL", call("renew"), "2", of.lease, of.partition, "t", "1", ""),
        ("FCALL", call("reset"), "2", of.lease, of.partition, "g", "9"),
        ("FCALL", call("beat"), "1", KEYS.workers, "w", "", "1", KEYS.changes, ""),
        ("FCALL", call("requeue"), "2", of.malformed, of.commands, "1-0", "9"),
        ("FCALL", call("forget"), "1", KEYS.workers, "w", "", KEYS.changes),
        ("FCALL", call("checkpoint"), "1", of.partition, "t", "g", "1"),
        # The function reads whatever its caller may, and nothing else.
        ("FCALL_RO", call("read"), "1", of.partition, "2", "GET", "other:layout"),
    ]
    scripts = [
        *(("EVAL", "return 1", "0"), ("EVAL", "while true do end", "0"), ("EVAL_RO", "return string.rep('x', 9)", "0")),
        *(("EVALSHA", "0" * 40, "0"), ("EVALSHA_RO", "0" * 40, "0"), ("SCRIPT", "LOAD", "return 1")),
        *(("FUNCTION", "LOAD", "REPLACE", "#!lua name=x\n"), ("FUNCTION", "LIST")),
    ]
    server = [
        *(
            ("KEYS", "*"),
            ("SCAN", "0"),
            ("DBSIZE",),
            ("RANDOMKEY",),
            ("FLUSHALL",),
            ("FLUSHDB",),
            ("SHUTDOWN",),
        ),
        *(
            ("CONFIG", "GET", "*"),
            ("CONFIG", "SET", "maxmemory", "1"),
            ("CONFIG", "RESETSTAT"),
            ("MONITOR",),
            ("SAVE",),
        ),
        *(("LASTSAVE",), ("CLIENT", "KILL", "TYPE", "normal"), ("CLIENT", "PAUSE", "1"), ("MODULE", "LIST")),
        *(("CLIENT", "TRACKING", "on", "BCAST"), ("CLIENT", "NO-EVICT", "on"), ("CLIENT", "UNBLOCK", "1")),
        *(("ACL", "LIST"), ("ACL", "SETUSER", "x"), ("ACL", "LOG"), ("SLOWLOG", "GET"), ("LATENCY", "RESET")),
        *(
            ("BGREWRITEAOF",),
            ("BGSAVE",),
            ("REPLICAOF", "NO", "ONE"),
            ("SWAPDB", "0", "1"),
            ("FAILOVER",),
            ("PSYNC", "?", "0"),
        ),
        *(("SCRIPT", "FLUSH"), ("SCRIPT", "KILL"), ("FUNCTION", "FLUSH"), ("FUNCTION", "DELETE", library().name)),
        *(("FUNCTION", "KILL"), ("FUNCTION", "DUMP"), ("FUNCTION", "RESTORE", "x"), ("CLUSTER", "RESET")),
        *(("RENAME", of.commands, of.events), ("COPY", of.events, of.commands, "REPLACE"), ("MOVE", of.commands, "1")),
        *(("RESTORE", of.commands, "0", "x", "REPLACE"), ("MIGRATE", "127.0.0.1", "1", of.commands, "0", "1")),
        *(("SORT", of.index), ("PSUBSCRIBE", "*"), ("PUBSUB", "CHANNELS"), ("PUBSUB", "NUMSUB", KEYS.changes)),
        *(("GET", "other:layout"), ("SET", "other:layout", "1"), ("XADD", "other:commands:{1}", "*", "f", "v")),
        *(("GET", "tsx:layout"), ("SUBSCRIBE", "other:events:message-added"), ("PUBLISH", "other:events:x", "")),
    ]
    return [
        *(Attack(words, worker) for words in on_sessions + on_partitions + scripts),
        *(Attack(words, ("consumer", *worker)) for words in on_subscriptions),
        *(Attack(words, () if "other:layout" in words else worker) for words in functions),
        *(Attack(words, worker if words[0] == "PUBSUB" else ()) for words in server),
        # A producer is trusted with these (docs/operations.md): no rule can tell them from the command that it needs.
        Attack(("XADD", of.commands, "MAXLEN", "0", "*", "f", "v"), ("producer", *worker)),
        Attack(("XADD", of.commands, "4102444800000-1", "f", "v"), ("producer", *worker)),
        Attack(("XADD", of.commands, "*", "type", "delete-session"), ("producer", *worker)),
        # The name of its reply channel is random.
        Attack(("SUBSCRIBE", of.reply_channel("another")), ("producer", *worker)),
        Attack(("SUBSCRIBE", of.lost), ("producer", *worker)),
        Attack(("SSUBSCRIBE", of.lost), ("producer", *worker)),
        Attack(("SUBSCRIBE", KEYS.changes), worker),
        Attack(("SUBSCRIBE", KEYS.members("billing").changes), ("consumer", *worker)),
        *(Attack(("PUBLISH", channel, "forged"), worker) for channel in (
            KEYS.event_channel("message-added"), KEYS.session_channel("s"), of.reply_channel("another"), of.lost,
            KEYS.changes,
        )),
        Attack(("SPUBLISH", of.live, "forged"), worker),
        # A member notices by this that another one's connection is closed; consumers wait for the lease instead.
        Attack(("CLIENT", "LIST"), worker),
    ]  # fmt: skip


ATTACKS: Final = attacks()


@pytest.fixture(scope="module")
def server() -> Generator[EmbeddedServer]:
    """A server with the users, and a deployment with sessions whose ids look like keys."""
    with start_embedded_server() as running:
        with Redis.from_url(running.url, protocol=2) as raw:
            for line in filter(None, USERS.read_text().splitlines()):
                _, name, *rules = line.split(" ")
                if name != "default":
                    raw.execute_command("ACL", "SETUSER", name, *_joined(rules))
        asyncio.run(prepare(SETTINGS.at(running.url)))
        yield running


def _joined(words: list[str]) -> list[str]:
    """A selector is one word of ACL SETUSER."""
    text = " ".join(words)
    parts, _, selectors = text.partition(" (")
    return [*parts.split(), *(f"({each.strip(' ()')})" for each in selectors.split(") (") if each)]


async def prepare(settings: Settings) -> None:
    backend = await RedisBackend.open(settings, "worker", throw_away=True, works=True)
    worker = Worker(backend, settings, default_catalogue())
    working = asyncio.create_task(worker.run())
    async with Turnstream.connect(settings=settings) as ts:
        for session_id in ("s", *ODD):
            await ts.execute(CreateSession(CONFIG, session_id))
    worker.stop()
    await working
    await backend.aclose()


@pytest.fixture(scope="module")
def asked(server: EmbeddedServer) -> Generator[Callable[..., object]]:
    """Send a command as a user, or as the operator ("")."""
    clients: dict[str, Redis] = {}

    def ask(user: str, *words: str) -> object:
        if user not in clients:
            name, password = (user, f"change-me-{user}") if user else (None, None)
            once = Retry(NoBackoff(), 0)
            clients[user] = Redis.from_url(server.url, protocol=2, retry=once, username=name, password=password)
        return cast("object", clients[user].execute_command(*words))

    yield ask
    for client in clients.values():
        client.close()


def named(attack: Attack) -> str:
    return " ".join(attack.words)[:70]


def test_there_are_enough_of_them() -> None:
    assert len({attack.words for attack in ATTACKS}) == len(ATTACKS) >= 120


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
@pytest.mark.parametrize("user", NAMES)
def test_only_trusted_users_can_do_it(asked: Callable[..., object], user: str, attack: Attack) -> None:
    if user in attack.trusted:
        assert asked("", "ACL", "DRYRUN", user, *attack.words) in ("OK", b"OK")
        return
    before = state(asked)
    with pytest.raises(redis.ResponseError) as refused:
        asked(user, *attack.words)
    denied = isinstance(refused.value, NoPermissionError)
    assert denied or "ACL failure in script" in str(refused.value)
    assert state(asked) == before


def state(asked: Callable[..., object]) -> object:
    """Return what a refused command must leave as it is."""
    of = partition()
    return [asked("", "DUMP", key) for key in (KEYS.layout, of.commands, of.partition, of.events, of.session("s"))]


@pytest.mark.parametrize("command", ["XADD {} * f v", "FCALL enqueue 1 {}", "HSET {} f v", "SET {} v", "UNLINK {}"])
def test_all_that_a_producer_may_write_are_command_streams_whatever_the_ids_of_sessions_are(
    asked: Callable[..., object], command: str
) -> None:
    keys = {key.decode() for key in cast("list[bytes]", asked("", "KEYS", "*"))}
    streams: set[str] = {of.commands for of in KEYS.partitions} if command[0] in "XF" else set()
    assert keys >= streams
    assert {partition(session_id).session(session_id) for session_id in ODD} <= keys

    def allowed(user: str) -> set[str]:
        words = command.split()
        return {k for k in keys if asked("", "ACL", "DRYRUN", user, *(w.format(k) for w in words)) in ("OK", b"OK")}

    assert allowed("producer") == streams & keys
    assert allowed("subscriber") == set()
    assert all(key.startswith(("ts:subscription:", "ts:names:", "ts:members:")) for key in allowed("consumer"))
