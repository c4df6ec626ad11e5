"""The commands of docs/relay.md, typed into a shell in their order."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.contract.chats import CONFIG
from tests.e2e.programs import PARTITIONS, Deployment, Program, Programs, until
from tests.e2e.relays import RELAY
from tests.e2e.test_relay import begun, logged
from tests.integration.test_readme import ROOT, blocks
from tests.relay.receiver import Received, Receiver, Reply, well
from tests.relay.threads import in_thread
from tests.relay.written import to_loopback, write

from turnstream import CreateSession, UpdateTokenMetrics

PAGE = ROOT / "docs" / "relay.md"
FILE = next(blocks(PAGE, "toml")).text
LINES = [line.removeprefix("$ ") for block in blocks(PAGE, "console") for line in block.text.splitlines()]
FIELDS = re.findall(r"`(\w+)`", PAGE.read_text().partition("`endpoint report`")[2].partition("Worth an alarm")[0])
SESSION = "chat-1"

Type = Callable[[str], str]


def refuse_one(received: Received) -> Reply:
    return Reply(500 if received.body.get("sessionId") == SESSION else 200)


@pytest.fixture
def shell(programs: Programs, tmp_path: Path) -> Type:
    """Do a line as a shell would; the commands are on the path."""
    path = f"{Path(sys.executable).parent}:{programs.environment['PATH']}"

    def do(line: str) -> str:
        command = ["sh", "-c", line]
        environment = {**programs.environment, "PATH": path}
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, line + done.stderr
        return done.stdout

    return do


def park(programs: Programs, receiver: Receiver, relay: Program) -> None:
    """Have the session parked once more."""
    before = relay.errors.count("session parked")
    receiver.behaviour = refuse_one
    programs.execute(UpdateTokenMetrics(SESSION, prompt_tokens=10))
    until(lambda: relay.errors.count("session parked") > before)


def test_they_do_as_documented(programs: Programs, deployment: Deployment, shell: Type, tmp_path: Path) -> None:
    _, secret, check, run, parked, redrive, discard, replay, lag, forget = LINES
    programs.worker("--log-level", "warning")
    programs.execute(CreateSession(CONFIG, SESSION))
    with in_thread(Receiver()) as receiver:
        write(tmp_path, to_loopback(FILE, receiver.url, "attempts = 1", "max_backoff = 0.1"))
        shell(secret)
        receiver.secret = (tmp_path / "billing.secret").read_text().strip()
        assert shell(check) == "billing: ok, HTTP 200\n"
        relay = programs.start(RELAY, *shlex.split(run, comments=True)[2:], "--report-every", "1")
        until(lambda: begun(deployment) == PARTITIONS)

        park(programs, receiver, relay)
        assert SESSION in shell(parked)
        receiver.behaviour = well
        assert shell(redrive) == f"{SESSION}: delivered\n"
        park(programs, receiver, relay)
        assert shell(discard) == "discarded\n"
        receiver.behaviour = well
        shell(replay)
        until(lambda: receiver.ids[1:].count(receiver.ids[1]) == 2)

        reported = next(logged(relay, "endpoint report"))
        assert [field for field in FIELDS if field not in reported] == []
        assert len(shell(lag).splitlines()) > PARTITIONS
        assert relay.stop() == 0
        shell(forget)
        assert begun(deployment) == 0
