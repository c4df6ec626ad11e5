"""The server of a deployment: its keys, its executors, and the Lua scripts that run there (design §3, ADR 27)."""

import asyncio
from collections.abc import Iterable, Sequence
from hashlib import sha1
from typing import Any, Protocol

from redis.exceptions import NoScriptError, ResponseError

from turnstream.adapters.redis.connection.cluster import Cluster
from turnstream.adapters.redis.connection.executor import CommandExecutor, Topology
from turnstream.adapters.redis.connection.pipelined import Patience, Word
from turnstream.adapters.redis.function_library import Library, LibraryKeeper, read_script
from turnstream.adapters.redis.keys import Keys, PartitionKeys
from turnstream.adapters.redis.outcome_times import OutcomeBuckets, OutcomeClock
from turnstream.backoff import Backoff
from turnstream.errors import ConfigurationError, Unavailable
from turnstream.settings import Settings

MISSING = ("Function not found", "unknown command 'FCALL")
"""The errors of a server without a function, or without functions at all."""

READS = ("read", "messages", "events")
"""Scripts that write nothing, so a user that may only read can run them."""

MAX_WORDS = 4_000
"""Words of one command inside a script: Lua cannot unpack 8,000."""


class ScriptArgs:
    """The arguments of a script that runs commands: each command as the number of its words, then the words."""

    def __init__(self, words: Iterable[Word] = ()) -> None:
        """Start with the script's other arguments."""
        self.words: list[Word] = list(words)

    def add(self, *command: Word) -> None:
        """Append one command."""
        self.words.append(len(command))
        self.words += command

    def add_many(self, head: Sequence[Word], items: Sequence[Word], group: int = 1) -> int:
        """Append one command with many items after its head, or as many as it takes; a group is never divided.

        Returns:
            How many commands were appended.

        """
        step = (MAX_WORDS - len(head)) // group * group
        starts = range(0, len(items), step)
        for start in starts:
            part = items[start : start + step]
            self.words.append(len(head) + len(part))
            self.words += head
            self.words += part
        return len(starts)

    def add_all(self, commands: Iterable[tuple[Sequence[Word], Sequence[Word], int]]) -> None:
        """Append commands, each given as for `add_many`; one without items is its head."""
        for head, items, group in commands:
            if items:
                self.add_many(head, items, group)
            else:
                self.words.append(len(head))
                self.words += head


def portions_of(items: Sequence[str]) -> list[Sequence[str]]:
    """Divide items, all for one command, into as many portions as one command takes."""
    step = MAX_WORDS - 2
    return [items[start : start + step] for start in range(0, len(items), step)]


class ScriptRunner(Protocol):
    """Something written in Lua that runs on a server."""

    async def run(self, calls: CommandExecutor, keys: Sequence[str], arguments: Sequence[Word]) -> Any:  # noqa: ANN401
        """Run it and return its answer."""
        ...


class Script:
    """One script, run by its hash; a server that does not have it, or has lost it, is given it."""

    def __init__(self, name: str, *, plain: bool = False, sharded: bool = False, when_full: bool = False) -> None:
        """Read `scripts/<name>.lua`.

        Args:
            name: the file's name.
            plain: leave out its `#!lua` header, and run it as any other, for servers that do not know these.
            sharded: publish on channels that lie in the slot of the script's keys.
            when_full: run it on a full server as well, though it does not always do so.

        """
        self.read_only = "_RO" if name in READS and not plain else ""
        self._run = f"EVALSHA{self.read_only}"
        self._load_and_run = f"EVAL{self.read_only}"
        header, body = read_script(name)
        header = f"{header} flags=allow-oom" if when_full else header
        text = body if plain else f"{header}\n{body}"
        # By text, and not by an argument, so that the script of one server does not look at each event.
        self._text = text.replace("'PUBLISH'", "'SPUBLISH'") if sharded else text
        self._hash = sha1(self._text.encode()).hexdigest()  # noqa: S324 - the server's own name for a script

    async def run(self, calls: CommandExecutor, keys: Sequence[str], arguments: Sequence[Word]) -> Any:  # noqa: ANN401
        """Run the script and return its answer."""
        try:
            return await calls.call(self._run, self._hash, len(keys), *keys, *arguments)
        except NoScriptError:
            # In one step, for between a load and a run the scripts can be flushed again.
            return await calls.call(self._load_and_run, self._text, len(keys), *keys, *arguments)


class Fallback:
    """Runs scripts where functions are missing, if the user may; one call finds that out, for all others."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._may: bool | None = None
        self._asking = asyncio.Lock()

    async def run(
        self, script: Script, calls: CommandExecutor, keys: Sequence[str], arguments: Sequence[Word]
    ) -> list[Any]:
        """Return the script's answer in a list; an empty one if the user may not run scripts."""
        if self._may is None:
            async with self._asking:
                if self._may is None:
                    return await self._tried(script, calls, keys, arguments)
        return await self._tried(script, calls, keys, arguments) if self._may else []

    async def _tried(
        self, script: Script, calls: CommandExecutor, keys: Sequence[str], arguments: Sequence[Word]
    ) -> list[Any]:
        try:
            answer = await script.run(calls, keys, arguments)
        except ConfigurationError as error:
            if "'eval" not in str(error):
                raise
            self._may = False
            return []
        self._may = True
        return [answer]


