"""The command line, against a server and a worker process."""

import json
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from tests.e2e.programs import CLI, PARTITIONS, PATIENCE, URL_FORMS, Deployment, Program, Programs, needs_proc, until
from typer.testing import CliRunner, Result

from turnstream import (
    AddMessage,
    ChatMessage,
    ChatMessageRole,
    CreateSession,
    DeleteSession,
    ImageContent,
    MessageContent,
    RemoveMessages,
    SessionConfig,
    TextContent,
    ToolCallContent,
    ToolResultContent,
    UpdateSession,
    UpdateTokenMetrics,
)
from turnstream.adapters.embedded import start_embedded_server
from turnstream.commands import SessionPatch
from turnstream.domain.command_specs import COMMANDS
from turnstream.domain.events import EVENTS
from turnstream.domain.models import partition_of
from turnstream_cli.main import app

COMMAND_LINES = [
    ["get", "some-session"],
    ["list"],
    ["send", "create-session", '{"config": {"provider": "openai", "model": "gpt-4"}}'],
    ["tail"],
    ["worker"],
]


def create(programs: Programs, model: str = "gpt-4", count: int = 1) -> list[str]:
    """Create sessions and return their ids."""
    config = SessionConfig("openai", model)
    return [session.id for session in programs.execute(*(CreateSession(config) for _ in range(count)))]


def add(programs: Programs, session_id: str, *content: MessageContent) -> None:
    message = ChatMessage(
        id=uuid4().hex, role=ChatMessageRole.USER, content=content, created_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    programs.execute(AddMessage(session_id, message))


def typed(*arguments: str) -> Result:
    """Run a command in this process: enough where it connects to nothing."""
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, arguments, prog_name="turnstream")


def done(programs: Programs, *arguments: str, stdin: str = "") -> str:
    """Run a command that must succeed, and return what it prints."""
    result = programs.run(*arguments, stdin=stdin)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(programs: Programs, *arguments: str, status: int = 1, stdin: str = "") -> str:
    """Run a command that must fail, and return its one line."""
    result = programs.run(*arguments, stdin=stdin)
    assert result.returncode == status, result.stderr
    assert result.stdout == ""
    return one_line(result.stderr)


def one_line(errors: str) -> str:
    lines = [line for line in errors.splitlines() if not line.startswith("command id: ")]
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    return lines[0]


def json_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def a_model() -> str:
    """Return a unique model, so that tests may share a deployment."""
    return f"model-{uuid4().hex}"


class TestHelp:
    @pytest.mark.parametrize(
        ("command", "words"),
        [
            (
                [],
                [
                    "demo",
                    "worker",
                    "dev",
                    "send",
                    "get",
                    "list",
                    "tail",
                    "TURNSTREAM_REDIS_URL",
                    "Exit status",
                    *URL_FORMS,
                ],
            ),
            (["demo"], ["--sessions", "--messages", "embedded"]),
            (["worker"], ["--redis-url", "TURNSTREAM_REDIS_URL", "--processes", "--log-level", "SIGTERM"]),
            (["dev"], ["--directory", ".turnstream", "--port", "--processes", "Ctrl-C"]),
            (["send"], ["TYPE", "JSON", "--command-id", "--timeout", "--json", "Examples", *COMMANDS]),
            (["get"], ["SESSION", "--last", "--json", "Example"]),
            (["verify"], ["SESSION", "--json", "never their contents", "exits with 1", "Example"]),
            (["setup"], ["--remove-old", "--json", "every primary", "Example"]),
            (["migrate"], ["--dry-run", "--json", "layout 1", "Stop all workers", "Example"]),
            (["list"], ["--limit", "--cursor", "--provider", "--model", "--active", "--inactive", "--all"]),
            (["tail"], ["--type", "--session", "--json", *EVENTS]),
            (["parked"], ["list", "show", "redrive", "discard", "redrive them", "All other sessions continue"]),
            (["parked", "list"], ["--json", "Example"]),
            (["parked", "show"], ["SESSION", "--json", "contents"]),
            (["parked", "redrive"], ["SESSION", "--json", "in order", "exits with 1"]),
            (["parked", "discard"], ["SESSION", "--all", "--yes", "--json", "cannot be undone"]),
            (["malformed"], ["list", "show", "redrive", "discard", "upgrade the workers"]),
            (["malformed", "redrive"], ["ID", "--json", "again"]),
        ],
    )
    def test_it_lists_the_available_choices(self, command: list[str], words: list[str]) -> None:
        result = typed(*command, "--help")
        assert result.exit_code == 0
        assert [word for word in words if word not in result.output] == []

    def test_it_imports_nothing_heavy(self) -> None:
        code = "import sys, turnstream_cli.main; sys.exit('turnstream' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_version(self, programs: Programs) -> None:
        result = programs.run_apart("--version")
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("turnstream ")

    def test_no_command_shows_the_help(self) -> None:
        assert "Usage: turnstream" in typed().output

    @pytest.mark.parametrize(
        "arguments",
        [["sing"], ["get"], ["list", "--limit", "0"], ["list", "--all", "--cursor", "x"], ["tail", "--type", "x"]],
    )
    def test_a_mistyped_line(self, arguments: list[str]) -> None:
        result = typed(*arguments)
        assert result.exit_code == 2
        assert "Usage: turnstream" in result.stderr
        assert result.stdout == ""


