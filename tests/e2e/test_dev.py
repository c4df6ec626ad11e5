"""`turnstream dev` has a stable address, and other commands find it in the directory."""

import os
import shlex
import signal
import socket
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.e2e.programs import CLI, Program, Programs, needs_proc, until

URL_VARIABLE = "TURNSTREAM_REDIS_URL"
NO_SERVER = "redis://localhost:6379"


@pytest.fixture
def anywhere(tmp_path: Path) -> Generator[Programs]:
    """Programs that are given no server."""
    started = Programs(tmp_path, {"HOME": str(tmp_path)})
    try:
        yield started
    finally:
        started.close()


def start_dev(programs: Programs, *arguments: str) -> tuple[Program, str]:
    """Start it, and wait until it has printed its address."""
    dev = programs.start(CLI, "dev", "--log-level", "error", *arguments)
    dev.prints("Ctrl-C ends")
    return dev, dev.output.split()[1]


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@needs_proc
class TestAddress:
    def test_it_stays_and_other_commands_find_it(self, anywhere: Programs, tmp_path: Path) -> None:
        dev, url = start_dev(anywhere)
        said = anywhere.run("say", "chat-1", "user", "Hello", "--create")
        assert said.returncode == 0, said.stderr
        assert f"note: connecting to turnstream dev at {url}, found in {tmp_path / '.turnstream'}" in said.stderr

        second = anywhere.run("dev")
        assert second.returncode == 2
        assert second.stderr == f"error: turnstream dev already runs in {tmp_path / '.turnstream'}, at {url}\n"

        assert dev.stop(signal.SIGINT) == 0
        dev, again = start_dev(anywhere)
        assert again == url
        (tmp_path / "below" / "it").mkdir(parents=True)
        below = Programs(tmp_path / "below" / "it", {})
        got = below.run("get", "chat-1")
        assert "Hello" in got.stdout
        assert url in got.stderr

    def test_the_commands_that_it_prints_work(self, anywhere: Programs) -> None:
        dev, url = start_dev(anywhere)
        lines = [line.strip() for line in dev.output.splitlines() if line.startswith("  ")]
        assert f"export {URL_VARIABLE}={url}" in lines
        typed = [line for line in lines if " say " in line or " get " in line]
        assert len(typed) == 2
        for line in typed:
            command = anywhere.spawn(shlex.split(line), stdin=-3)
            assert command.status() == 0, command.errors

    def test_option_and_environment_come_first(self, anywhere: Programs) -> None:
        start_dev(anywhere)
        other = "redis://127.0.0.1:1"
        assert "127.0.0.1:1 " in anywhere.run("list", "--redis-url", other).stderr
        anywhere.environment[URL_VARIABLE] = other
        result = anywhere.run("list")
        assert "127.0.0.1:1 " in result.stderr
        assert "note:" not in result.stderr

    def test_the_file_is_private_and_goes_with_the_server(self, anywhere: Programs, tmp_path: Path) -> None:
        dev, _ = start_dev(anywhere)
        directory = tmp_path / ".turnstream"
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "dev.json").stat().st_mode & 0o777 == 0o600
        assert dev.stop(signal.SIGTERM) == 0
        assert not (directory / "dev.json").exists()
        assert NO_SERVER in anywhere.run("list").stderr

    def test_a_file_that_a_killed_one_left(self, anywhere: Programs, tmp_path: Path) -> None:
        dev, url = start_dev(anywhere)
        dev.stop(signal.SIGKILL)
        until(lambda: anywhere.left() == set())
        result = anywhere.run("list")
        assert result.returncode == 2
        assert result.stderr.startswith(f"error: {tmp_path / '.turnstream' / 'dev.json'} is left from a turnstream dev")
        assert start_dev(anywhere)[1] == url

    def test_a_port_that_another_program_has_by_now(self, anywhere: Programs) -> None:
        dev, url = start_dev(anywhere)
        dev.stop(signal.SIGINT)
        with socket.create_server(("127.0.0.1", port_of(url))):
            dev, other = start_dev(anywhere)
        assert other != url
        assert f"port {port_of(url)} of the last time is taken" in dev.errors

    def test_an_address_that_others_could_have_written(self, anywhere: Programs, tmp_path: Path) -> None:
        start_dev(anywhere)
        file = tmp_path / ".turnstream" / "dev.json"
        for path, mode in ((file.parent, 0o777), (file, 0o644)):
            kept = path.stat().st_mode & 0o777
            path.chmod(mode)
            result = anywhere.run("list")
            assert f"note: ignored {file}: {path} is open to other users" in result.stderr
            assert NO_SERVER in result.stderr
            path.chmod(kept)
        assert anywhere.run("list").returncode == 0

    @pytest.mark.parametrize("content", ["", "{}", '{"url": 1}', "\xff", "[" * 1000])
    def test_a_file_with_other_content(self, anywhere: Programs, tmp_path: Path, content: str) -> None:
        directory = tmp_path / ".turnstream"
        directory.mkdir(mode=0o700)
        (directory / "dev.json").touch(mode=0o600)
        (directory / "dev.json").write_text(content, encoding="latin-1")
        result = anywhere.run("list")
        assert result.returncode == 2
        assert "is left from a turnstream dev that has ended" in result.stderr
        assert "Traceback" not in result.stderr

    @pytest.mark.parametrize("other", ["link", "pipe"])
    def test_what_is_not_a_file(self, anywhere: Programs, tmp_path: Path, other: str) -> None:
        directory = tmp_path / ".turnstream"
        directory.mkdir(mode=0o700)
        if other == "link":
            (directory / "dev.json").symlink_to("/etc/hostname")
        else:
            os.mkfifo(directory / "dev.json", 0o600)
        assert anywhere.run("list").returncode == 2
