"""The demo: the lines of the contract, checks that fail when they should, and nothing left however it ends."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
import typer
from tests.e2e.programs import CLI, Programs, needs_proc, until

from turnstream.commands import Command
from turnstream_cli.demo import consumer_failure, worker_failure
from turnstream_cli.demo.comparison import CREATED, Comparison, compare
from turnstream_cli.demo.consumer_failure import check_consumers
from turnstream_cli.demo.shared_chat import check_chat
from turnstream_cli.demo.stage import Stage
from turnstream_cli.demo.tour import show
from turnstream_cli.demo.worker_failure import EventStream, Load, TakeOver, check_load

SAID = """\
Creating session...
Session created with ID: {id}
Adding user message...
Adding assistant message...
Updating token metrics...
Updating token metrics to trigger critical event...
Listing sessions...
Found 1 sessions
"""

HEARD = """\
[Event] Session created: {id}
[Event] Message added: user
[Event] Message added: assistant
[Event] Token metrics updated: 130 tokens total
[Event] Token metrics updated: 7130 tokens total
[Event] Context window critical: 87% full
"""

SUMMARY = """
Event Summary:
Total events: 6
Event counts by type:
  session-created: 1
  message-added: 2
  token-metrics-updated: 2
  context-window-critical: 1
"""


def lines_of(text: str, **values: str) -> list[str]:
    return text.format(**values).splitlines()


class TestDemo:
    def test_it_prints_the_lines_of_the_specification(self, programs: Programs) -> None:
        result = programs.run("demo")
        assert result.returncode == 0, result.stdout + result.stderr
        assert result.stderr == ""
        assert "\x1b" not in result.stdout
        lines = result.stdout.splitlines()
        conversation = lines[lines.index("Creating session...") : lines.index("  context-window-critical: 1") + 1]
        session_id = next(line for line in conversation if line.startswith("Session created")).split()[-1]

        # Events come by another connection, so only their order among themselves is certain.
        assert [line for line in conversation if line.startswith("[Event]")] == lines_of(HEARD, id=session_id)
        said = [line for line in conversation if not line.startswith("[Event]")]
        listing = said.index("[")
        assert said[:listing] == lines_of(SAID, id=session_id)
        assert said[-len(lines_of(SUMMARY)) :] == lines_of(SUMMARY)
        (info,) = json.loads("\n".join(said[listing : -len(lines_of(SUMMARY))]))
        assert info["id"] == session_id
        assert info["messageCount"] == 3
        assert said[listing + 2].startswith('    "id": ')
        assert "messageCount is 3: the system prompt" in result.stdout

        assert re.search(
            r"SIGKILL to worker-1 .* after [45],\d{3} commands: it owned [1-9]\d* partitions", result.stdout
        )
        summary = result.stdout.partition("── Summary ──")[2].partition("What next")[0].strip().splitlines()
        assert [line.startswith("ok: ") for line in summary] == [True] * 4
        assert re.search(r"after [4-9],\d{3} of 10,000 commands: 0 lost, 0 applied twice, order kept; ", summary[2])
        assert "after 5,000 of 10,000 events: 0 missed, order kept; " in summary[3]
        assert programs.left() == set()

    @needs_proc
    def test_the_commands_that_it_prints_work(self, programs: Programs) -> None:
        result = programs.run("demo", "--sessions", "20")
        lines = result.stdout.partition("What next")[2].splitlines()
        dev, tail, *others = [shlex.split(line, comments=True) for line in lines if line.startswith("  ")]
        # Without the deployment of this test, so that they find the server in the directory.
        for name in ("TURNSTREAM_REDIS_URL", "TURNSTREAM_NAMESPACE"):
            del programs.environment[name]
        programs.spawn(dev, stdin=-3).prints("Ctrl-C ends")
        listening = programs.spawn(tail, stdin=-3)
        listening.says("Listening for events")
        for words in others:
            command = programs.spawn(words, stdin=-3)
            assert command.status() == 0, command.errors
        listening.prints("Hello")

    @needs_proc
    @pytest.mark.parametrize(
        ("number", "status", "said"),
        [
            (signal.SIGINT, 130, "SIGKILL to worker-1"),
            (signal.SIGTERM, 143, "── 3."),
            (signal.SIGINT, 130, "── 4."),
        ],
    )
    def test_interrupted_it_leaves_nothing(self, programs: Programs, number: int, status: int, said: str) -> None:
        demo = programs.start(CLI, "demo", "--sessions", "1000")
        demo.prints(said)
        assert demo.stop(number) == status
        assert demo.errors == ""
        assert programs.left() == set()

    @needs_proc
    @pytest.mark.slow
    @pytest.mark.parametrize("said", ["Creating session", "SIGKILL to the consumer"])
    def test_killed_it_leaves_nothing(self, programs: Programs, said: str) -> None:
        demo = programs.start(CLI, "demo", "--sessions", "100")
        demo.prints(said)
        demo.stop(signal.SIGKILL)
        until(lambda: programs.left() == set())

    @needs_proc
    def test_workers_that_cannot_start(self, programs: Programs) -> None:
        demo = programs.start(CLI, "demo", environment={"TURNSTREAM_CATALOGUE_FILE": "/nowhere/models.toml"})
        assert demo.status() == 2
        assert "/nowhere/models.toml" in demo.errors
        assert "Traceback" not in demo.errors
        assert programs.left() == set()

    @pytest.mark.parametrize("has_colour", [True, False])
    def test_on_a_terminal(self, programs: Programs, *, has_colour: bool) -> None:
        reading, writing = pty.openpty()
        command = [sys.executable, "-m", CLI, "demo", "--sessions", "20"]
        environment = {**programs.environment, "TERM": "xterm", **({} if has_colour else {"NO_COLOR": "1"})}
        with subprocess.Popen(command, env=environment, stdout=writing) as demo, os.fdopen(reading, "rb") as terminal:
            os.close(writing)
            output = b""
            with suppress(OSError):  # Linux's error after the last writer of a terminal has closed it
                while piece := os.read(terminal.fileno(), 65_536):
                    output += piece
        assert demo.returncode == 0
        assert (b"\x1b[" in output) == has_colour
        assert (b"500/500" in output) == has_colour
        assert ("✔".encode() in output) == has_colour


class TestFailedChecks:
    """A demo that finds something wrong says so, and exits 1."""

    async def test_a_lost_command(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        all_commands = worker_failure.commands_of

        def forget_one(ids: Sequence[str], load: Load) -> Iterator[Command[Any]]:
            commands = list(all_commands(ids, load))
            return iter(commands[:-1] if "crowd-00007" in ids else commands)

        monkeypatch.setattr(worker_failure, "commands_of", forget_one)
        with pytest.raises(typer.Exit) as failure:
            await show(Load(sessions=20, messages=5))
        assert failure.value.exit_code == 1
        said = capsys.readouterr().out
        assert "FAILED: 1 lost, 0 applied twice, order kept" in said
        assert "1 of 4 checks FAILED." in said
        assert "What next" not in said

    async def test_a_missed_event(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        parsed = consumer_failure.parse_line
        missed: set[str] = set()

        def miss_one(line: bytes) -> tuple[str, str]:
            session_id, event_id = parsed(line)
            missed.update(() if missed else (event_id,))
            return (session_id, "another" if event_id in missed else event_id)

        monkeypatch.setattr(consumer_failure, "parse_line", miss_one)
        with pytest.raises(typer.Exit):
            await show(Load(sessions=20, messages=5))
        assert "FAILED: 1 missed, 1 unknown" in capsys.readouterr().out


class TestChecks:
    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            (("a", "b", "c"), Comparison(3, lost=0, doubled=0, unknown=0, misordered=0)),
            (("a", "c"), Comparison(3, lost=1, doubled=0, unknown=0, misordered=0)),
            (("a", "b", "b", "c"), Comparison(3, lost=0, doubled=1, unknown=0, misordered=0)),
            (("a", "b", "c", "a"), Comparison(3, lost=0, doubled=1, unknown=0, misordered=0)),
            (("a", "c", "b"), Comparison(3, lost=0, doubled=0, unknown=0, misordered=1)),
            (("a", "b", "c", "d"), Comparison(3, lost=0, doubled=0, unknown=1, misordered=0)),
            ((), Comparison(3, lost=3, doubled=0, unknown=0, misordered=0)),
        ],
    )
    def test_a_comparison(self, found: Sequence[str], expected: Comparison) -> None:
        comparison = compare({"one": "abc"}, {"one": found} if found else {})
        assert comparison == expected
        assert comparison.passed == (tuple(found) == ("a", "b", "c"))

    def test_a_session_that_was_never_sent(self) -> None:
        assert compare({}, {"one": "ab"}).unknown == 2

    @pytest.mark.parametrize("source", ["stored", "events"])
    def test_the_worse_of_stored_sessions_and_events_counts(self, source: str) -> None:
        load = Load(sessions=3, messages=4)
        whole = load.items
        broken = {**whole, "crowd-00002": [*whole["crowd-00002"][:-2], whole["crowd-00002"][0]]}
        stored, events = (broken, whole) if source == "stored" else (whole, broken)
        finding = check_load(Stage(), load, TakeOver(6, 0.5), stored, EventStream(events, {}))
        assert not finding.passed
        assert finding.result.startswith("2 lost, 1 applied twice, order kept; ")
        assert check_load(Stage(), load, TakeOver(6, 0.5), whole, EventStream(whole, {})).passed

    @pytest.mark.parametrize(
        ("stored", "heard", "passed"),
        [
            ("aAbB", "aAbB", True),
            ("abAB", "aAbB", False),
            ("baAB", "baAB", False),
            ("aAb", "aAb", False),
            ("aAbBx", "aAbBx", False),
        ],
    )
    def test_a_chat_of_two_writers(self, stored: str, heard: str, *, passed: bool) -> None:
        sent = {"W": [(letter, "") for letter in "ab"], "A": [(letter, "") for letter in "AB"]}
        chat, events = ([CREATED, *((letter, "") for letter in text)] for text in (stored, heard))
        assert check_chat(sent, chat, events).passed == passed

    def test_events_that_are_handled_again_are_counted(self) -> None:
        first, second = [("one", "a"), ("one", "b")], [("one", "b"), ("one", "c")]
        finding = check_consumers({"one": ["a", "b", "c"]}, first, second)
        assert finding.passed
        assert "0 missed, order kept; 1 after" in finding.result
        assert not check_consumers({"one": ["a", "b", "c"]}, first, []).passed
