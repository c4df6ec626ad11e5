"""The migration from layout 1 to layout 2: every key gets its new name, in the same slot (ADR 27).

It works offline, in steps that can be repeated: after an interrupted run, the next one continues. From the first step
to the last, the layout key marks the migration, so that no program starts.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from redis.exceptions import ResponseError

from turnstream.adapters.redis.backend import server_at
from turnstream.adapters.redis.connection.executor import CommandExecutor
from turnstream.adapters.redis.failures import understood
from turnstream.adapters.redis.keys import LAYOUT, FormerKey, FormerKeys, MemberKeys
from turnstream.adapters.redis.membership.registry import Registry
from turnstream.adapters.redis.pubsub.channels import RedisChannels
from turnstream.adapters.redis.server import Server
from turnstream.errors import ConfigurationError
from turnstream.settings import Settings

PAGE: Final = 500
"""Keys that the server looks at in one call."""

ENTRIES: Final = 500
BYTES: Final = 1024 * 1024
"""The entries of a stream that one call moves."""

SHOWN: Final = 10
"""Keys that an error names."""

REWRITTEN: Final = ("commands", "malformed", "parked")
"""The kinds of streams whose entries name reply channels."""


class Migration(msgspec.Struct, rename="camel"):
    """How far a migration is."""

    partitions: int
    dry_run: bool
    status: str = "running"
    """`running`, then `done`, or `nothing to do`."""
    keys: dict[str, int] = msgspec.field(default_factory=dict)
    """How many keys were renamed, or are to be, by kind."""
    entries: int = 0
    """Waiting, parked and malformed entries among them."""
    others: int = 0
    """Keys that look like those of layout 1 and are not: they are left as they are."""


async def migrate(settings: Settings, *, dry_run: bool = False) -> AsyncGenerator[Migration]:
    """Rename the keys of a deployment; yield the progress at intervals, always in the same object.

    Args:
        settings: where the deployment is; its number of partitions is read there.
        dry_run: count only, and write nothing.

    Raises:
        Unavailable: the server does not answer; run it again.
        ConfigurationError: there is no deployment of layout 1, it is in use, or another key is in the way.

    """
    first = server_at(settings, "turnstream-migrate")
    async with aclosing(first.topology):
        partitions, layout = await _made(first)
        settings = replace(settings, partitions=partitions)
        server = Server(settings, first.topology, first.scripts)
        if layout == str(LAYOUT) and not await _has_former_keys(server):
            yield Migration(partitions, dry_run, "nothing to do")
            return
        work = _Renaming(server, Migration(partitions, dry_run))
        if not dry_run:
            await _lock(server, layout)
        async for _ in work.passes():
            yield work.state
        if not dry_run:
            await _set_layout(server, str(LAYOUT))
        work.state.status = "done"
        yield work.state


async def _made(server: Server) -> tuple[int, str]:
    key, calls = server.keys.layout, server.topology.calls(server.keys.layout)
    made: bytes | None = await understood(calls.call("GET", key), calls, {key: "string"})
    if made is None:
        raise ConfigurationError(
            f"There is no deployment at {server.where} in the namespace {server.settings.namespace}: set "
            "TURNSTREAM_NAMESPACE to your namespace"
        )
    partitions, _, layout = made.decode(errors="replace").partition(" ")
    if layout not in (str(FormerKeys.LAYOUT), FormerKeys.MIGRATING, str(LAYOUT)) or not partitions.isdecimal():
        raise ConfigurationError(
            f"The deployment at {server.where} has layout {layout or 'of an unknown kind'}; this program knows 1 and "
            "2: upgrade it"
        )
    return int(partitions), layout


async def _has_former_keys(server: Server) -> bool:
    """Return whether a program of the former layout has written after a migration."""
    look = _Renaming(server, Migration(len(server.keys.partitions), dry_run=True))
    async for _ in look.passes():
        pass
    return bool(look.state.keys)


async def _lock(server: Server, layout: str) -> None:
    """Keep all programs from starting; one that was quicker is seen by the second look."""
    await _refuse_while_used(server)
    await _set_layout(server, FormerKeys.MIGRATING)
    try:
        await _refuse_while_used(server)
    except ConfigurationError:
        await _set_layout(server, layout)
        raise


async def _set_layout(server: Server, layout: str) -> None:
    key = server.keys.layout
    await server.topology.calls(key).call("SET", key, f"{len(server.keys.partitions)} {layout}")


async def _refuse_while_used(server: Server) -> None:
    """Refuse while a worker or a consumer is alive: it would not find what it writes."""
    former = FormerKeys(server.settings.namespace, len(server.keys.partitions))
    listed = [former.subscriptions, server.keys.subscriptions]
    names = {name.decode() for key in listed for name in await server.topology.calls(key).call("SMEMBERS", key)}
    registries = {
        server.keys.workers: "workers",
        **{
            key: f"members of the subscription {name}"
            for name in names
            for key in (former.members(name), server.keys.members(name).members)
        },
    }
    for key, what in registries.items():
        living = await Registry(server, RedisChannels(server), MemberKeys(key, "")).living()
        if living:
            raise _used(f"{len(living)} {what} live ({', '.join(sorted(living)[:SHOWN])})")
    for number in range(len(server.keys.partitions)):
        leases = [server.partition(number).lease, *former.leases(number, sorted(names))]
        if await server.calls(number).call("EXISTS", *leases):
            raise _used(f"Partition {number} has an owner, or had one a moment ago")


def _used(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{why}: stop all workers, consumers and producers, wait until their leases have run out, and run "
        "`turnstream migrate` again"
    )


class _Renaming:
    """Looks at all keys, again until a look finds none of the former layout."""

    def __init__(self, server: Server, state: Migration) -> None:
        self.state = state
        self._server = server
        self._former = FormerKeys(server.settings.namespace, state.partitions)
        self._in_the_way: set[bytes] = set()

    async def passes(self) -> AsyncGenerator[None]:
        """Yield after each page.

        Raises:
            ConfigurationError: another key has the new name already.

        """
        found = True
        while found:
            before = sum(self.state.keys.values())
            self.state.others = 0
            for primary in await self._server.topology.primaries():
                async for keys in self._pages(primary):
                    await self._rename(keys)
                    yield
            found = sum(self.state.keys.values()) > before and not self.state.dry_run
        if self._in_the_way:
            named = ", ".join(repr(key.decode(errors="replace")) for key in sorted(self._in_the_way)[:SHOWN])
            raise ConfigurationError(
                f"{len(self._in_the_way)} keys cannot get their new name, for something else has it ({named}): look "
                "at it, rename or delete it, and run `turnstream migrate` again"
            )

    async def _pages(self, primary: CommandExecutor) -> AsyncGenerator[Sequence[bytes]]:
        cursor: bytes | int = 0
        while True:
            cursor, keys = await primary.call("SCAN", cursor, "MATCH", self._former.pattern, "COUNT", PAGE)
            # A look can find a key twice.
            yield sorted(set(keys))
            if int(cursor) == 0:
                return

    async def _rename(self, keys: Sequence[bytes]) -> None:
        read = {key: self._former.read(key) for key in keys}
        self.state.others += sum(former is None for former in read.values())
        known = {key: former for key, former in read.items() if former is not None}
        work = self._counted if self.state.dry_run else self._renamed
        done = await asyncio.gather(*(work(key, former) for key, former in known.items()))
        counts = Counter(former.kind for former, one in zip(known.values(), done, strict=True) if one)
        for kind, count in counts.items():
            self.state.keys[kind] = self.state.keys.get(kind, 0) + count

    async def _counted(self, key: bytes, former: FormerKey) -> bool:
        if former.kind in REWRITTEN and await self._call(former, "TYPE", key) == b"stream":
            entries: int = await self._call(former, "XLEN", key)
            self.state.entries += entries
        return True

    async def _renamed(self, key: bytes, former: FormerKey) -> bool:
        """Rename a key; False if that is not possible, or was done before."""
        if former.kind in REWRITTEN and former.partition is not None:
            return await self._moved(key, former, former.partition)
        try:
            if former.kind == "partition" and await self._call(former, "HEXISTS", key, "layout"):
                await self._call(former, "HSET", key, "layout", LAYOUT)
            renamed: int = await self._call(former, "RENAMENX", key, former.now)
        except ResponseError as error:
            if "no such key" in str(error):
                return False
            raise ConfigurationError(f"The key {key.decode(errors='replace')!r} cannot be renamed: {error}") from error
        if not renamed:
            self._in_the_way.add(former.now)
        return bool(renamed)

    async def _moved(self, key: bytes, former: FormerKey, partition: int) -> bool:
        move, calls = self._server.scripts.move, self._server.calls(partition)
        arguments = (self._former.replies(partition), ENTRIES, BYTES)
        names: list[Any] = [key, former.now]
        while isinstance(moved := await move.run(calls, names, arguments), int):
            self.state.entries += moved
        if moved == b"TAKEN":
            self._in_the_way.add(former.now)
        return bool(moved == b"RENAMED")

    async def _call(self, former: FormerKey, *words: bytes | str | int) -> Any:  # noqa: ANN401 - whatever it answers
        server = self._server
        calls = (
            server.topology.calls(server.keys.subscriptions)
            if former.partition is None
            else server.calls(former.partition)
        )
        return await calls.call(*words)