class TestNoServer:
    # A worker waits.
    @pytest.mark.parametrize("arguments", [line for line in COMMAND_LINES if line != ["worker"]])
    def test_one_line_with_a_remedy(self, programs: Programs, arguments: list[str]) -> None:
        line = refused(programs, *arguments, "--redis-url", "redis://me:secret@127.0.0.1:1", status=2)
        assert "redis://me:***@127.0.0.1:1" in line
        assert "TURNSTREAM_REDIS_URL" in line
        assert "secret" not in line

    def test_a_setting_that_does_not_fit(self, programs: Programs) -> None:
        line = refused(programs, "list", "--redis-url", "http://localhost", status=2)
        assert "redis://" in line

    def test_no_worker(self, programs: Programs) -> None:
        line = refused(programs, *COMMAND_LINES[2], "--timeout", "0.1", status=2)
        assert "No worker is registered: start one." in line


class TestSendAndGet:
    def test_for_people(self, shared: Programs) -> None:
        data = {"config": {"provider": "openai", "model": "gpt-4"}, "metadata": {"customer": 7}}
        created = done(shared, "send", "create-session", json.dumps(data))
        for expected in ("openai / gpt-4", "active, version 1", '{"customer":7}'):
            assert expected in created
        session_id = created.split()[1]
        add(shared, session_id, TextContent("What is a monad?\nIn one line."))
        text = done(shared, "get", session_id)
        assert "active, version 2" in text
        assert "  What is a monad?\n  In one line.\n" in text
        assert "\x1b" not in text

    def test_as_json(self, shared: Programs) -> None:
        config, session_id = {"provider": "openai", "model": "gpt-4"}, uuid4().hex
        data = json.dumps({"config": config, "sessionId": session_id})
        (created,) = json_lines(done(shared, "send", "create-session", "-", "--json", stdin=data))
        assert (created["id"], created["version"]) == (session_id, 1)
        add(shared, session_id, TextContent("Hello"))
        (session,) = json_lines(done(shared, "get", session_id, "--json"))
        assert session["config"] == config
        assert [message["content"] for message in session["messages"]] == [[{"type": "text", "text": "Hello"}]]

    def test_every_kind_of_content(self, shared: Programs) -> None:
        (session_id,) = create(shared)
        add(
            shared,
            session_id,
            TextContent("Look"),
            ImageContent(url="https://example.org/a.png"),
            ToolCallContent(tool_call_id="call-1", name="search", args={"query": "x"}),
            ToolResultContent("call-1", "found"),
        )
        text = done(shared, "get", session_id)
        for part in ("Look", "https://example.org/a.png", 'search({"query":"x"})', "result of call-1: found"):
            assert part in text

    def test_message_content_does_not_steer_the_terminal(self, shared: Programs) -> None:
        (session_id,) = create(shared)
        add(shared, session_id, TextContent("[bold]\x1b]0;title\x07 \x9b31m[/bold] \u202e\u2028"))
        assert "[bold]\\x1b]0;title\\x07 \\x9b31m[/bold] \\u202e\\u2028" in done(shared, "get", session_id)

    def test_results_that_are_no_session(self, shared: Programs) -> None:
        (session_id,) = create(shared)
        add(shared, session_id, TextContent("Forget me"))
        removed = json.loads(done(shared, "send", "remove-messages", json.dumps({"sessionId": session_id, "last": 1})))
        assert removed[0]["content"] == [{"type": "text", "text": "Forget me"}]
        the_session = json.dumps({"sessionId": session_id})
        assert "deleted" in done(shared, "send", "delete-session", the_session)
        assert done(shared, "send", "delete-session", the_session, "--json") == "false\n"
        assert "no such session" in done(shared, "send", "get-session", the_session)
        assert "messages" in done(shared, "send", "list-sessions")

    def test_sent_again_under_its_id_it_is_applied_once(self, shared: Programs) -> None:
        (session_id,) = create(shared)
        tokens = json.dumps({"sessionId": session_id, "promptTokens": 5})
        again = ("send", "update-token-metrics", tokens, "--command-id", uuid4().hex, "--json")
        for _ in range(2):
            (session,) = json_lines(done(shared, *again))
            assert (session["version"], session["metrics"]["promptTokens"]) == (2, 5)
        assert "at `id`" in refused(shared, *again[:3], "--command-id", "")

    def test_a_rejection(self, shared: Programs) -> None:
        line = refused(shared, "send", "update-token-metrics", '{"sessionId": "nobody", "promptTokens": 1}')
        assert line == "error: Session not found with ID: nobody"

    def test_a_session_that_is_not_there(self, shared: Programs) -> None:
        assert refused(shared, "get", "nobody") == "error: Session not found with ID: nobody"

    @pytest.mark.parametrize(
        "arguments",
        [
            *(["get"], ["get", "--last", "1"], ["verify"], ["delete", "--yes"], ["tail", "--session"]),
            *(["parked", "show"], ["parked", "redrive"], ["parked", "discard", "--yes"]),
        ],
    )
    def test_invalid_session_ids(self, shared: Programs, arguments: list[str]) -> None:
        line = refused(shared, *arguments, "a\udcff")
        assert line == "error: Expected Unicode text, got a lone surrogate - at `$.sessionId`"

    @pytest.mark.parametrize(
        ("kind", "data", "reason"),
        [
            ("add-message", "{", "JSON"),
            ("add-message", "", "JSON"),
            ("add-message", "{}", "sessionId"),
            ("add-message", '{"sessionId": 1}', "$.sessionId"),
            ("add-message", "[" * 100, "deeper"),
            ("create-session", '{"config": {"provider": "openai", "model": "\udcff"}}', "JSON"),
            ("create-session", '{"config": {"provider": "openai", "model": "gpt-4", "temperature": NaN}}', "JSON"),
            ("make-coffee", "{}", "make-coffee"),
        ],
    )
    def test_values_that_are_no_command(self, shared: Programs, kind: str, data: str, reason: str) -> None:
        assert reason in refused(shared, "send", kind, data)


