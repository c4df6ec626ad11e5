"""`turnstream relay …`, with a worker and an HTTP server on loopback."""

import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from tests.contract.chats import CONFIG
from tests.e2e.programs import PARTITIONS, Deployment, Program, Programs, until
from tests.e2e.relays import RELAY, write_file
from tests.relay.receiver import Behaviour, Received, Receiver, Reply, always
from tests.relay.threads import in_thread
from tests.relay.written import endpoint
from typer.testing import CliRunner

from turnstream import CreateSession, UpdateTokenMetrics
from turnstream.adapters.embedded import start_embedded_server
from turnstream_relay.main import app

NAME = "billing"
FILE = ("--config", "relay.toml")
NOWHERE = ("--redis-url", "redis://me:hidden@127.0.0.1:1")


def refusing(*sessions: str, status: int = 500) -> Behaviour:
    """Answer events of these sessions with an error."""

    def behave(received: Received) -> Reply:
        return Reply(status if received.body.get("sessionId") in sessions else 200)

    return behave


@pytest.fixture
def receiver() -> Generator[Receiver]:
    with in_thread(Receiver()) as serving:
        yield serving


@pytest.fixture
def file(tmp_path: Path, receiver: Receiver) -> Path:
    """A file with one endpoint, for the folder in which programs run."""
    return write_file(tmp_path, {NAME: receiver}, attempts="2", max_backoff="0.1")


@pytest.fixture
def relay(programs: Programs, deployment: Deployment, file: Path) -> Program:
    """A relay that has begun everywhere."""
    programs.worker("--log-level", "warning")
    running = programs.start(RELAY, "run", *FILE, "--report-every", "1")
    until(lambda: begun(deployment) == PARTITIONS)
    return running


def begun(deployment: Deployment) -> int:
    """Return in how many partitions the endpoint has a place."""
    with redis.Redis.from_url(deployment.url) as client:
        states = [keys.subscription(f"relay.{NAME}").state for keys in deployment.keys.partitions]
        return sum(client.hexists(state, "sequence") for state in states)


def typed(programs: Programs, *words: str, status: int = 0) -> str:
    """Run `turnstream-relay …` to its end, and return what it printed."""
    ended = programs.run_relay(*words)
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout if status == 0 or not ended.stderr else ended.stderr


def logged(program: Program, event: str) -> Iterator[dict[str, Any]]:
    lines = (msgspec.json.decode(line, type=dict[str, Any]) for line in program.errors.splitlines())
    return (line for line in lines if line["event"] == event)


def reports(relay: Program) -> Iterator[dict[str, Any]]:
    """Return what the relay has reported of its endpoint so far."""
    return logged(relay, "endpoint report")


def happen(programs: Programs, *sessions: str) -> None:
    """Have two events of each session."""
    programs.execute(*(CreateSession(CONFIG, session) for session in sessions))
    programs.execute(*(UpdateTokenMetrics(session, prompt_tokens=10) for session in sessions))


def types_of(receiver: Receiver, session: str) -> list[str]:
    return [received.body["type"] for received in list(receiver.taken) if received.body.get("sessionId") == session]


BOTH = ["session-created", "token-metrics-updated"]


class TestHelp:
    @pytest.mark.parametrize(
        ("command", "words"),
        [
            ([], ["run", "check", "replay", "secret", "parked", "Exit status", "Standard Webhooks"]),
            (["run"], ["--config", "--report-every", "--redis-url", "--log-level", "SIGTERM", "SIGHUP"]),
        ],
    )
    def test_it_is_reached_by_the_command_of_all(
        self, programs: Programs, command: list[str], words: list[str]
    ) -> None:
        shown = programs.run("relay", *command, "--help").stdout
        assert "Usage: turnstream relay" in shown
        assert [word for word in words if word not in shown] == []

    @pytest.mark.parametrize(
        ("command", "words"),
        [
            (["check"], ["--config", "ping"]),
            (["replay"], ["--config", "--endpoint", "--since", "again"]),
            (["secret"], ["Print a new secret"]),
            (["parked"], ["list", "redrive", "discard", "Other sessions"]),
            (["parked", "list"], ["--endpoint", "--json"]),
            (["parked", "redrive"], ["SESSION", "--endpoint", "--timeout", "in order"]),
            (["parked", "discard"], ["SESSION", "--endpoint", "--timeout", "--yes"]),
        ],
    )
    def test_each_command_documents_itself(self, command: list[str], words: list[str]) -> None:
        result = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, [*command, "--help"])
        assert result.exit_code == 0
        assert [word for word in words if word not in result.output] == []

    def test_without_its_libraries_the_message_names_the_extra_to_install(self) -> None:
        code = "import sys; sys.modules['httpx2'] = None; from turnstream_relay.main import main; main()"
        command = [sys.executable, "-c", code, "check", *FILE]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 2
        assert result.stderr.startswith("error: httpx2 is not installed; ")
        assert "pip install 'turnstream[relay]'" in result.stderr

    def test_it_imports_nothing_heavy(self) -> None:
        code = "import sys, turnstream_relay.main; sys.exit('turnstream' in sys.modules or 'httpx2' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)


