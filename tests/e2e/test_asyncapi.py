"""Programs in plain Node.js, written from asyncapi.json alone, and a Python worker understand each other."""

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.builders import CONFIG
from tests.e2e.nodejs import NodePrograms, installed
from tests.e2e.programs import CLI, Deployment, Program, Programs, until
from tests.topologies import RunningCluster

from turnstream import AddMessage, CreateSession, DeleteSession, UpdateTokenMetrics, user_message
from turnstream.adapters.redis.keys import tags
from turnstream.domain.models import partition_of

DOCUMENT = Path(__file__).parents[2] / "shared" / "turnstream" / "asyncapi.json"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def node(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> NodePrograms:
    """The programs of the folder `node`, with their packages."""
    return installed(pytestconfig.cache.mkdir("node"), tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def on_cluster(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """Programs that work on a deployment on a cluster, with a running worker."""
    deployment = Deployment(cluster.url, f"e2e-{uuid4().hex[:16]}")
    started = Programs(tmp_path_factory.mktemp("on-cluster"), deployment.environment)
    try:
        started.worker("--log-level", "warning")
        # A command is applied when its partition has an owner.
        started.execute(CreateSession(CONFIG))
        yield started
    finally:
        started.close()


@pytest.fixture(params=["shared", "on_cluster"])
def programs(request: pytest.FixtureRequest) -> Programs:
    """Programs with a worker: on one server, and on a cluster."""
    started: Programs = request.getfixturevalue(request.param)
    return started


def json_lines(output: str) -> list[Any]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def where(programs: Programs) -> tuple[str, str]:
    return programs.environment["TURNSTREAM_REDIS_URL"], programs.environment["TURNSTREAM_NAMESPACE"]


def subscriber(node: NodePrograms, programs: Programs, *session_id: str) -> Program:
    started = programs.spawn(node.command("subscriber.mjs", DOCUMENT, *where(programs), *session_id), subprocess.PIPE)
    started.prints("listening")
    return started


def tell(program: Program, word: str) -> None:
    """Give a subscriber a word, and wait until it has done what it says."""
    before = program.output.count(f"\n{word}\n")
    program.type(word)
    until(lambda: program.output.count(f"\n{word}\n") > before or program.ended)
    assert not program.ended, program.errors


def heard(program: Program, sessions: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return the source, type and session of each event that a subscriber has printed, of these sessions."""
    lines = [line for line in json_lines(program.output) if line["event"]["sessionId"] in sessions]
    return [(line["source"], line["event"]["type"], line["event"]["sessionId"]) for line in lines]


def test_the_document_is_valid_and_another_is_not(node: NodePrograms, tmp_path: Path) -> None:
    document = json.loads(DOCUMENT.read_text())
    document["components"]["messages"]["addMessage"]["examples"][0]["payload"]["message"].pop("role")
    document["channels"]["replies"]["address"] += ":{missing}"
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(document))

    done = node.run("validate.mjs", DOCUMENT, wrong)

    assert done.returncode == 0, done.stderr
    assert "wrong.json: asyncapi3-channel-parameters" in done.stdout
    assert "must have required property 'role'" in done.stdout
    assert [line for line in done.stdout.splitlines() if not line.startswith("wrong.json: ")] == []


def test_the_rules_of_the_document_give_the_partitions_and_tags_of_the_code(node: NodePrograms) -> None:
    done = node.run("vectors.mjs", DOCUMENT)
    assert done.returncode == 0, done.stderr
    computed = {int(partitions): values for partitions, values in json.loads(done.stdout).items()}
    assert len(computed) == 5
    for partitions, values in computed.items():
        assert values["tags"] == [f"{{{tag}}}" for tag in tags(partitions)]
        assert values["partitionOf"] == {each: partition_of(each, partitions) for each in values["partitionOf"]}


def test_a_node_producer_works_with_a_python_worker_and_a_python_subscriber(
    node: NodePrograms, programs: Programs
) -> None:
    session_id = f"node-{uuid4()}"
    tail = programs.start(CLI, "tail", "--json", "--session", session_id)
    tail.says("Listening for events")

    done = node.run("producer.mjs", DOCUMENT, *where(programs), session_id)
    assert done.returncode == 0, done.stderr

    created, added, several, again, measured, taken, answer = json_lines(done.stdout)
    applied = (created, added, several, measured)
    assert [(reply["status"], reply["version"]) for reply in applied] == [("ok", version) for version in (1, 2, 3, 4)]
    assert again == several
    assert (taken["status"], taken["error"]["code"]) == ("rejected", "message-already-exists")
    assert [message["id"] for message in answer["output"]["messages"]] == ["m1", "m2", "m3"]

    until(lambda: "context-window-critical" in tail.output)
    events = json_lines(tail.output)
    assert [event["type"] for event in events] == [
        "session-created",
        *["message-added"] * 3,
        "token-metrics-updated",
        "context-window-critical",
    ]
    assert {event["correlationId"] for event in events} == {"from-node"}
    assert events[-2]["data"]["metrics"]["totalTokens"] == 7_500
    assert tail.stop(signal.SIGINT) == 0


def test_a_subscriber_in_node_fills_its_gaps_from_the_event_stream(node: NodePrograms, programs: Programs) -> None:
    session_id = f"python-{uuid4()}"
    hears = subscriber(node, programs)
    programs.execute(CreateSession(CONFIG, session_id), AddMessage(session_id, user_message("One")))
    until(lambda: len(heard(hears, [session_id])) == 2 or hears.ended)

    tell(hears, "deaf")
    programs.execute(AddMessage(session_id, user_message("Two")), UpdateTokenMetrics(session_id, prompt_tokens=7_000))
    tell(hears, "listen")
    assert len(heard(hears, [session_id])) == 2
    programs.execute(AddMessage(session_id, user_message("Three")))
    until(lambda: len(heard(hears, [session_id])) == 6 or hears.ended)

    tell(hears, "deaf")
    programs.execute(DeleteSession(session_id))
    tell(hears, "check")

    assert heard(hears, [session_id]) == [
        ("live", "session-created", session_id),
        ("live", "message-added", session_id),
        ("stream", "message-added", session_id),
        ("stream", "token-metrics-updated", session_id),
        ("stream", "context-window-critical", session_id),
        ("live", "message-added", session_id),
        ("stream", "session-deleted", session_id),
    ]
    assert hears.errors == ""


def test_a_subscriber_in_node_follows_one_session_among_others(node: NodePrograms, programs: Programs) -> None:
    session_id = f"followed-{uuid4()}"
    neighbour = _neighbour(session_id)
    hears = subscriber(node, programs, session_id)
    programs.execute(CreateSession(CONFIG, session_id), CreateSession(CONFIG, neighbour))

    tell(hears, "deaf")
    programs.execute(DeleteSession(session_id), DeleteSession(neighbour))
    tell(hears, "listen")
    programs.execute(CreateSession(CONFIG, session_id))
    until(lambda: len(heard(hears, [session_id])) == 3 or hears.ended)

    assert heard(hears, [session_id, neighbour]) == [
        ("live", "session-created", session_id),
        ("stream", "session-deleted", session_id),
        ("live", "session-created", session_id),
    ]


def _neighbour(session_id: str) -> str:
    """Return another id of the same partition."""
    ids = (f"neighbour-{uuid4()}" for _ in range(10_000))
    return next(each for each in ids if partition_of(each, 64) == partition_of(session_id, 64))