class TestProcess:
    @pytest.mark.parametrize(
        ("arguments", "stdin", "status"),
        [
            (["send", "get-session", "-"], '{"sessionId": "nobody"}', 0),
            (["get", "nobody"], "", 1),
            (["list", "--redis-url", "redis://127.0.0.1:1"], "", 2),
            (["list", "--limit", "0"], "", 2),
        ],
    )
    def test_a_command_prints_the_same_in_a_separate_process(
        self, shared: Programs, arguments: list[str], stdin: str, status: int
    ) -> None:
        """The tests run most commands in their own process."""
        apart, here = shared.run_apart(*arguments, stdin=stdin), shared.run(*arguments, stdin=stdin)
        assert (apart.returncode, here.returncode) == (status, status)
        assert (apart.stdout, apart.stderr) == (here.stdout, here.stderr)


class TestVerify:
    def test_equal_values(self, shared: Programs) -> None:
        (session_id,) = create(shared)
        add(shared, session_id, TextContent("Hello"))
        line = f"equal: version 2 of {session_id} against its events (2 events, from its creation on)\n"
        assert done(shared, "verify", session_id) == line

    def test_differences(self, programs: Programs, deployment: Deployment) -> None:
        programs.worker()
        (session_id,) = create(programs)
        key = deployment.keys.partitions[partition_of(session_id, PARTITIONS)].session(session_id)
        with redis.Redis.from_url(deployment.url) as client:
            client.hset(key, "metadata", '{"a secret": 1}')
        result = programs.run("verify", session_id)
        assert (result.returncode, result.stderr) == (1, "")
        assert result.stdout.splitlines()[1:] == ["  metadata differs"]
        result = programs.run("verify", session_id, "--json")
        assert (result.returncode, result.stderr) == (1, "")
        assert json_lines(result.stdout) == [
            {
                "sessionId": session_id,
                "version": 1,
                "events": 1,
                "complete": True,
                "historyFrom": 1,
                "differences": [{"path": "metadata", "problem": "differs"}],
            }
        ]

    def test_a_session_that_is_not_there(self, shared: Programs) -> None:
        assert refused(shared, "verify", "nobody") == "error: Session not found with ID: nobody"


