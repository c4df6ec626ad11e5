"""Every command of the command lines, whatever state the server and its data are in: one line, and an exit status."""

import asyncio
import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from msgspec.structs import replace
from redis import Redis
from tests.contract.chats import a_session, id_in
from tests.contract.deployments import client_of
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.workers import worker_of
from tests.integration.test_unreadable import HELD, SECRET, key_of
from tests.relay.written import SECRET as RELAY_SECRET
from tests.relay.written import endpoint, write
from typer.testing import CliRunner

from turnstream.adapters.embedded import EmbeddedServer
from turnstream.adapters.embedded.server import _free_port
from turnstream.adapters.redis.keys import Keys
from turnstream.codec.errors import encode_error
from turnstream.errors import CommandTimeout, InvalidCommand, SessionNotFound, StoredDataInvalid
from turnstream.settings import Settings
from turnstream_cli.main import app
from turnstream_relay.main import app as relay

SESSION = id_in(0, 1)
ENTRY = "0:1-1"

COMMANDS: dict[str, list[str]] = {
    "get": ["get", SESSION, "--json"],
    "verify": ["verify", SESSION, "--json"],
    "list": ["list", "--json"],
    "list all": ["list", "--all", "--json"],
    "send": ["send", "delete-session", json.dumps({"sessionId": SESSION}), "--timeout", "0.2", "--json"],
    "say": ["say", SESSION, "user", "Hello", "--create", "--timeout", "0.2", "--json"],
    "get last": ["get", SESSION, "--last", "1", "--json"],
    "delete": ["delete", SESSION, "--yes", "--timeout", "0.2", "--json"],
    "tail": ["tail", "--no-follow", "--json"],
    "parked list": ["parked", "list", "--json"],
    "parked show": ["parked", "show", SESSION, "--json"],
    "parked redrive": ["parked", "redrive", SESSION, "--json"],
    "parked discard": ["parked", "discard", SESSION, "--yes", "--json"],
    "parked discard all": ["parked", "discard", SESSION, "--all", "--yes", "--json"],
    "malformed list": ["malformed", "list", "--json"],
    "malformed show": ["malformed", "show", ENTRY, "--json"],
    "malformed redrive": ["malformed", "redrive", ENTRY, "--json"],
    "malformed discard": ["malformed", "discard", ENTRY, "--yes", "--json"],
    "subscriptions list": ["subscriptions", "list", "--json"],
    "subscriptions lag": ["subscriptions", "lag", "billing", "--json"],
    "subscriptions parked": ["subscriptions", "parked", "billing", "--json"],
    "subscriptions reset": ["subscriptions", "reset", "billing", "--to", "1h", "--yes", "--json"],
    "subscriptions redrive": ["subscriptions", "redrive", "billing", SESSION, "--timeout", "0.2", "--json"],
    "subscriptions discard": ["subscriptions", "discard", "billing", SESSION, "--timeout", "0.2", "--yes", "--json"],
    "subscriptions forget": ["subscriptions", "forget", "billing", "--yes", "--json"],
}

RELAY_COMMANDS = {
    "parked list": ["parked", "list", "--json"],
    "parked redrive": ["parked", "redrive", "--endpoint", "billing", SESSION, "--timeout", "0.2"],
    "parked discard": ["parked", "discard", "--endpoint", "billing", SESSION, "--timeout", "0.2", "--yes"],
    "replay": ["replay", "--endpoint", "billing", "--since", "1h"],
}

KEYS = (*HELD, "commands", "requests", "lease of a subscription")

UNUSABLE = {"StoredDataInvalid", "KeyUnusable"}
"""Commands that name a key of another type."""

