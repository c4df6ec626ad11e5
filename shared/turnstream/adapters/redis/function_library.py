"""The function library that producers, readers, consumers and operators call instead of running scripts (ADR 27).

Its functions run with their caller's permissions. The callers of each:

| function | called by |
|---|---|
| enqueue, enqueue_freeing | producers |
| read, messages, events | producers, readers, consumers, operators; workers |
| subscription_take, checkpoint, park, unpark, postpone, hasten | consumers |
| beat, renew, release, forget | consumers, workers |
| reset | operators and consumers, to set a subscription's checkpoints |
| requeue | operators, to redrive a malformed entry |

All other scripts are run by workers alone, by their hash.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

from redis.exceptions import ResponseError

from turnstream.adapters.redis.connection.executor import CommandExecutor
from turnstream.errors import ConfigurationError, Unavailable
from turnstream.logging import get_logger

log = get_logger(__name__)

FUNCTIONS: Final = (
    *("enqueue", "enqueue_freeing", "read", "messages", "events", "requeue"),
    *("beat", "renew", "release", "forget"),
    *("subscription_take", "checkpoint", "park", "unpark", "postpone", "hasten", "reset"),
)
"""The scripts that are functions of the library."""

PREFIX: Final = "turnstream_"
ANY_VERSION: Final = re.compile(rf"{PREFIX}[0-9a-f]{{8}}")
_VERSION_DIGITS: Final = 8


def read_script(name: str) -> tuple[str, str]:
    """Return the header of `scripts/<name>.lua` and what follows it."""
    header, _, body = files("turnstream.adapters.redis").joinpath("scripts", f"{name}.lua").read_text().partition("\n")
    return header, body


class Library:
    """The text of the library, under a name that follows from its content: versions live side by side."""

    def __init__(self) -> None:
        """Put it together from the scripts' files."""
        parts = {name: read_script(name) for name in FUNCTIONS}
        digest = sha256("\n".join(text for part in parts.values() for text in part).encode())
        self.version = digest.hexdigest()[:_VERSION_DIGITS]
        self.name = f"{PREFIX}{self.version}"
        self.text = f"#!lua name={self.name}\n" + "".join(self._function(name, *part) for name, part in parts.items())

    def function(self, name: str) -> str:
        """Return the name under which a script of the library is called."""
        return f"{PREFIX}{name}_{self.version}"

    async def load(self, primary: CommandExecutor) -> bool:
        """Load it onto a primary, which copies it to its replicas; False where it was there.

        Raises:
            Unavailable: the server does not answer, or is full.
            ConfigurationError: the server does not let this user load functions.

        """
        if self.name in await versions_on(primary):
            return False
        try:
            await primary.call("FUNCTION", "LOAD", self.text)
        except ResponseError as error:
            if "already exists" not in str(error):
                raise ConfigurationError(
                    f"The server cannot load Turnstream's functions ({error}): set TURNSTREAM_SCRIPTS to evalsha"
                ) from error
            # Another worker was quicker.
            return False
        return True

    def _function(self, name: str, header: str, body: str) -> str:
        flags = ", ".join(f"'{flag}'" for flag in header.partition("flags=")[2].split(",") if flag)
        return (
            f"\nredis.register_function{{function_name = '{self.function(name)}', flags = {{{flags}}}, "
            f"callback = function(KEYS, ARGV)\n{body}end}}\n"
        )


@cache
def library() -> Library:
    """Return the library of this version of Turnstream."""
    return Library()


async def versions_on(primary: CommandExecutor) -> set[str]:
    """Return the names of the library's versions that a server has.

    Raises:
        ConfigurationError: it has no functions, or does not let this user list them.

    """
    try:
        listed: list[list[Any]] = await primary.call("FUNCTION", "LIST", "LIBRARYNAME", f"{PREFIX}*")
    except ResponseError as error:
        raise ConfigurationError(f"The server has no functions ({error}): set TURNSTREAM_SCRIPTS to evalsha") from error
    described: list[Mapping[bytes, Any]] = [dict(zip(words[::2], words[1::2], strict=True)) for words in listed]
    names = {about[b"library_name"].decode() for about in described}
    return {name for name in names if ANY_VERSION.fullmatch(name)}


class LibraryKeeper:
    """Has a worker keep the library on every primary; without it callers wait, or run the scripts themselves."""

    def __init__(self, kept: Library | None) -> None:
        """Keep this library; `None` where a host has no functions."""
        self._library = kept
        self._warned = ""

    async def keep(self, primaries: Sequence[CommandExecutor]) -> None:
        """Load the library where it is missing; log a failure once, because commands are applied without it."""
        if self._library is None:
            return
        answers = await asyncio.gather(*map(self._library.load, primaries), return_exceptions=True)
        failures: set[str] = set()
        for answer in answers:
            if isinstance(answer, (Unavailable, ConfigurationError)):
                failures.add(str(answer))
            elif isinstance(answer, BaseException):
                raise answer
        self._warn("; ".join(sorted(failures)))
        loaded = answers.count(True)
        if loaded:
            log.info("functions loaded", library=self._library.name, servers=loaded)

    def _warn(self, failures: str) -> None:
        if failures and failures != self._warned:
            log.warning("functions cannot be loaded: producers without the right to run scripts wait", error=failures)
        self._warned = failures
