"""What an error of the server means that no script and no caller knows: something else stands at a key."""

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
    for key, wanted in types.items():
        try:
            found: bytes = await calls.call("TYPE", key)
        except (Unavailable, ConfigurationError, ResponseError):
            # What this user may not ask.
            return None
        if found.decode() not in (wanted, "none"):
            return KeyUnusable(key, f"it is a {found.decode()} and not a {wanted}")
    return None
