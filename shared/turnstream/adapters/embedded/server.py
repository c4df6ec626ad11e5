"""The embedded server: start, wait until it answers, stop."""

import asyncio
import fcntl
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import IO, Final, Self

from turnstream.adapters.embedded.binary import find_server
from turnstream.adapters.embedded.process import GuardedProcess
from turnstream.errors import ConfigurationError, TurnstreamError, Unavailable
from turnstream.threads import in_own_thread

_HOST: Final = "127.0.0.1"
_LOG: Final = "server.log"
_LOCK: Final = "server.lock"
_LOG_LINES: Final = 10
_PORT_ATTEMPTS: Final = 5

# Seconds.
_POLL: Final = 0.005
_START_TIMEOUT: Final = 60.0
_STOP_GRACE: Final = 10.0
# A server whose parent was just killed still holds its directory for a moment.
_LOCK_TIMEOUT: Final = 1.0

_SETTINGS: Final = ("--bind", _HOST, "--maxmemory-policy", "noeviction", "--save", "", "--logfile", _LOG)
_THROW_AWAY: Final = ("--appendonly", "no")
_KEPT: Final = ("--appendonly", "yes", "--appendfsync", "everysec")


class EmbeddedServer:
    """A server that belongs to this process and ends with it; use it in `with` or `async with`.

    `url` (`redis://127.0.0.1:<port>`), `port` and `pid` (the server's process id) stay as they are when it is closed.
    """

    def __init__(self, process: GuardedProcess, port: int, grace: float) -> None:
        """Own a running process; `start` and `start_embedded_server` are the ways to get one."""
        self._process = process
        self._closing = threading.Lock()
        self._grace = grace
        self.port = port
        self.pid = process.server.pid
        self.url = f"redis://{_HOST}:{port}"

    @classmethod
    async def start(
        cls,
        directory: Path | None = None,
        *,
        port: int | None = None,
        binary: Path | None = None,
    ) -> "EmbeddedServer":
        """Do what `start_embedded_server` does, in a thread; a cancelled start leaves no server."""
        start = partial(start_embedded_server, directory, port=port, binary=binary)
        starting = asyncio.create_task(in_own_thread(start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(TurnstreamError):
                await (await starting).aclose()
            raise

    def close(self) -> None:
        """Stop the server and remove a throw-away directory; a second call does nothing."""
        with self._closing:
            if self._process.watchdog.returncode is None:
                self._process.stop(self._grace)

    async def aclose(self) -> None:
        """Do what `close` does, in a thread."""
        await in_own_thread(self.close)

    def __enter__(self) -> Self:
        """Return the server, which runs already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the server."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return the server, which runs already."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the server."""
        await self.aclose()


class _PortTakenError(ConfigurationError):
    """Another process took the port between the choice and the start."""


def start_embedded_server(
    directory: Path | None = None,
    *,
    port: int | None = None,
    binary: Path | None = None,
) -> EmbeddedServer:
    """Start a server on 127.0.0.1 and return when it answers (about 50 ms).

    Data in `directory` is kept (append-only file, synced every second); without one, nothing outlives the server.
    `port` defaults to a free one, `binary` as in `find_server`.

    Raises ConfigurationError when there is no server program, the directory is another server's, or the server refuses
    to start, Unavailable when it does not answer within a minute. Source: design §10.
    """
    program = find_server(binary)
    for _ in range(1 if port else _PORT_ATTEMPTS):
        with suppress(_PortTakenError):
            return _start(program, directory, port or _free_port())
    message = f"Port {port} is taken" if port else f"{_PORT_ATTEMPTS} free ports in a row were taken by others"
    raise ConfigurationError(message)


def is_directory_in_use(directory: Path) -> bool:
    """Return whether a running server has its data in the directory."""
    try:
        with (directory / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def is_port_free(port: int) -> bool:
    """Return whether a server can listen on this port of 127.0.0.1."""
    try:
        socket.create_server((_HOST, port)).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def _start(program: Path, directory: Path | None, port: int) -> EmbeddedServer:
    home = (directory or Path(tempfile.mkdtemp(prefix="turnstream-"))).resolve()
    command = (str(program), "--port", str(port), *_SETTINGS, *(_KEPT if directory else _THROW_AWAY))
    with _locked(home) as lock, (home / _LOG).open("ab") as log, ExitStack() as unless_ready:
        start = log.tell()
        process = GuardedProcess.start(command, home, lock=lock, log=log, scratch=directory is None)
        unless_ready.callback(process.stop, grace=0)
        if not _gets_ready(process, port):
            raise _refusal(program, (home / _LOG).read_bytes()[start:].decode(errors="replace"))
        unless_ready.pop_all()
    return EmbeddedServer(process, port, grace=_STOP_GRACE if directory else 0)


def _locked(home: Path) -> IO[bytes]:
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / _LOCK).open("ab")
    except OSError as error:
        message = f"The directory {home} cannot hold a server's data: {error.strerror}"
        raise ConfigurationError(message) from error
    for _ in _ticks(_LOCK_TIMEOUT):
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
    lock.close()
    message = f"Another server works in {home}: connect to it, close it, or choose another directory"
    raise ConfigurationError(message)


def _gets_ready(process: GuardedProcess, port: int) -> bool:
    """Wait until the server answers (true) or has ended (false)."""
    for _ in _ticks(_START_TIMEOUT):
        if process.server.poll() is not None:
            return False
        if _answers(port, process.server.pid):
            return True
    message = f"The embedded server does not answer after {_START_TIMEOUT:g} s"
    raise Unavailable(message)


def _answers(port: int, pid: int) -> bool:
    # A PONG alone proves nothing: when the port was lost to another server, that one answers.
    try:
        with socket.create_connection((_HOST, port), timeout=1) as connection:
            connection.sendall(b"PING\r\nINFO server\r\n")
            answer = connection.recv(4096)
    except OSError:
        return False
    return answer.startswith(b"+PONG") and b"process_id:%d\r\n" % pid in answer


def _refusal(program: Path, log: str) -> ConfigurationError:
    last = "\n".join(log.splitlines()[-_LOG_LINES:])
    message = f"The server {program} ended while it started. Its log says:\n{last}"
    return _PortTakenError(message) if "Failed listening on port" in log else ConfigurationError(message)


def _ticks(timeout: float) -> Iterator[None]:
    """Yield now and every few milliseconds until `timeout` seconds are over."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        yield
        time.sleep(_POLL)
