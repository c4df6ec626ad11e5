"""The checks on start-up, with errors in plain words (design §11)."""

import asyncio
from itertools import repeat

from turnstream.adapters.redis.connection.addresses import SENTINEL
from turnstream.adapters.redis.membership.leases import raise_failure
from turnstream.adapters.redis.server import ScriptArgs, Server
from turnstream.errors import ConfigurationError, Unavailable
from turnstream.logging import get_logger

log = get_logger(__name__)

OLDEST_WITH_WAITAOF = (7, 2)
OLDEST_SERVER = (7, 0)
"""The first Redis with `#!lua` scripts and exact stream counters; every Valkey has them."""


async def check_servers(server: Server, *, throw_away: bool) -> None:
    """Refuse a server that is too old or forgets keys; warn of one that does not keep them on disk.

    Raises:
        Unavailable: none answers.
        ConfigurationError: a server cannot hold a deployment; says why and what to change.

    """
    primaries = await server.topology.primaries()
    answers = await asyncio.gather(*(calls.call("INFO") for calls in primaries), return_exceptions=True)
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    for failure in failures:
        if len(failures) == len(answers) or not isinstance(failure, Unavailable):
            raise failure
        # The rest of a cluster can be used.
        log.warning("server unavailable", while_="checking it", error=str(failure))
    for info in (_parsed(answer) for answer in answers if isinstance(answer, bytes)):
        if not server.keys.sharded:
            _check_form(info, server.where)
        _check_server(info, server.where)
        _check_durability(info, server)
        if info.get("aof_enabled") == "0" and not throw_away:
            log.warning(
                "server does not keep an append-only file: a crash loses what it last acknowledged",
                server=server.where,
                port=info.get("tcp_port"),
            )


def _check_form(info: dict[str, str], where: str) -> None:
    # Valkey says `server_mode`.
    if "sentinel" in (info.get("redis_mode"), info.get("server_mode")):
        raise ConfigurationError(f"The server at {where} is a Sentinel: name it as in {SENTINEL}")
    if info.get("cluster_enabled") == "1":
        raise ConfigurationError(
            f"The server at {where} is part of a cluster: write redis+cluster:// instead of redis://"
        )


def _check_durability(info: dict[str, str], server: Server) -> None:
    settings = server.settings
    choose = "or set TURNSTREAM_DURABILITY to replicated or memory"
    if settings.durability == "fsync":
        if _version(info) < OLDEST_WITH_WAITAOF:
            raise ConfigurationError(
                f"The server at {server.where} is Redis {info.get('redis_version')}, which has no WAITAOF: for the "
                f"durability fsync take Redis 7.2 or later, or any Valkey, {choose}"
            )
        if info.get("aof_enabled") == "0":
            raise ConfigurationError(
                f"The server at {server.where} keeps no append-only file, so nothing would ever be safe by the "
                f"durability fsync: set appendonly yes there, {choose}"
            )
    elif settings.durability == "replicated" and int(info.get("connected_slaves", "0")) < settings.replicas:
        log.warning(
            "too few replicas are connected: commands are not acknowledged until there are enough",
            server=server.where,
            connected=info.get("connected_slaves"),
            wanted=settings.replicas,
        )


def _version(info: dict[str, str]) -> tuple[int, ...]:
    return tuple(int(part) for part in info.get("redis_version", "0.0").split(".")[:2])


def _check_server(info: dict[str, str], where: str) -> None:
    if _version(info) < OLDEST_SERVER:
        version = info.get("redis_version", "of an unknown version")
        raise ConfigurationError(f"The server at {where} is Redis {version}; Turnstream needs 7.0, or any Valkey")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise ConfigurationError(
            f"The server at {where} evicts keys when memory is full (maxmemory-policy {policy}), which would lose "
            "sessions: set maxmemory-policy noeviction",
        )


async def check_rights(server: Server) -> None:
    """Refuse a user without all permissions of a commit: a commit that fails half-way leaves its first half.

    Raises:
        Unavailable: no server answers.
        ConfigurationError: the user lacks a right; says which.

    """
    # Each node of a cluster has its own users.
    partitions = server.keys.partitions if server.keys.sharded else server.keys.partitions[:1]
    await server.read(0, ScriptArgs())
    refusals = await asyncio.gather(*map(_refused, repeat(server), range(len(partitions))), return_exceptions=True)
    raise_failure(refusals)
    refused = {what for refusal in refusals if not isinstance(refusal, BaseException) for what in refusal}
    if refused:
        raise ConfigurationError(
            f"The server at {server.where} does not permit this user what a worker does: {', '.join(sorted(refused))}; "
            f"give it the rule that `turnstream acl --role worker --namespace {server.settings.namespace}` prints"
        )


async def _refused(server: Server, partition: int) -> list[str]:
    keys = server.partition(partition)
    # The channel has no listeners.
    events = [keys.rights] if server.keys.sharded else server.keys.live_channels(keys, "rights", "rights")
    channels = [*events, keys.reply_channel("rights"), keys.lost_rights]
    answer: list[bytes] = await server.scripts.rights.run(server.calls(partition), [keys.rights], channels)
    return [what.decode() for what in answer]


def _parsed(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode().splitlines())
    return {name: value for name, separator, value in lines if separator}