ONLY_AS_TEXT = {"requests", "lease of a subscription"}
"""Arguments of commands without `--json`."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, partitions=1, timeout=0.2)


@pytest.fixture
def server(empty_server: EmbeddedServer, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    """The server, where a worker was that is gone, as the environment names it."""
    monkeypatch.setenv("TURNSTREAM_REDIS_URL", empty_server.url)
    monkeypatch.setenv("TURNSTREAM_NAMESPACE", settings.namespace)
    monkeypatch.setenv("TURNSTREAM_PARTITIONS", "1")
    monkeypatch.setenv("TURNSTREAM_TIMEOUT", "0.2")
    asyncio.run(_lived(replace(settings.at(empty_server.url), timeout=30.0)))
    with Redis.from_url(empty_server.url, protocol=2) as raw:
        raw.sadd(Keys(settings.namespace, 1).subscriptions, "billing", "relay-billing")
        yield raw
        raw.flushall()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("GOOD", RELAY_SECRET)
    return ["--config", str(write(tmp_path, endpoint()))]


async def _lived(settings: Settings) -> None:
    real = EmbeddedDeployment(settings)
    worker = await worker_of(real)
    ts = await client_of(real, worker=False)
    await a_session(ts, SECRET, session_id=SESSION)
    await worker.stop()
    await real.resources.aclose()
    await real.raw.aclose()


def run(program: typer.Typer, words: list[str]) -> dict[str, Any] | None:
    """Run a command; return the error that it printed as JSON, if it failed and was to print JSON."""
    result = CliRunner().invoke(program, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in {0, 1, 2}
    assert "Traceback" not in result.output + result.stderr
    if result.exit_code == 0:
        return None
    assert SECRET not in result.stderr
    last = result.stderr.splitlines()[-1:]
    if "--json" not in words:
        assert last[0].startswith("error: ")
        return None
    if not last:
        # It has found differences, and printed them.
        assert words[0] == "verify"
        return None
    told: dict[str, Any] = json.loads(last[0])
    return told


@contextmanager
def replaced(server: Redis, key: str) -> Generator[None]:
    """Have a text at a key."""
    server.delete(key)
    server.set(key, SECRET)
    yield
    server.delete(key)


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_of_another_type_is_reported_in_one_line(server: Redis, settings: Settings, kind: str) -> None:
    key = key_of(kind, Keys(settings.namespace, 1).partitions[0], SESSION)
    told: list[str] = []
    with replaced(server, key):
        for words in (*COMMANDS.values(), ["tail", "--from-beginning", "--json"]):
            if words[0] == "tail" and kind not in {"partition", "events"}:
                continue
            error = run(app, words)
            told += [error["fields"]["key"]] if error and error["error"] in UNUSABLE else []
    assert set(told) == (set() if kind in ONLY_AS_TEXT else {key})


@pytest.mark.parametrize("kind", ["layout", "workers", "subscriptions", "members"])
def test_so_it_is_at_the_keys_of_the_whole_deployment(server: Redis, settings: Settings, kind: str) -> None:
    keys = Keys(settings.namespace, 1)
    key = keys.members("billing").members if kind == "members" else getattr(keys, kind)
    with replaced(server, key):
        for words in COMMANDS.values():
            run(app, words)


@pytest.mark.parametrize("kind", ["partition", "parked events", "events", "requests"])
def test_the_relay_says_it_in_one_line_too(server: Redis, settings: Settings, config: list[str], kind: str) -> None:
    keys = Keys(settings.namespace, 1).partitions[0]
    names = {"parked events": "parked", "requests": "requests"}
    of = keys.subscription("relay-billing")
    key = getattr(of, names[kind]) if kind in names else getattr(keys, kind)
    with replaced(server, key):
        for words in RELAY_COMMANDS.values():
            run(relay, [*words, *config])


def test_commands_on_valid_data(server: Redis, config: list[str]) -> None:
    del server
    told = {name: run(app, words) for name, words in COMMANDS.items()}
    assert told["get"] is None
    assert told["send"] is not None
    assert (told["send"]["error"], "commandId" in told["send"]["fields"]) == ("CommandTimeout", True)
    for words in RELAY_COMMANDS.values():
        run(relay, [*words, *config])


@pytest.mark.parametrize("state", ["nobody there", "another password", "no text", "full"])
def test_states_of_the_server(server: Redis, config: list[str], monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    url = f"redis://127.0.0.1:{server.connection_pool.connection_kwargs['port']}"
    match state:
        case "nobody there":
            monkeypatch.setenv("TURNSTREAM_REDIS_URL", f"redis://127.0.0.1:{_free_port()}")
        case "another password":
            monkeypatch.setenv("TURNSTREAM_REDIS_URL", url.replace("redis://", "redis://nobody:wrong@"))
        case "no text":
            monkeypatch.setenv("TURNSTREAM_REDIS_URL", "http://127.0.0.1")
        case _:
            server.config_set("maxmemory", "1")
    try:
        for words in COMMANDS.values():
            run(app, words)
        for words in RELAY_COMMANDS.values():
            run(relay, [*words, *config])
    finally:
        server.config_set("maxmemory", "0")


def test_a_listing_continues_and_names_unreadable_sessions(server: Redis, settings: Settings) -> None:
    key = Keys(settings.namespace, 1).partitions[0].session(SESSION)
    with replaced(server, key):
        for listing in (["list"], ["list", "--all"]):
            shown = CliRunner().invoke(app, listing)
            assert (shown.exit_code, SESSION in shown.stderr) == (1, True)
            assert "No session" not in shown.stderr
        told = run(app, ["list", "--json"])
        assert told is not None
        assert (told["error"], SESSION in told["message"]) == ("Refused", True)
        everything = run(app, ["list", "--all", "--json"])
        assert everything is not None
        assert (everything["error"], everything["fields"]["key"]) == ("StoredDataInvalid", key)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            SessionNotFound("s"),
            {
                "error": "SessionNotFound",
                "code": "session-not-found",
                "retryable": False,
                "message": "Session not found with ID: s",
                "fields": {"sessionId": "s"},
            },
        ),
        (
            CommandTimeout("c1", 2.5, "No worker."),
            {
                "error": "CommandTimeout",
                "code": "command-timeout",
                "retryable": True,
                "message": str(CommandTimeout("c1", 2.5, "No worker.")),
                "fields": {"commandId": "c1", "timeout": 2.5, "reason": "No worker."},
            },
        ),
    ],
)
def test_an_error_as_json(error: SessionNotFound | CommandTimeout, line: dict[str, Any]) -> None:
    error.add_note("not for others")
    assert json.loads(encode_error(error)) == line


def test_of_unreadable_entries_too() -> None:
    fields = json.loads(encode_error(StoredDataInvalid("k", "it is a string, expected a hash", "s")))["fields"]
    assert fields == {
        "reason": "it is a string, expected a hash",
        "key": "k",
        "sessionId": "s",
    }


def test_it_neither_steers_a_terminal_nor_breaks_on_invalid_text(server: Redis) -> None:
    hidden = "a\u202eb"
    shown = CliRunner().invoke(app, ["get", hidden, "--json"])
    assert hidden not in shown.stderr
    assert json.loads(shown.stderr)["fields"] == {"sessionId": hidden}
    line = json.loads(encode_error(InvalidCommand("\udcff", "It is no text")))
    assert line["fields"]["path"] == "\\udcff"