class Function:
    """One function of the library; if it is missing and the user may run scripts, its script is run instead."""

    def __init__(self, library: Library, name: str, fallback: Fallback, patience: float) -> None:
        """Call the function of this name; wait for it up to `patience` seconds where it is missing."""
        self._script = Script(name)
        self._call = f"FCALL{self._script.read_only}"
        self._name = library.function(name)
        self._fallback = fallback
        self._patience = patience

    async def run(self, calls: CommandExecutor, keys: Sequence[str], arguments: Sequence[Word]) -> Any:  # noqa: ANN401
        """Call the function and return its answer.

        Raises:
            Unavailable: the server has no such function, and this user may not run scripts.

        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._patience
        backoff: Backoff | None = None
        while True:
            try:
                return await calls.call(self._call, self._name, len(keys), *keys, *arguments)
            except ResponseError as error:
                if not str(error).startswith(MISSING):
                    raise
            for answer in await self._fallback.run(self._script, calls, keys, arguments):
                return answer
            backoff = backoff or Backoff()
            delay = backoff.failed()
            if clock() + delay > deadline:
                raise Unavailable(
                    f"The server does not have the function {self._name}: start a worker of this version, which loads "
                    "it, or run `turnstream setup`"
                )
            await asyncio.sleep(delay)


class Scripts:
    """All scripts of the adapter: those of the library as its functions, or none where a host has no functions."""

    def __init__(
        self, *, plain: bool = False, sharded: bool = False, library: Library | None = None, patience: float = 0.0
    ) -> None:
        """Read them from the package.

        Args:
            plain: for servers that know no `#!lua` header.
            sharded: publish on channels that lie in the slot of a script's keys.
            library: call its functions; `None` runs all by their hash.
            patience: seconds to wait for a function that is missing.

        """
        reading, writing = Fallback(), Fallback()

        def called(name: str, patience: float = patience) -> ScriptRunner:
            fallback = reading if name in READS else writing
            return Script(name, plain=plain) if library is None else Function(library, name, fallback, patience)

        self.library = library
        self.commit: ScriptRunner = Script("commit", plain=plain, sharded=sharded)
        self.commit_when_full: ScriptRunner = Script("commit", plain=plain, sharded=sharded, when_full=True)
        self.settle: ScriptRunner = Script("settle", plain=plain, sharded=sharded)
        self.take: ScriptRunner = Script("take", plain=plain)
        self.trim: ScriptRunner = Script("trim", plain=plain)
        self.progress: ScriptRunner = Script("progress", plain=plain)
        self.lost: ScriptRunner = Script("lost", plain=plain, sharded=sharded)
        self.attempt: ScriptRunner = Script("attempt", plain=plain)
        self.move: ScriptRunner = Script("move", plain=plain)
        self.rights: ScriptRunner = Script("rights", plain=plain, sharded=sharded)
        # The sender of a partition retries until the deadline of its commands.
        self.enqueue = called("enqueue", 0.0)
        self.enqueue_freeing = called("enqueue_freeing", 0.0)
        self.read = called("read")
        self.messages = called("messages")
        self.events = called("events")
        self.requeue = called("requeue")
        self.beat = called("beat")
        self.renew = called("renew")
        self.release = called("release")
        self.forget = called("forget")
        self.subscription_take = called("subscription_take")
        self.checkpoint = called("checkpoint")
        self.park = called("park")
        self.unpark = called("unpark")
        self.postpone = called("postpone")
        self.hasten = called("hasten")
        self.reset = called("reset")


class Server:
    """The server or the servers that hold a deployment."""

    def __init__(
        self, settings: Settings, topology: Topology, scripts: Scripts, *, knows_replication: bool = True
    ) -> None:
        """Describe them; nothing is opened yet. `knows_replication` if there is a replication id to check."""
        self.settings = settings
        self.topology = topology
        self.scripts = scripts
        self.functions = LibraryKeeper(scripts.library)
        self.knows_replication = knows_replication
        self.where = settings.masked_url
        self.patience = patience_of(settings)
        self.keys = Keys(settings.namespace, settings.partitions, sharded=isinstance(topology, Cluster))
        self.buckets = OutcomeBuckets(settings.deduplication_window)
        self.mismatch: ConfigurationError | None = None
        """Why the keys of this deployment are not those of its workers, once that is known."""
        self._clocks: dict[int, OutcomeClock] = {}
        self._calls = [topology.calls(keys.partition) for keys in self.keys.partitions]

    def partition(self, number: int) -> PartitionKeys:
        """Return the keys of a partition."""
        return self.keys.partitions[number]

    def calls(self, partition: int) -> CommandExecutor:
        """Return what takes the commands on the keys of a partition.

        Raises:
            ConfigurationError: the deployment was created with other partitions since.

        """
        if self.mismatch:
            raise self.mismatch
        return self._calls[partition]

    def clock(self, partition: int) -> OutcomeClock:
        """Return the time by which the outcomes of a partition are kept that is owned here."""
        if partition not in self._clocks:
            self._clocks[partition] = OutcomeClock(self.settings.deduplication_window)
        return self._clocks[partition]

    def declared(self, partition: int, *keys: str) -> tuple[str, ...]:
        """Return the keys to name for a script that touches others as well.

        While the keys of a slot are on their way to another node, a script that meets one that is gone, or not there
        yet, fails half-way. A key that never exists, named beforehand, has the server refuse such a script as a whole.
        """
        return (*keys, self.partition(partition).absent) if self.keys.sharded else keys

    async def read(self, partition: int, reads: ScriptArgs) -> list[Any]:
        """Return the answers to several reads of a partition, as of one moment."""
        keys = self.declared(partition, self.partition(partition).partition)
        answers: list[Any] = await self.scripts.read.run(self.calls(partition), keys, reads.words)
        return answers


def patience_of(settings: Settings) -> Patience:
    """Return how long connections wait."""
    return Patience(settings.response_timeout, settings.heartbeat)
