"""The help of every command: examples that run, and paragraphs that the terminal wraps."""

import re
import shlex
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
import typer
from tests.e2e.programs import APART, PARTITIONS, Deployment, Programs, until

from turnstream.adapters.embedded import EmbeddedServer
from turnstream_cli.main import app
from turnstream_relay.main import app as relay_app

WIDTH = 80
"""Columns of a terminal in which an example is one line."""

MARKUP = re.compile(r"\[/?dim\]")

NOT_PARKED = ("is not parked", "has not parked", "no malformed entry")
"""The errors of examples about something that the deployment of this test does not have."""

Words = tuple[str, ...]


def walk(command: Any, *words: str) -> Iterator[tuple[Words, str]]:  # noqa: ANN401 - the class depends on the version of typer
    """Yield every command and group: the words that are typed for it, and its help."""
    yield words, MARKUP.sub("", command.help)
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, *words, name)


HELPS = {**dict(walk(typer.main.get_command(app))), **dict(walk(typer.main.get_command(relay_app), "relay"))}


def examples(text: str) -> list[str]:
    """Return the examples of a help; a backslash continues one on the next line."""
    _, _, after = text.partition("Example")
    lines = after.replace("\\\n", " ").splitlines()[1:]
    return [line.strip() for line in lines if line.startswith("  ")]


def runs_to_its_end(words: Words, line: str) -> bool:
    """Return whether an example ends, and starts no process."""
    followed = words == ("tail",) and "--no-follow" not in line
    return bool(words) and words[0] not in APART and not followed


RUNNABLE = [(words, line) for words, text in HELPS.items() for line in examples(text) if runs_to_its_end(words, line)]


@pytest.fixture(scope="module")
def chats(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[Programs]:
    """A deployment with what the examples name: two sessions, a subscription and a file."""
    deployment = Deployment(server.url, f"e2e-{uuid4().hex[:16]}")
    folder: Path = tmp_path_factory.mktemp("chats")
    (folder / "web.password").write_text("a long secret that nobody guesses")
    started = Programs(folder, deployment.environment)
    try:
        started.worker("--log-level", "warning")
        until(lambda: deployment.owned_by(one=PARTITIONS))
        for session in ("chat-1", "chat-2"):
            assert started.run("say", session, "user", "Hello", "--create").returncode == 0
        with redis.Redis.from_url(deployment.url) as client:
            client.sadd(deployment.keys.subscriptions, "billing")
        yield started
    finally:
        started.close()


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_every_command_has_an_example(words: Words) -> None:
    typed = " ".join(("turnstream", *words))
    lines = examples(HELPS[words])
    assert lines
    assert [line for line in lines if typed not in line] == []
    assert [line for line in HELPS[words].splitlines() if line.startswith("  ") and len(line) > WIDTH - 2] == []


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_paragraphs_have_no_hard_line_breaks(words: Words) -> None:
    paragraphs = HELPS[words].split("\n\n")
    assert [text for text in paragraphs if "\n" in text and not text.startswith("Example")] == []


@pytest.mark.parametrize(("words", "line"), RUNNABLE, ids=[line for _, line in RUNNABLE])
def test_the_examples_run(chats: Programs, words: Words, line: str) -> None:
    before, _, rest = line.rpartition("turnstream ")
    stdin = shlex.split(before.removesuffix("| "))[1] if before else ""
    typed = shlex.split(re.split(r" (?:\||>>?) ", rest)[0])
    confirmed = ["--yes"] if {"discard", "forget", "reset"} & {*words} and "--yes" not in typed else []
    result = chats.run(*typed, *confirmed, stdin=stdin)
    if result.returncode:
        assert result.returncode == 1
        assert any(reason in result.stderr for reason in NOT_PARKED), result.stderr
