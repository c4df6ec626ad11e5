"""The commands on sessions, as a user types them: with as little as possible, and with mistakes."""

import json
import re
from typing import Any
from uuid import uuid4

import pytest
from tests.e2e.programs import PARTITIONS, Programs
from typer.testing import CliRunner

from turnstream.messages import new_id
from turnstream_cli.main import app
from turnstream_cli.options import RoleName

USER = {"role": "user", "content": "hi"}


def done(programs: Programs, *words: str, stdin: str = "") -> str:
    result = programs.run(*words, stdin=stdin)
    assert result.returncode == 0, result.stderr
    return result.stdout


def as_json(programs: Programs, *words: str) -> Any:  # noqa: ANN401 - any result
    (line,) = done(programs, *words, "--json").splitlines()
    return json.loads(line)


@pytest.fixture
def chat(shared: Programs) -> str:
    session_id = f"chat-{uuid4().hex}"
    done(shared, "send", "create-session", json.dumps({"sessionId": session_id}))
    return session_id


class TestSend:
    def test_a_message_without_id_time_or_array(self, shared: Programs, chat: str) -> None:
        result = shared.run("send", "add-message", json.dumps({"sessionId": chat, "message": USER}))
        assert result.returncode == 0, result.stderr
        command_id = result.stderr.removeprefix("command id: ").strip()
        (message,) = as_json(shared, "get", chat)["messages"]
        assert message["id"] == command_id
        assert message["content"] == [{"type": "text", "text": "hi"}]

    def test_a_resend_is_applied_once(self, shared: Programs, chat: str) -> None:
        line = ("send", "add-message", json.dumps({"sessionId": chat, "message": USER}), "--command-id", new_id())
        assert [as_json(shared, *line)["version"] for _ in range(2)] == [2, 2]
        another = json.dumps({"sessionId": chat, "message": {**USER, "content": "bye"}})
        result = shared.run("send", "add-message", another, *line[3:])
        assert (result.returncode, "used before with another payload" in result.stderr) == (1, True)

    def test_the_command_id_under_json(self, shared: Programs, chat: str) -> None:
        command_id = new_id()
        tokens = json.dumps({"sessionId": chat, "promptTokens": 1})
        result = shared.run("send", "update-token-metrics", tokens, "--command-id", command_id, "--json")
        assert json.loads(result.stderr) == {"commandId": command_id}

    def test_an_id_without_a_time(self, shared: Programs, chat: str) -> None:
        line = ("send", "add-message", json.dumps({"sessionId": chat, "message": USER}), "--command-id", "order-17")
        result = shared.run(*line)
        assert result.returncode == 1
        assert "not a UUIDv7 - at `$.message.createdAt`" in result.stderr

    def test_a_new_session_needs_nothing(self, shared: Programs) -> None:
        session = as_json(shared, "send", "create-session")
        assert session["config"] == {"provider": "openai", "model": "gpt-4"}

    def test_a_mistyped_field(self, shared: Programs) -> None:
        config = {"provider": "openai", "model": "gpt-4", "temprature": 2}
        line = ("send", "create-session", json.dumps({"config": config}))
        warning, _ = shared.run(*line).stderr.splitlines()
        assert warning == ("warning: there is no field $.config.temprature, it is ignored; did you mean temperature?")
        record = json.loads(shared.run(*line, "--json").stderr.splitlines()[0])
        assert (record["path"], record["suggestion"]) == ("$.config.temprature", "temperature")

    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_a_mistyped_type_is_refused_before_a_connection(self, options: list[str]) -> None:
        result = CliRunner().invoke(app, ["send", "add-mesage", "--redis-url", "redis://127.0.0.1:1", *options])
        assert result.exit_code == 1
        assert "did you mean add-message? The types are create-session, " in result.stderr
        assert not options or json.loads(result.stderr)["error"] == "InvalidCommand"


