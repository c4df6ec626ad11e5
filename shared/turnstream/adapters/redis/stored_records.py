"""Stored data of a wrong type, or undecodable data: located after a read has failed."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from redis.exceptions import ResponseError

from turnstream.adapters.redis.connection.executor import CommandExecutor
from turnstream.adapters.redis.connection.pipelined import Word
from turnstream.adapters.redis.failures import culprit
from turnstream.errors import StoredDataInvalid

Data = TypeVar("Data")
Value = TypeVar("Value")

UNDECODABLE = (
    *(ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError),
    msgspec.MsgspecError,
)
"""The errors of decoding data that this library has not written."""

QUOTED = re.compile(r"""(['"]).*\1""", re.DOTALL)
"""The quoted data in an error, which is removed: no message content may get into logs."""


class RecordLocation(NamedTuple):
    """A key, the type of what belongs there, and the session that it is about, if it is about one."""

    key: str
    kind: str
    session_id: str | None = None


async def invalid(calls: CommandExecutor, places: Sequence[RecordLocation], error: ResponseError) -> StoredDataInvalid:
    """Return the error that names the one of a failed read's keys for which it failed."""
    by_key = {place.key: place for place in places}
    found = await culprit(calls, {key: place.kind for key, place in by_key.items()})
    if found is None:
        return StoredDataInvalid(places[0].key, f"the server says {error}", places[0].session_id)
    return StoredDataInvalid(found.key, found.reason, by_key[found.key].session_id)


async def read(calls: CommandExecutor, place: RecordLocation, command: str, *words: Word) -> Any:  # noqa: ANN401 - what the server answers
    """Return the server's answer to a command on the key of a place.

    Raises:
        StoredDataInvalid: an unexpected value is stored there.
        Unavailable: the server does not answer.

    """
    try:
        return await calls.call(command, place.key, *words)
    except ResponseError as error:
        raise await invalid(calls, [place], error) from None


def decoded(place: RecordLocation, decode: Callable[[Data], Value], data: Data) -> Value:
    """Return what data of a place says.

    Raises:
        StoredDataInvalid: it cannot be decoded.

    """
    try:
        return decode(data)
    except UNDECODABLE as error:
        why = QUOTED.sub("…", str(error)) if isinstance(error, msgspec.MsgspecError) else type(error).__name__
        raise StoredDataInvalid(place.key, f"it cannot be decoded: {why}", place.session_id) from None


def decoded_fields(
    place: RecordLocation, decode: Callable[[bytes], Value], pairs: Sequence[bytes]
) -> Iterator[tuple[str, Value]]:
    """Yield what the fields of a hash say, each of which is named by a session.

    Raises:
        StoredDataInvalid: one of them cannot be decoded; names its session.

    """
    for name, value in zip(pairs[::2], pairs[1::2], strict=True):
        session_id = decoded(place, bytes.decode, name)
        yield session_id, decoded(place._replace(session_id=session_id), decode, value)
