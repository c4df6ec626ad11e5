"""Translates unexpected errors of the server: in most cases a key has another type, because of another program.

The error of a script does not name the key. So only after a failure the types of its keys are read.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TypeVar

from redis.exceptions import ResponseError

from turnstream.adapters.redis.connection.executor import CommandExecutor
from turnstream.errors import ConfigurationError, KeyUnusable, Unavailable

Answer = TypeVar("Answer")


async def understood(answer: Awaitable[Answer], calls: CommandExecutor, types: Mapping[str, str]) -> Answer:
    """Await a reply of the server and return it.

    Args:
        answer: the reply to await.
        calls: the executor for the keys.
        types: the keys that the command uses, each with its type.

    Raises:
        KeyUnusable: the server replied with an error that is not temporary.

    """
    try:
        return await answer
    except ResponseError as error:
        raise await unusable(error, calls, types) from None


async def unusable(error: ResponseError, calls: CommandExecutor, types: Mapping[str, str]) -> KeyUnusable:
    """Return the error to raise: it names the key that has another type, or all possible keys."""
    return await culprit(calls, types) or KeyUnusable(" or ".join(types), str(error))


async def culprit(calls: CommandExecutor, types: Mapping[str, str]) -> KeyUnusable | None:
    """Return the error for the first key of another type; `None` if there is none, or the types cannot be read."""
    try:
        answers: list[bytes] = await asyncio.gather(*(calls.call("TYPE", key) for key in types))
    except (Unavailable, ConfigurationError, ResponseError):
        # The user may lack the permission for TYPE.
        return None
    for (key, wanted), found in zip(types.items(), answers, strict=True):
        if found.decode() not in (wanted, "none"):
            return KeyUnusable(key, f"it is a {found.decode()}, expected a {wanted}")
    return None
