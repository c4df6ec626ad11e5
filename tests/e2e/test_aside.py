"""Commands that cannot be applied, with real processes: workers that die of one, and the operator at the terminal."""

import json
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.builders import CONFIG
from tests.e2e.dying_worker import DEADLY, STATUS
from tests.e2e.programs import PARTITIONS, PATIENCE, Deployment, Program, Programs, until
from tests.waiting import wait_until

from turnstream import AddMessage, CreateSession, Turnstream, user_message
from turnstream.domain.models import partition_of
from turnstream.errors import CommandParked
from turnstream.settings import load_settings

VICTIM = "victim"
ROOT = Path(__file__).parents[2]


def neighbours() -> list[str]:
    """Return sessions of the victim's partition."""
    partition = partition_of(VICTIM, PARTITIONS)
    names = (f"s{number}" for number in range(100_000))
    return [name for name in names if partition_of(name, PARTITIONS) == partition][:5]


def done(programs: Programs, *arguments: str, status: int = 0) -> str:
    result = programs.run(*arguments)
    assert result.returncode == status, result.stderr
    return result.stdout


def json_lines(programs: Programs, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done(programs, *arguments, "--json").splitlines()]


def mortal(programs: Programs) -> Program:
    """Start a worker that may die; its leases end soon."""
    environment = {"TURNSTREAM_LEASE": "0.3", "PYTHONPATH": str(ROOT)}
    return programs.start("tests.e2e.dying_worker", environment=environment)


async def test_a_command_that_kills_workers_ends_parked(programs: Programs, deployment: Deployment) -> None:
    settings = load_settings(redis_url=deployment.url, namespace=deployment.namespace)
    names = [VICTIM, *neighbours()]
    async with Turnstream.connect(settings=settings) as ts:
        await ts.send_many([CreateSession(CONFIG, name) for name in names])
        tickets = await ts.send_many([AddMessage(name, user_message("one")) for name in names], timeout=60)
        deadly = await ts.send(AddMessage(VICTIM, user_message(DEADLY)), timeout=60)
        tickets += await ts.send_many([AddMessage(name, user_message("two")) for name in names], timeout=60)

        statuses: list[int] = []
        while not await _outlived(worker := mortal(programs), deployment):
            statuses.append(worker.status())
            assert len(statuses) < 10
        # One dies of the batch, perhaps one of the command and others together, three of the command alone.
        assert statuses in ([STATUS] * 4, [STATUS] * 5)
        with pytest.raises(CommandParked):
            await deadly
        told = [(ticket.session_id, await _version(ticket)) for ticket in tickets]
        assert told == [*((name, 2) for name in names), (VICTIM, None), *((name, 3) for name in names[1:])]
        assert worker.stop() == 0

    (info,) = json_lines(programs, "parked", "list")
    assert (info["sessionId"], info["commands"], info["error"]) == (VICTIM, 2, "3 workers died on it")
    programs.worker()
    assert "2 redriven, 0 left" in done(programs, "parked", "redrive", VICTIM)
    (session,) = json_lines(programs, "get", VICTIM)
    texts = [message["content"][0]["text"] for message in session["messages"]]
    assert texts == ["one", DEADLY, "two"]


async def _outlived(worker: Program, deployment: Deployment) -> bool:
    """Wait until a worker has applied everything, or is dead; return which."""
    keys = deployment.keys.partitions[partition_of(VICTIM, PARTITIONS)]
    with redis.Redis.from_url(deployment.url) as client:
        await wait_until(lambda: worker.ended or client.xlen(keys.commands) == 0, PATIENCE)
    return not worker.ended


async def _version(ticket: Any) -> int | None:  # noqa: ANN401 - a ticket
    try:
        applied = await ticket
    except CommandParked:
        return None
    version: int = applied.version
    return version


@pytest.fixture
def broken(programs: Programs, deployment: Deployment) -> Programs:
    """A deployment with a parked session of two commands: its messages' key held another program's string."""
    programs.worker()
    programs.execute(CreateSession(CONFIG, VICTIM))
    messages = deployment.keys.partitions[partition_of(VICTIM, PARTITIONS)].messages(VICTIM)
    with redis.Redis.from_url(deployment.url) as client:
        client.set(messages, "text")
        for text in ("a secret", "another"):
            with pytest.raises(CommandParked):
                programs.execute(AddMessage(VICTIM, user_message(text)))
        return programs


