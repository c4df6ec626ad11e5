"""The Lua scripts beside this file, run by their hash (design §3)."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from turnstream.adapters.redis.topology.connection import Word
from turnstream.adapters.redis.topology.routing import Calls


class Script:
    """One script; a server that does not have it, or has lost it, is given it."""

    def __init__(self, name: str, *, reads: bool = False, plain: bool = False, sharded: bool = False) -> None:
        """Read `scripts/<name>.lua`.

        Args:
            name: the file's name.
            reads: it writes nothing, so a user that may only read can run it.
            plain: leave out its `#!lua` header, and run it as any other, for servers that do not know these.
            sharded: publish on channels that lie in the slot of the script's keys.

        """
        read_only = "_RO" if reads and not plain else ""
        self._run = f"EVALSHA{read_only}"
        self._load_and_run = f"EVAL{read_only}"
        text = files("turnstream.adapters.redis").joinpath("scripts", f"{name}.lua").read_text()
        text = text.partition("\n")[2] if plain else text
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


class Scripts:
    """All scripts of the adapter."""

    def __init__(self, *, plain: bool = False, sharded: bool = False) -> None:
        """Read them from the package."""
        self.commit = Script("commit", plain=plain, sharded=sharded)
        self.settle = Script("settle", plain=plain, sharded=sharded)
        self.read = Script("read", reads=True, plain=plain)
        self.messages = Script("messages", reads=True, plain=plain)
        self.events = Script("events", reads=True, plain=plain)
        self.enqueue = Script("enqueue", plain=plain)
        self.take = Script("take", plain=plain)
        self.renew = Script("renew", plain=plain)
        self.release = Script("release", plain=plain)
        self.subscription_take = Script("subscription_take", plain=plain)
        self.checkpoint = Script("checkpoint", plain=plain)
        self.park = Script("park", plain=plain)
        self.unpark = Script("unpark", plain=plain)
        self.reset = Script("reset", plain=plain)
        self.trim = Script("trim", plain=plain)
        self.progress = Script("progress", plain=plain)
        self.lost = Script("lost", plain=plain, sharded=sharded)
        self.attempt = Script("attempt", plain=plain)
        self.requeue = Script("requeue", plain=plain)
        self.rights = Script("rights", plain=plain, sharded=sharded)
        self.beat = Script("beat", plain=plain)
        self.forget = Script("forget", plain=plain)