class TestMisfits:
    @pytest.mark.parametrize(
        "command",
        [
            ["run"],
            ["check"],
            ["parked", "redrive", "--endpoint", NAME],
        ],
        ids=" ".join,
    )
    def test_a_file_that_does_not_fit(self, programs: Programs, tmp_path: Path, command: list[str]) -> None:
        (tmp_path / "relay.toml").write_text(f'[endpoints.{NAME}]\nurl = "https://example.com"\nsecret = "whsec_mine"')
        ended = programs.run("relay", *command, *FILE)
        assert ended.returncode == 2
        assert ended.stderr.startswith(
            "error: relay.toml does not fit:\n  endpoints.billing.secret (what deliveries are sig"
        )
        assert "whsec_mine" not in ended.stderr

    @pytest.mark.parametrize(
        "command",
        [
            ["run"],
            ["replay", "--endpoint", NAME, "--since", "1h"],
            ["parked", "list"],
        ],
        ids=" ".join,
    )
    def test_no_server(self, programs: Programs, file: Path, command: list[str]) -> None:
        errors = typed(programs, *command, *FILE, *NOWHERE, status=2)
        assert "error: No server answers at redis://me:***@127.0.0.1:1" in errors
        assert len(errors.splitlines()) == 1

    def test_an_invalid_endpoint(self, programs: Programs, file: Path) -> None:
        for command in (["replay", "--since", "1h"], ["parked", "list"]):
            errors = typed(programs, *command, *FILE, "--endpoint", "biling", status=2)
            assert errors == "error: There is no endpoint 'biling' in the file; there are billing\n"

    def test_an_invalid_age(self, programs: Programs, file: Path) -> None:
        assert "is not an age like" in typed(
            programs, "replay", *FILE, "--endpoint", NAME, "--since", "yesterday", status=2
        )

    def test_an_endpoint_that_no_relay_ever_delivered_to(self, programs: Programs, file: Path) -> None:
        assert typed(programs, "parked", "list", *FILE, "--json") == ""
        errors = typed(programs, "replay", *FILE, "--endpoint", NAME, "--since", "1h", status=1)
        assert "There is no subscription 'relay.billing'" in errors


class TestCheck:
    def test_the_result_for_each_endpoint(self, programs: Programs, tmp_path: Path, receiver: Receiver) -> None:
        with in_thread(Receiver(always(Reply(503, body=b"hidden")))) as failing:
            file = write_file(tmp_path, {NAME: receiver, "audit": failing})
            inside = endpoint("allow_http = true", name="inside", url=receiver.url, secret="{ file = 'audit.secret' }")
            file.write_text(file.read_text() + inside)
            lines = typed(programs, "check", *FILE, status=1).splitlines()
        assert lines[:2] == ["billing: ok, HTTP 200", "audit: failed, HTTP 503"]
        assert lines[2].startswith("inside: failed, localhost is at ")
        (ping,) = receiver.taken
        assert (ping.body["type"], ping.body["id"], ping.body["data"]) == ("ping", ping.id, {})

    def test_it_takes_the_secret_that_was_made_for_it(self, programs: Programs, tmp_path: Path, file: Path) -> None:
        secret = typed(programs, "secret")
        assert secret.startswith("whsec_")
        assert secret != typed(programs, "secret")
        with in_thread(Receiver(secret=secret.strip())) as mine:
            write_file(tmp_path, {NAME: mine})
            assert typed(programs, "check", *FILE) == "billing: ok, HTTP 200\n"