class TestList:
    def test_for_people(self, shared: Programs) -> None:
        model = a_model()
        (session_id,) = create(shared, model)
        heading, row = done(shared, "list", "--model", model).splitlines()
        assert heading.split() == ["session", "messages", "updated", "model", "state"]
        cells = row.split()
        assert [*cells[:2], *cells[3:]] == [session_id, "0", "openai", "/", model, "active"]
        assert cells[2].endswith("Z")

    def test_pages(self, shared: Programs) -> None:
        model = a_model()
        ids = create(shared, model, 3)
        first = shared.run("list", "--model", model, "--limit", "2", "--json")
        assert [info["id"] for info in json_lines(first.stdout)] == [ids[2], ids[1]]
        cursor = first.stderr.split("--cursor ")[1].strip()
        second = shared.run("list", "--model", model, "--limit", "2", "--json", "--cursor", cursor)
        assert [info["id"] for info in json_lines(second.stdout)] == [ids[0]]
        assert second.stderr == ""

    def test_all(self, shared: Programs) -> None:
        model = a_model()
        ids = create(shared, model, 3)
        every = json_lines(done(shared, "list", "--all", "--limit", "1", "--model", model, "--json"))
        assert [info["id"] for info in every] == ids
        text = done(shared, "list", "--all", "--model", model)
        assert all(session_id in text for session_id in ids)

    def test_filters(self, shared: Programs) -> None:
        model = a_model()
        active, inactive = create(shared, model, 2)
        shared.execute(UpdateSession(inactive, SessionPatch(is_active=False)))

        def listed(*options: str) -> list[str]:
            found = json_lines(done(shared, "list", "--json", "--model", model, *options))
            return [info["id"] for info in found]

        assert listed("--active") == [active]
        assert listed("--inactive", "--all", "--provider", "openai") == [inactive]
        assert listed("--provider", "nobody") == []

    def test_a_reader_that_leaves_early(self, shared: Programs) -> None:
        with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
            reader.wait()
            assert reader.stdin
            command = [sys.executable, "-m", CLI, "list"]
            result = subprocess.run(
                command,
                env=shared.environment,
                stdout=reader.stdin,
                stderr=subprocess.PIPE,
                check=False,
                timeout=PATIENCE,
            )
            with suppress(BrokenPipeError):
                reader.stdin.close()
        assert result.returncode == 1
        assert result.stderr == b""


