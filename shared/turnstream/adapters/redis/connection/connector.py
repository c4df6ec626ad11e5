"""Opening a connection, and the meaning of its errors (design §11): no silent retries, no unbounded time-outs."""

import asyncio
import math
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from turnstream.errors import ConfigurationError, ServerFull, Unavailable

Connector = Callable[[], AbstractConnection]
"""Makes a new connection, not yet open."""

Open = Callable[[], Awaitable[AbstractConnection]]
"""Opens a new connection; raises `Unavailable` or `ConfigurationError`."""

TRANSIENT = (
    *(RedisConnectionError, RedisTimeoutError, ReadOnlyError),
    *(MasterDownError, ClusterDownError, TryAgainError),
)
TRANSIENT_CODES = ("NOREPLICAS", "BUSY", "MISCONF", "UNBLOCKED")
"""Transient error replies (design §4): those that redis-py knows, and others by their first word."""

DENIED_IN_SCRIPTS = ("ACL failure in script", "The user executing the script can't")
"""The errors of Redis 7.2 and Valkey, and of Redis 7.0, for a script whose user may not run one of its commands."""


async def opened(connect: Connector, where: str) -> AbstractConnection:
    """Open a connection, all that the two sides say first included, within the time that it was made with.

    Raises:
        Unavailable: no server answers there.
        ConfigurationError: the server does not let this user in, or its certificate is not trusted.

    """
    connection = connect()
    seconds = cast("float | None", getattr(connection, "socket_connect_timeout", None))
    try:
        # redis-py waits so long for the connection only, and without end for the first answers.
        async with asyncio.timeout(seconds):
            await connection.connect()
    except asyncio.CancelledError:
        await connection.disconnect(nowait=True)
        raise
    except TimeoutError:
        await connection.disconnect(nowait=True)
        raise Unavailable(
            f"The server at {where} did not answer within {seconds:g} s, as the connection was opened"
        ) from None
    except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
        raise ConfigurationError(f"The server at {where} refuses the user or the password: {error}") from error
    except (RedisError, OSError) as error:
        untrusted = _certificate_failure(error)
        if untrusted:
            raise ConfigurationError(
                f"The certificate of the server at {where} is not trusted ({untrusted.verify_message}): name the "
                "authority that signed it in the URL, as in rediss://…?ssl_ca_certs=ca.pem",
            ) from error
        raise Unavailable(f"No server answers at {where} ({error}): start one, or set TURNSTREAM_REDIS_URL") from error
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # `asyncio.wait_for`, which a library may have used, swallows it before Python 3.12.
        await connection.disconnect(nowait=True)
        raise asyncio.CancelledError
    return connection


def _certificate_failure(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the reason why a server's certificate was refused, if it was the cause of an error."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


async def answer(connection: AbstractConnection) -> Any:  # noqa: ANN401 - whatever the server answers
    """Return the next answer on a connection, however long it takes; an error reply is raised."""
    read = cast("Callable[..., Awaitable[Any]]", connection.read_response)
    return await read(timeout=math.inf)


def cut(connection: AbstractConnection) -> None:
    """End a connection at once; its user, if it has one, learns of it as of any loss."""
    writer = connection._writer  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    if writer is not None:
        writer.transport.abort()
        connection._close()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def raise_for(error: RedisError) -> NoReturn:
    """Raise what a failed call means to the application; other error replies are bugs and stay what they are."""
    text = str(error)
    if isinstance(error, OutOfMemoryError) or text.startswith("OOM"):
        raise ServerFull from error
    if isinstance(error, TRANSIENT) or text.startswith(TRANSIENT_CODES):
        raise Unavailable(f"The server cannot take this now: {text}") from error
    if isinstance(error, NoPermissionError) or any(denied in text for denied in DENIED_IN_SCRIPTS):
        raise ConfigurationError(f"The server does not permit this user a command it needs: {text}") from error
    raise error