class TestSay:
    def test_a_message_is_added(self, shared: Programs, chat: str) -> None:
        text = done(shared, "say", chat, "user", "What is a monad?")
        message_id = re.fullmatch(rf"added user message (\S+) to session {chat}, now version 2\n", text)
        assert message_id
        (message,) = as_json(shared, "get", chat)["messages"]
        assert (message["id"], message["role"]) == (message_id[1], "user")
        assert message["content"] == [{"type": "text", "text": "What is a monad?"}]

    def test_the_text_can_be_on_standard_input(self, shared: Programs, chat: str) -> None:
        done(shared, "say", chat, "assistant", "-", stdin="A monoid\nof endofunctors.\n")
        (message,) = as_json(shared, "get", chat)["messages"]
        assert message["content"][0]["text"] == "A monoid\nof endofunctors.\n"

    def test_a_session_is_created_on_request_only(self, shared: Programs) -> None:
        session_id = uuid4().hex
        result = shared.run("say", session_id, "user", "hi")
        assert (result.returncode, "Session not found" in result.stderr) == (1, True)
        line = ("say", session_id, "user", "hi", "--create", "--model", "gpt-4o")
        assert f"created session {session_id}\n" in done(shared, *line)
        assert "created" not in done(shared, *line)
        session = as_json(shared, "get", session_id)
        assert (session["config"]["model"], len(session["messages"])) == ("gpt-4o", 2)

    def test_repeated_under_its_id_it_is_said_once(self, shared: Programs) -> None:
        session_id, command_id = uuid4().hex, new_id()
        line = ("say", session_id, "user", "hi", "--create", "--command-id", command_id)
        said = [as_json(shared, *line) for _ in range(2)]
        same = {"sessionId": session_id, "messageId": command_id, "version": 2}
        assert said == [{**same, "created": True}, {**same, "created": False}]

    def test_a_role_that_does_not_exist(self) -> None:
        result = CliRunner().invoke(app, ["say", "s", "usr", "hi"])
        assert (result.exit_code, "assistant" in result.output) == (2, True)


class TestGetAndDelete:
    def test_the_last_messages(self, shared: Programs, chat: str) -> None:
        for text in "abc":
            done(shared, "say", chat, "user", text)
        session = as_json(shared, "get", chat, "--last", "2")
        assert [message["content"][0]["text"] for message in session["messages"]] == ["b", "c"]
        text = done(shared, "get", chat, "--last", "2")
        assert re.search(r"^messages +the last 2$", text, re.MULTILINE)
        assert not re.search(r" $", text, re.MULTILINE)

    def test_delete(self, shared: Programs, chat: str) -> None:
        result = shared.run("delete", chat)
        assert (result.returncode, result.stdout) == (2, "")
        assert f"Delete session {chat} with all its messages? This cannot be undone" in result.stderr
        assert "--yes" in result.stderr
        assert done(shared, "delete", chat, "--yes") == f"deleted session {chat}\n"
        result = shared.run("delete", chat, "--yes", "--json")
        assert (result.returncode, json.loads(result.stderr)["error"]) == (1, "SessionNotFound")

    def test_deleted_as_json(self, shared: Programs, chat: str) -> None:
        assert as_json(shared, "delete", chat, "--yes") == {"sessionId": chat, "status": "deleted"}