class TestTail:
    def test_for_people(self, shared: Programs) -> None:
        tail = listening(shared)
        (session_id,) = create(shared)
        add(shared, session_id, TextContent("What is\na monad?"))
        shared.execute(
            UpdateTokenMetrics(session_id, prompt_tokens=8000),
            RemoveMessages(session_id, last=1),
            DeleteSession(session_id),
        )
        until(lambda: f"session-deleted          {session_id}" in tail.output)
        lines = [line for line in tail.output.splitlines() if session_id in line]
        assert [line.split()[1] for line in lines] == [
            "session-created",
            "message-added",
            "token-metrics-updated",
            "context-window-critical",
            "message-removed",
            "session-deleted",
        ]
        assert lines[0].endswith("openai / gpt-4")
        assert lines[1].endswith("user: What is a monad?")
        assert "98%" in lines[3]
        assert tail.stop(signal.SIGINT) == 0
        assert tail.errors.splitlines() == ["Listening for events; Ctrl-C ends."]

    def test_types_as_json(self, shared: Programs) -> None:
        tail = listening(shared, "--json", "--type", "message-added", "--type", "session-deleted")
        (session_id,) = create(shared)
        add(shared, session_id, TextContent("Hello"))
        shared.execute(DeleteSession(session_id))
        until(lambda: f'"session-deleted","sessionId":"{session_id}"' in tail.output)
        events = [event for event in json_lines(tail.output) if event["sessionId"] == session_id]
        assert [event["type"] for event in events] == ["message-added", "session-deleted"]
        assert events[0]["data"]["message"]["content"] == [{"type": "text", "text": "Hello"}]
        assert tail.stop() == 0

    def test_one_session(self, shared: Programs) -> None:
        watched, other = create(shared, count=2)
        tail = listening(shared, "--session", watched)
        for session_id in (other, watched):
            add(shared, session_id, TextContent("Hello"))
        tail.prints("Hello")
        assert watched in tail.output
        assert other not in tail.output

    def test_past_events(self, shared: Programs) -> None:
        (session_id,) = create(shared)
        add(shared, session_id, TextContent("Hello"))
        tails = [
            listening(shared, *start, "--session", session_id) for start in (["--from-beginning"], ["--since", "1h"])
        ]
        for tail in tails:
            tail.prints("Hello")
        late = listening(shared, "--since", "0s", "--session", session_id)
        add(shared, session_id, TextContent("Bye"))
        for tail in (*tails, late):
            tail.prints("Bye")
        assert "Hello" not in late.output

    @pytest.mark.parametrize("age", ["", "10", "m", "1x", "-1m", "1h 5m", "99999999999d"])
    def test_an_invalid_age(self, age: str) -> None:
        result = typed("tail", "--since", age)
        assert result.exit_code == 2
        assert "is not an age like" in result.output

    def test_a_server_that_comes_back(self, programs: Programs, tmp_path: Path) -> None:
        with start_embedded_server(tmp_path) as server:
            tail = listening(programs, "--redis-url", server.url, "--json", "--log-level", "info")
            port = int(server.url.rpartition(":")[2])
        until(lambda: "subscription interrupted" in tail.errors)
        with start_embedded_server(tmp_path, port=port):
            until(lambda: "subscription resumed" in tail.errors)
            assert tail.stop(signal.SIGINT) == 0
            assert tail.output == ""


class TestWorker:
    def test_it_is_the_worker(self, programs: Programs, deployment: Deployment) -> None:
        worker = programs.start(CLI, "worker", "--processes", "2", environment={"TURNSTREAM_WORKER_ID": "one"})
        until(
            lambda: (
                deployment.workers() == 2
                and deployment.owned_by(**{"one-1": PARTITIONS // 2, "one-2": PARTITIONS // 2})
            )
        )
        assert worker.stop() == 0
        assert deployment.owners() == []


@needs_proc
class TestDev:
    def test_it_keeps_the_data_and_ends_cleanly(self, programs: Programs, tmp_path: Path) -> None:
        dev, url = self.start(programs)
        assert str(tmp_path / ".turnstream") in dev.output
        session = done(programs, *COMMAND_LINES[2], "--json", "--redis-url", url)
        assert dev.stop(signal.SIGINT) == 0
        assert programs.left() == set()

        again, url = self.start(programs, "--processes", "2")
        assert json.loads(session)["id"] in done(programs, "list", "--redis-url", url)
        assert again.stop(signal.SIGTERM) == 0
        assert programs.left() == set()

    def test_a_directory_in_use(self, programs: Programs) -> None:
        self.start(programs, "--directory", "data of mine")
        assert "data of mine, at redis://" in refused(programs, "dev", "--directory", "data of mine", status=2)

    @pytest.mark.slow
    def test_killed_it_leaves_nothing(self, programs: Programs) -> None:
        dev, _ = self.start(programs)
        dev.stop(signal.SIGKILL)
        until(lambda: programs.left() == set())

    def test_workers_that_cannot_work(self, programs: Programs) -> None:
        dev = programs.start(CLI, "dev", environment={"TURNSTREAM_CATALOGUE_FILE": "/nowhere/models.toml"})
        assert dev.status() == 2
        assert "/nowhere/models.toml" in dev.errors
        assert programs.left() == set()

    @staticmethod
    def start(programs: Programs, *arguments: str) -> tuple[Program, str]:
        """Start it, and wait for its URL and its workers."""
        dev = programs.start(CLI, "dev", *arguments)
        dev.prints("Ctrl-C ends")
        dev.says("partitions changed")
        return dev, dev.output.split()[1]


def listening(programs: Programs, *arguments: str) -> Program:
    """Start `tail`, and wait until it is live."""
    tail = programs.start(CLI, "tail", *arguments)
    tail.says("Listening for events")
    return tail
