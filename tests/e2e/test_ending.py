"""How every service ends and starts where things are bad: a server that hangs, standard streams that are closed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from tests.e2e.programs import CLI, PARTITIONS, WORKER, Deployment, Program, Programs, needs_proc, until

from turnstream.adapters.embedded import EmbeddedServer, start_embedded_server
from turnstream_relay.signatures import new_secret

SOON = 15.0
"""Seconds: it is ten, and some for a busy machine; with nothing to bound it, it was forty."""

Start = Callable[[Programs, Deployment, Path], Program]


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """A server that a test may stop."""
    with start_embedded_server() as server:
        try:
            yield server
        finally:
            os.kill(server.pid, signal.SIGCONT)


def worker(programs: Programs, deployment: Deployment, _: Path) -> Program:
    started = programs.worker(deployment=deployment)
    until(lambda: deployment.owned_by(one=PARTITIONS))
    return started


def supervisor(programs: Programs, deployment: Deployment, _: Path) -> Program:
    started = programs.worker("--processes", "2", deployment=deployment)
    until(lambda: deployment.owned_by(**{"one-1": PARTITIONS // 2, "one-2": PARTITIONS // 2}))
    return started


def alerts(programs: Programs, deployment: Deployment, _: Path) -> Program:
    started = programs.start("turnstream_alerts", environment=deployment.environment)
    started.says("partitions changed")
    return started


def relay(programs: Programs, deployment: Deployment, folder: Path) -> Program:
    file = folder / "relay.toml"
    file.write_text('[endpoints.hooks]\nurl = "https://127.0.0.1:1/"\nsecret = { env = "SECRET" }\n')
    environment = {**deployment.environment, "SECRET": new_secret()}
    started = programs.start("turnstream_relay", "run", "--config", str(file), environment=environment)
    started.says("partitions changed")
    return started


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("start", [worker, supervisor, alerts, relay])
def test_sigterm_ends_it_even_if_the_server_hangs(
    programs: Programs, own_server: EmbeddedServer, tmp_path: Path, start: Start
) -> None:
    program = start(programs, Deployment(own_server.url, "ts"), tmp_path)
    os.kill(own_server.pid, signal.SIGSTOP)
    begun = time.monotonic()
    assert program.stop() == 0
    assert time.monotonic() - begun < SOON
    until(lambda: programs.left() == set())


@needs_proc
@pytest.mark.slow
def test_sigterm_ends_its_own_hanging_server(programs: Programs, tmp_path: Path) -> None:
    program = programs.start(CLI, "dev", "--directory", str(tmp_path / "data"))
    program.prints("In another terminal")
    url = program.output.partition("Server:")[2].split()[0]
    with redis.Redis.from_url(url) as raw:
        server = int(raw.info("server")["process_id"])
    os.kill(server, signal.SIGSTOP)
    begun = time.monotonic()
    assert program.stop() == 0
    assert time.monotonic() - begun < SOON
    until(lambda: programs.left() == set())


# ── closed standard streams ──────────────────────────────────────────────────────────────────────────────────────────

CLOSED = ("<&-", "<&- >&- 2>&-")


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("arguments", [[], ["--processes", "2"]], ids=["one", "supervised"])
def test_a_worker_without_standard_streams(
    programs: Programs, deployment: Deployment, closed: str, arguments: list[str]
) -> None:
    environment = {"TURNSTREAM_WORKER_ID": "one", **deployment.environment}
    command = ("/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-P", "-m", WORKER, *arguments)
    program = programs.spawn(command, subprocess.DEVNULL, environment)
    names = ("one-1", "one-2") if arguments else ("one",)
    until(lambda: deployment.owned_by(**dict.fromkeys(names, PARTITIONS // len(names))))
    assert program.stop() == 0
    assert deployment.owners() == []


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("start", ["turnstream_alerts", "turnstream_relay"])
def test_a_subscriber_without_standard_streams(
    programs: Programs, deployment: Deployment, tmp_path: Path, closed: str, start: str
) -> None:
    file = tmp_path / "relay.toml"
    file.write_text('[endpoints.alerts]\nurl = "https://127.0.0.1:1/"\nsecret = { env = "SECRET" }\n')
    arguments = ["run", "--config", str(file)] if start == "turnstream_relay" else []
    name = "relay.alerts" if arguments else "alerts"
    command = ("/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-P", "-m", start, *arguments)
    program = programs.spawn(command, subprocess.DEVNULL, {**deployment.environment, "SECRET": new_secret()})
    with redis.Redis.from_url(deployment.url) as raw:
        leases = [keys.subscription(name).lease for keys in deployment.keys.partitions]
        until(lambda: all(raw.exists(lease) for lease in leases) or program.ended)
        assert program.stop() == 0
        assert not any(raw.exists(lease) for lease in leases)
