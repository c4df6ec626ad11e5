"""What an error of the server means that no script and no caller knows: something else stands at a key.

A failed script does not say which of its keys it is about. So the keys' types are asked for then, and only then.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TypeVar

from redis.exceptions import ResponseError

from turnstream.adapters.redis.topology.routing import Calls
from turnstream.errors import ConfigurationError, KeyUnusable, Unavailable

Answer = TypeVar("Answer")


async def understood(answer: Awaitable[Answer], calls: Calls, types: Mapping[str, str]) -> Answer:
    """Return an answer.

    Args:
        answer: what is waited for.
        calls: the way to the keys.
        types: the keys that it needs, each with its type.

    Raises:
        KeyUnusable: the server answers with an error that does not pass by itself.

    """
    try:
        return await answer
    except ResponseError as error:
        raise await unusable(error, calls, types) from None


async def unusable(error: ResponseError, calls: Calls, types: Mapping[str, str]) -> KeyUnusable:
    """Return what an error means: it names the key that has another type, or all that it can be."""
    return await culprit(calls, types) or KeyUnusable(" or ".join(types), str(error))


async def culprit(calls: Calls, types: Mapping[str, str]) -> KeyUnusable | None:
    """Return the error for the first key that has another type than it should; `None` where that cannot be said."""
    try:
        answers: list[bytes] = await asyncio.gather(*(calls.call("TYPE", key) for key in types))
    except (Unavailable, ConfigurationError, ResponseError):
        # What this user may not ask.
        return None
    for (key, wanted), found in zip(types.items(), answers, strict=True):
        if found.decode() not in (wanted, "none"):
            return KeyUnusable(key, f"it is a {found.decode()}, expected a {wanted}")
    return None