class TestTail:
    def test_it_ends_after_the_past_events(self, shared: Programs, chat: str) -> None:
        for text in "ab":
            done(shared, "say", chat, "user", text)
        for line in (["--from-beginning", "--no-follow"], ["--no-follow"], ["--no-follow", "--since", "1h"]):
            rows = done(shared, "tail", *line, "--session", chat).splitlines()
            assert [row.split()[1] for row in rows] == ["session-created", "message-added", "message-added"]
            assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", row) for row in rows)

    def test_it_ends_after_a_number_of_events(self, shared: Programs, chat: str) -> None:
        done(shared, "say", chat, "user", "a")
        for line in (["--no-follow"], ["--from-beginning"]):
            (row,) = done(shared, "tail", *line, "--session", chat, "--limit", "1").splitlines()
            assert "session-created" in row

    def test_it_says_that_there_is_none(self, shared: Programs, chat: str) -> None:
        line = ("tail", "--no-follow", "--session", chat, "--type", "session-deleted")
        result = shared.run(*line)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "No events.\n")
        result = shared.run(*line, "--json")
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["list", "--model", "none"], "No session is found.\n"),
        (["list", "--all", "--model", "none"], "No session is found.\n"),
        (["parked", "list"], "No session is parked.\n"),
        (["malformed", "list"], "No entry is malformed.\n"),
        (["subscriptions", "list"], "There are no durable subscriptions.\n"),
    ],
)
def test_an_empty_list_says_so(shared: Programs, words: list[str], text: str) -> None:
    result = shared.run(*words)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", text)
    result = shared.run(*words, "--json")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "words",
    [
        ["delete", "s"],
        ["parked", "discard", "s"],
        ["parked", "discard", "s", "--all"],
        ["malformed", "discard", "0:1-1"],
        ["subscriptions", "discard", "billing", "s"],
        ["subscriptions", "forget", "billing"],
        ["subscriptions", "reset", "billing", "--to", "now"],
        ["migrate"],
    ],
)
class TestConfirmation:
    """Without a server: a command that is not confirmed does not connect to one."""

    def run(self, words: list[str], answer: str | None, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
        if answer is not None:
            monkeypatch.setattr("turnstream_service.confirmation.stdin_is_terminal", lambda: True)
        result = CliRunner().invoke(app, [*words, "--redis-url", "redis://127.0.0.1:1"], answer)
        return result.exit_code, result.stderr

    def test_without_a_terminal_it_is_refused(self, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        status, errors = self.run(words, None, monkeypatch)
        assert status == 2
        assert errors.endswith("This cannot be undone: confirm it with --yes\n")
        status, errors = self.run([*words, "--json"], None, monkeypatch)
        assert (status, json.loads(errors)["error"]) == (2, "ConfirmationRequired")

    def test_on_a_terminal_it_asks(self, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        status, errors = self.run(words, "n\n", monkeypatch)
        assert (status, "This cannot be undone. [y/N]" in errors, "Aborted" in errors) == (1, True, True)
        status, errors = self.run(words, "y\n", monkeypatch)
        assert (status, "127.0.0.1:1" in errors) == (2, True)

    def test_yes_asks_nothing(self, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        status, errors = self.run([*words, "--yes"], None, monkeypatch)
        assert (status, "127.0.0.1:1" in errors, "undone" in errors) == (2, True, False)


def test_the_workers_are_listed(shared: Programs, programs: Programs) -> None:
    (heading, row) = done(shared, "workers").splitlines()
    assert heading.split() == ["worker", "partitions", "heartbeat"]
    assert row.split()[:2] == ["one", str(PARTITIONS)]
    assert (as_json(shared, "workers")["name"], as_json(shared, "workers")["partitions"]) == ("one", PARTITIONS)
    done(programs, "setup")
    assert programs.run("workers").stderr == "No worker is running: start one with turnstream worker.\n"


def test_rules_as_json() -> None:
    result = CliRunner().invoke(app, ["acl", "--json"])
    rules = {rule["role"]: rule["rule"] for rule in map(json.loads, result.stdout.splitlines())}
    assert {*rules} == {*RoleName}
    assert all("user " in rule for rule in rules.values())


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("turnstream del", "delete"),
        ("turnstream send add-messa", "add-messages"),
        ("turnstream tail --type session-d", "session-deleted"),
        ("turnstream say chat-1 assi", "assistant"),
        ("turnstream subscriptions forg", "forget"),
    ],
)
def test_the_shell_completes(typed: str, completed: str) -> None:
    words = {"_TURNSTREAM_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    result = CliRunner(env=words).invoke(app, [], prog_name="turnstream")
    assert completed in result.stdout.split()


def test_the_completion_of_a_shell_can_be_shown() -> None:
    result = CliRunner().invoke(app, ["--show-completion", "bash"], prog_name="turnstream")
    assert "_TURNSTREAM_COMPLETE=complete_bash" in result.stdout