class TestRun:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_delivers_until_it_is_stopped(
        self, programs: Programs, relay: Program, receiver: Receiver, number: int
    ) -> None:
        happen(programs, "chat-1")
        until(lambda: types_of(receiver, "chat-1") == BOTH)
        until(lambda: any(line["delivered"] == 2 and line["lag"] == 0 for line in logged(relay, "endpoint report")))
        assert relay.stop(number) == 0
        assert [line["endpoints"] for line in logged(relay, "relay started")] == [[NAME]]
        assert len(list(logged(relay, "relay stopped"))) == 1
        assert receiver.secret.removeprefix("whsec_") not in relay.errors
        assert receiver.url not in relay.errors
        assert receiver.forged == 0

    def test_a_disabled_endpoint_gets_nothing_until_then(
        self, programs: Programs, relay: Program, receiver: Receiver
    ) -> None:
        receiver.behaviour = always(Reply(410))
        happen(programs, "chat-1")
        relay.says("endpoint is gone, and gets nothing more until the configuration is read again")
        until(lambda: any(line["gone"] for line in logged(relay, "endpoint report")))
        receiver.behaviour = refusing()
        relay.send(signal.SIGHUP)
        until(lambda: types_of(receiver, "chat-1") == BOTH)
        assert relay.stop() == 0

    def test_it_ends_while_it_connects(self, programs: Programs, file: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
            running = programs.start(RELAY, "run", *FILE, "--redis-url", url)
            silent.settimeout(60)
            connection, _ = silent.accept()
            with connection:
                assert running.stop() == 0

    def test_a_server_that_goes_away_is_waited_for(self, programs: Programs, file: Path) -> None:
        with start_embedded_server() as server:
            elsewhere = Deployment(server.url, "ts")
            programs.environment.update(elsewhere.environment)
            running = programs.start(RELAY, "run", *FILE, "--report-every", "1")
            until(lambda: begun(elsewhere) == PARTITIONS)
        running.says("server unavailable")
        assert running.stop() == 0


class TestOperating:
    def test_events_refused_by_an_endpoint_are_listed_redriven_and_discarded(
        self, programs: Programs, relay: Program, receiver: Receiver
    ) -> None:
        receiver.behaviour = refusing("chat-1", "chat-2")
        happen(programs, "chat-1", "chat-2", "chat-3")
        until(lambda: types_of(receiver, "chat-3") == BOTH)
        until(lambda: [line["events"] for line in parked(programs)] == [2, 2])
        until(lambda: (2, 4) in [(line.get("parked_sessions"), line.get("parked_events")) for line in reports(relay)])
        first = next(line for line in parked(programs) if line["sessionId"] == "chat-1")
        assert (first["endpoint"], first["reason"], first["lost"]) == (NAME, "HTTP 500", 0)
        assert int(str(first["attempts"])) >= 2
        assert "HTTP 500" in typed(programs, "parked", "list", *FILE)

        redrive = ("parked", "redrive", *FILE, "--endpoint", NAME)
        assert typed(programs, *redrive, "chat-1", status=1) == "chat-1: 2 events still wait\n"
        receiver.behaviour = refusing("chat-2")
        # A redrive begins the attempts again, and it needs no second one.
        until(lambda: [line["sessionId"] for line in parked(programs)] == ["chat-2"])
        assert types_of(receiver, "chat-1") == BOTH
        assert "has not parked the session" in typed(programs, *redrive, "chat-1", status=1)

        discard = ("parked", "discard", *FILE, "--endpoint", NAME, "chat-2", "--yes")
        assert typed(programs, *discard) == "discarded\n"
        assert parked(programs) == []
        assert types_of(receiver, "chat-2") == []

    def test_the_last_hour_is_delivered_again(self, programs: Programs, relay: Program, receiver: Receiver) -> None:
        happen(programs, "chat-1")
        until(lambda: types_of(receiver, "chat-1") == BOTH)
        told = typed(programs, "replay", *FILE, "--endpoint", NAME, "--since", "1h")
        assert told.startswith("billing gets the events since ")
        until(lambda: types_of(receiver, "chat-1") == BOTH * 2)
        assert receiver.ids[:2] == receiver.ids[2:]
        assert relay.stop() == 0

    def test_no_worker_does_it(self, programs: Programs, relay: Program, receiver: Receiver) -> None:
        receiver.behaviour = refusing("chat-1")
        happen(programs, "chat-1")
        until(lambda: [line["events"] for line in parked(programs)] == [2])
        assert relay.stop() == 0
        command = ("parked", "redrive", *FILE, "--endpoint", NAME, "chat-1", "--timeout", "0.1")
        assert typed(programs, *command, status=2).startswith("error: ")


def parked(programs: Programs) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in typed(programs, "parked", "list", *FILE, "--json").splitlines()]
