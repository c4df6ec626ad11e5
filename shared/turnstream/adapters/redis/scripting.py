"""The Lua scripts beside this file: functions of the library, or run by their hash (design §3, ADR 27)."""

import asyncio
from collections.abc import Sequence
from hashlib import sha1
from typing import Any, Protocol

from redis.exceptions import NoScriptError, ResponseError

from turnstream.adapters.redis.library import Library, read_script
from turnstream.adapters.redis.topology.connection import Word
from turnstream.adapters.redis.topology.routing import Calls
from turnstream.backoff import Backoff
from turnstream.errors import ConfigurationError, Unavailable

MISSING = ("Function not found", "unknown command 'FCALL")
"""What a server says that does not have a function, or no functions at all."""

READS = ("read", "messages", "events")
"""Scripts that write nothing, so a user that may only read can run them."""


class Runs(Protocol):
    """Something written in Lua that runs on a server."""

    async def run(self, calls: Calls, keys: Sequence[str], arguments: Sequence[Word]) -> Any:  # noqa: ANN401
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

    async def run(self, calls: Calls, keys: Sequence[str], arguments: Sequence[Word]) -> Any:  # noqa: ANN401
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

    async def run(self, script: Script, calls: Calls, keys: Sequence[str], arguments: Sequence[Word]) -> list[Any]:
        """Return the script's answer in a list; an empty one where the user may not run scripts."""
        if self._may is None:
            async with self._asking:
                if self._may is None:
                    return await self._tried(script, calls, keys, arguments)
        return await self._tried(script, calls, keys, arguments) if self._may else []

    async def _tried(self, script: Script, calls: Calls, keys: Sequence[str], arguments: Sequence[Word]) -> list[Any]:
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
    """One function of the library; where it is missing, and the user may run scripts, its script is run instead."""

    def __init__(self, library: Library, name: str, fallback: Fallback, patience: float) -> None:
        """Call the function of this name; wait for it up to `patience` seconds where it is missing."""
        self._script = Script(name)
        self._call = f"FCALL{self._script.read_only}"
        self._name = library.function(name)
        self._fallback = fallback
        self._patience = patience

    async def run(self, calls: Calls, keys: Sequence[str], arguments: Sequence[Word]) -> Any:  # noqa: ANN401
        """Call the function and return its answer.

        Raises:
            Unavailable: the server has no such function, and this user may not run scripts.

        """
        clock = asyncio.get_running_loop().time
        deadline, backoff = clock() + self._patience, Backoff()
        while True:
            try:
                return await calls.call(self._call, self._name, len(keys), *keys, *arguments)
            except ResponseError as error:
                if not str(error).startswith(MISSING):
                    raise
            for answer in await self._fallback.run(self._script, calls, keys, arguments):
                return answer
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

        def called(name: str, patience: float = patience) -> Runs:
            fallback = reading if name in READS else writing
            return Script(name, plain=plain) if library is None else Function(library, name, fallback, patience)

        self.library = library
        self.commit: Runs = Script("commit", plain=plain, sharded=sharded)
        self.commit_when_full: Runs = Script("commit", plain=plain, sharded=sharded, when_full=True)
        self.settle: Runs = Script("settle", plain=plain, sharded=sharded)
        self.take: Runs = Script("take", plain=plain)
        self.trim: Runs = Script("trim", plain=plain)
        self.progress: Runs = Script("progress", plain=plain)
        self.lost: Runs = Script("lost", plain=plain, sharded=sharded)
        self.attempt: Runs = Script("attempt", plain=plain)
        self.move: Runs = Script("move", plain=plain)
        self.rights: Runs = Script("rights", plain=plain, sharded=sharded)
        # A lane tries again by itself, until its commands' own deadline.
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
