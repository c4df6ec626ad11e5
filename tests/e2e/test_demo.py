"""The demo: the lines of the contract, the crowd's check, and nothing left behind however it ends."""

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
import typer
from tests.e2e.programs import CLI, Programs, needs_proc, until

from turnstream import AddMessage, RemoveMessages, Turnstream, UpdateSession, user_message
from turnstream.domain.patches import SessionPatch
from turnstream_cli.demo import crowd as act_two

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
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
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

        assert "10,400 commands were sent, applied and answered" in result.stdout
        assert "commands/s" in result.stdout
        assert "All 400 sessions were read back: each holds exactly its 25 messages, in order." in lines
        assert "turnstream dev" in result.stdout.partition("What to try next")[2]
        assert programs.left() == set()

    @needs_proc
    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_interrupted_it_leaves_nothing(self, programs: Programs, number: int, status: int) -> None:
        demo = programs.start(CLI, "demo", "--sessions", "100000")
        demo.prints("Act two")
        assert demo.stop(number) == status
        assert demo.errors == ""
        assert programs.left() == set()

    @needs_proc
    @pytest.mark.slow
    def test_killed_it_leaves_nothing(self, programs: Programs) -> None:
        demo = programs.start(CLI, "demo", "--sessions", "100000")
        demo.prints("Creating session")
        demo.stop(signal.SIGKILL)
        until(lambda: programs.left() == set())

    @needs_proc
    def test_workers_that_cannot_start(self, programs: Programs) -> None:
        demo = programs.start(CLI, "demo", environment={"TURNSTREAM_CATALOGUE_FILE": "/nowhere/models.toml"})
        assert demo.status() == 2
        assert "/nowhere/models.toml" in demo.errors
        assert "Traceback" not in demo.errors
        assert programs.left() == set()

    def test_on_a_terminal_it_shows_its_progress(self, programs: Programs) -> None:
        reading, writing = pty.openpty()
        command = [sys.executable, "-m", CLI, "demo", "--sessions", "50"]
        environment = {**programs.environment, "TERM": "xterm"}
        with subprocess.Popen(command, env=environment, stdout=writing) as demo, os.fdopen(reading, "rb") as terminal:
            os.close(writing)
            output = b""
            with suppress(OSError):  # Linux's error after the last writer of a terminal has closed it
                while piece := os.read(terminal.fileno(), 65_536):
                    output += piece
        assert demo.returncode == 0
        assert b"Writing" in output
        assert b"1300/1300" in output


class TestCheck:
    async def test_it_finds_differences(self, capsys: pytest.CaptureFixture[str]) -> None:
        crowd = act_two.Crowd(sessions=5, messages=4)
        whole, shorter, longer, other, empty = crowd.ids
        async with Turnstream.in_memory() as ts:
            await act_two._write(ts, crowd.ids, crowd, advance)
            assert await act_two._differing(ts, crowd.ids, crowd, advance) == []

            await ts.execute(RemoveMessages(shorter, last=1))
            await ts.execute(AddMessage(longer, user_message("One more")))
            messages = await ts.sessions.messages(other)
            await ts.execute(UpdateSession(other, SessionPatch(messages=messages[::-1])))
            await ts.execute(RemoveMessages(empty, last=4))
            differing = await act_two._differing(ts, crowd.ids, crowd, advance)

        assert differing == [shorter, longer, other, empty]
        assert whole not in differing
        with pytest.raises(typer.Exit) as failure:
            act_two._report(crowd, differing)
        assert failure.value.exit_code == 1
        assert f"FAILED: 4 of 5 sessions differ; the first is {shorter}." in capsys.readouterr().out


def advance(count: int) -> None:
    assert count > 0