def mended(deployment: Deployment) -> None:
    messages = deployment.keys.partitions[partition_of(VICTIM, PARTITIONS)].messages(VICTIM)
    with redis.Redis.from_url(deployment.url) as client:
        client.delete(messages)


class TestParked:
    def test_it_is_listed_and_shown(self, broken: Programs) -> None:
        table = done(broken, "parked", "list")
        assert VICTIM in table
        assert "The store refused it: WRONGTYPE" in table
        assert "secret" not in table
        (info,) = json_lines(broken, "parked", "list")
        assert {*info} == {"sessionId", "commands", "size", "since", "error"}
        shown = done(broken, "parked", "show", VICTIM)
        assert shown.index("a secret") < shown.index("another")
        first, second = json_lines(broken, "parked", "show", VICTIM)
        assert first["data"]["message"]["content"][0]["text"] == "a secret"
        assert second["type"] == "add-message"
        assert "not parked" in broken.run("parked", "show", "nobody").stderr

    def test_it_is_redriven_after_the_cause_is_fixed(self, broken: Programs, deployment: Deployment) -> None:
        failed = broken.run("parked", "redrive", VICTIM)
        assert (failed.returncode, failed.stdout) == (1, "0 redriven, 2 left\n")
        assert "cannot be applied: The store refused it: WRONGTYPE" in failed.stderr
        mended(deployment)
        (progress,) = json_lines(broken, "parked", "redrive", VICTIM)
        assert progress == {"done": 2, "left": 0}
        assert done(broken, "parked", "list", "--json") == ""

    def test_it_is_discarded(self, broken: Programs, deployment: Deployment) -> None:
        assert done(broken, "parked", "discard", VICTIM, "--yes") == "1 discarded, 1 left\n"
        mended(deployment)
        assert done(broken, "parked", "redrive", VICTIM) == "1 redriven, 0 left\n"
        (session,) = json_lines(broken, "get", VICTIM)
        assert [message["content"][0]["text"] for message in session["messages"]] == ["another"]

    def test_all_of_it_is_discarded(self, broken: Programs) -> None:
        assert json_lines(broken, "parked", "discard", VICTIM, "--all", "--yes") == [{"done": 2, "left": 0}]
        for operation in ("show", "redrive", "discard"):
            words = ("--yes",) if operation == "discard" else ()
            result = broken.run("parked", operation, VICTIM, *words)
            assert (result.returncode, result.stderr) == (1, f"error: Session {VICTIM} is not parked\n")


class TestMalformed:
    def test_it_is_listed_shown_redriven_and_discarded(self, programs: Programs, deployment: Deployment) -> None:
        programs.worker()
        keys = deployment.keys.partitions[3]
        with redis.Redis.from_url(deployment.url) as client:
            client.xadd(keys.commands, {"id": "c1", "type": "not-yet", "data": '{"a": "secret"}'})
            until(lambda: client.xlen(keys.malformed) == 1)
            (info,) = json_lines(programs, "malformed", "list")
            assert info["id"].startswith("3:")
            table = done(programs, "malformed", "list")
            assert info["id"] in table
            assert "not-yet" in table
            assert "secret" not in table
            assert 'data: {"a": "secret"}' in done(programs, "malformed", "show", info["id"])
            (entry,) = json_lines(programs, "malformed", "show", info["id"])
            assert entry["fields"]["id"] == "c1"

            assert done(programs, "malformed", "redrive", info["id"]) == "redriven\n"
            until(lambda: client.xlen(keys.malformed) == 1)
        (again,) = json_lines(programs, "malformed", "list")
        assert again["id"] != info["id"]
        assert "There is no malformed entry" in programs.run("malformed", "redrive", info["id"]).stderr
        assert json_lines(programs, "malformed", "discard", again["id"], "--yes") == [
            {"id": again["id"], "status": "discarded"}
        ]
        assert programs.run("malformed", "show", again["id"]).returncode == 1
        assert "id of a malformed entry" in programs.run("malformed", "show", "x").stderr
