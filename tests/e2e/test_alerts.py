"""The example of a reacting service, run with a worker: each crossing is printed once, and counted by model."""

import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import redis
from tests.contract.chats import id_in
from tests.e2e.programs import PARTITIONS, Deployment, Program, Programs, until

from turnstream import CreateSession, DeleteSession, SessionConfig, UpdateTokenMetrics
from turnstream.adapters.embedded import start_embedded_server

ALERTS = "turnstream_alerts"
CRITICAL, COUNTS, MISSING = "context window critical", "crossings by model", "crossings may be missing"
SMALL, LARGE = "gpt-4", "gpt-4o"
WINDOWS = {SMALL: 8_192, LARGE: 128_000}


def start(programs: Programs, deployment: Deployment, *arguments: str, share: int = PARTITIONS) -> Program:
    """Start the service, and wait until it owns its share and has written down where it begins."""
    service = programs.start(ALERTS, *arguments)
    service.says("subscription started")
    until(lambda: begun(deployment) == PARTITIONS and owned(deployment, service) == share)
    return service


def begun(deployment: Deployment) -> int:
    """Return in how many partitions the subscription has a checkpoint."""
    with redis.Redis.from_url(deployment.url) as client:
        marks = [client.hget(keys.subscription("alerts").state, "sequence") for keys in deployment.keys.partitions]
    return sum(mark is not None for mark in marks)


def owned(deployment: Deployment, service: Program) -> int:
    with redis.Redis.from_url(deployment.url) as client:
        leases = [client.get(keys.subscription("alerts").lease) for keys in deployment.keys.partitions]
    return sum(f"-{service.process.pid}:".encode() in lease for lease in leases if isinstance(lease, bytes))


def logged(service: Program, event: str) -> Iterator[dict[str, Any]]:
    lines = (msgspec.json.decode(line, type=dict[str, Any]) for line in service.errors.splitlines())
    return (line for line in lines if line["event"] == event)


def crossings(*services: Program) -> Counter[str]:
    """Return how often the crossing of each session was printed."""
    return Counter(line["session_id"] for service in services for line in logged(service, CRITICAL))


def counts(service: Program) -> dict[str, int]:
    """Return the last counts by model."""
    last: dict[str, int] = list(logged(service, COUNTS))[-1]["counts"]
    return last


def cross(programs: Programs, *sessions: str, model: str = SMALL, again: bool = True) -> None:
    """Have sessions pass the threshold, and then grow further."""
    for session in sessions:
        used = WINDOWS[model] * 9 // 10
        programs.execute(
            CreateSession(SessionConfig("openai", model), session),
            UpdateTokenMetrics(session, prompt_tokens=10),
            UpdateTokenMetrics(session, prompt_tokens=used),
            *([UpdateTokenMetrics(session, prompt_tokens=10)] if again else []),
        )


@pytest.fixture
def worker(programs: Programs, deployment: Deployment) -> Program:
    worker = programs.worker("--log-level", "warning")
    until(lambda: deployment.owned_by(one=PARTITIONS))
    return worker


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_each_crossing_is_printed_once_and_counted_by_model(
    programs: Programs, deployment: Deployment, worker: Program, number: int
) -> None:
    service = start(programs, deployment)
    cross(programs, "a", "b")
    cross(programs, "c", model=LARGE)
    until(lambda: len(crossings(service)) == 3)
    assert service.stop(number) == 0
    assert crossings(service) == {"a": 1, "b": 1, "c": 1}
    assert counts(service) == {SMALL: 2, LARGE: 1}
    told = next(line for line in logged(service, CRITICAL) if line["session_id"] == "c")
    assert (told["model"], told["window"], told["level"]) == (LARGE, WINDOWS[LARGE], "warning")
    assert 0.9 <= told["used"] < 0.91


def test_counts_are_logged_periodically(programs: Programs, deployment: Deployment, worker: Program) -> None:
    service = start(programs, deployment, "--every", "0.2")
    cross(programs, "a")
    until(lambda: any(line["counts"] == {SMALL: 1} for line in logged(service, COUNTS)))


def test_the_next_one_resumes_where_it_stopped(programs: Programs, deployment: Deployment, worker: Program) -> None:
    first = start(programs, deployment)
    cross(programs, "a")
    until(lambda: bool(crossings(first)))
    assert first.stop() == 0
    cross(programs, "b")
    second = start(programs, deployment)
    cross(programs, "c")
    until(lambda: len(crossings(second)) == 2)
    assert second.stop() == 0
    assert crossings(first, second) == {"a": 1, "b": 1, "c": 1}


def test_none_is_lost_with_one_that_is_killed(programs: Programs, deployment: Deployment, worker: Program) -> None:
    first = start(programs, deployment)
    cross(programs, "a", "b")
    until(lambda: bool(crossings(first)))
    first.stop(signal.SIGKILL)
    cross(programs, "c")
    second = programs.start(ALERTS)
    until(lambda: {"a", "b", "c"} == set(crossings(first, second)))
    assert second.stop() == 0
    assert max(crossings(first).values()) == max(crossings(second).values()) == 1


def test_two_share_the_crossings(programs: Programs, deployment: Deployment, worker: Program) -> None:
    one = start(programs, deployment)
    two = start(programs, deployment, share=PARTITIONS // 2)
    until(lambda: owned(deployment, one) == PARTITIONS // 2)
    # Each in a separate partition, so that each of the two has one.
    names = [id_in(number, PARTITIONS) for number in range(0, PARTITIONS, 4)]
    cross(programs, *names, again=False)
    until(lambda: len(crossings(one, two)) == len(names))
    assert [one.stop(), two.stop()] == [0, 0]
    assert crossings(one, two) == dict.fromkeys(names, 1)
    assert counts(one)[SMALL] + counts(two)[SMALL] == len(names)


def test_a_session_deleted_or_recreated_since(programs: Programs, deployment: Deployment, worker: Program) -> None:
    assert start(programs, deployment).stop() == 0
    cross(programs, "gone", "another", again=False)
    programs.execute(DeleteSession("gone"), DeleteSession("another"))
    programs.execute(CreateSession(SessionConfig("openai", LARGE), "another"))
    service = start(programs, deployment)
    until(lambda: len(crossings(service)) == 2)
    assert service.stop() == 0
    assert counts(service) == {"unknown": 2}


def test_lost_history_is_reported(programs: Programs, deployment: Deployment, worker: Program) -> None:
    assert start(programs, deployment).stop() == 0
    cross(programs, "a")
    with redis.Redis.from_url(deployment.url) as client:
        for keys in deployment.keys.partitions:
            client.xtrim(keys.events, maxlen=0, approximate=False)
    service = start(programs, deployment)
    until(lambda: any(logged(service, MISSING)))
    assert service.stop() == 0
    assert list(logged(service, COUNTS))[-1]["gaps"] == 1
    assert crossings(service) == {}


def test_a_server_that_goes_away_is_waited_for(programs: Programs) -> None:
    with start_embedded_server() as server:
        deployment = Deployment(server.url, "ts")
        programs.environment.update(deployment.environment)
        service = start(programs, deployment)
    service.says("server unavailable")
    assert service.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_it_at_once(programs: Programs, number: int, status: int) -> None:
    with start_embedded_server() as server:
        deployment = Deployment(server.url, "ts")
        programs.environment.update(deployment.environment)
        service = start(programs, deployment)
        # A server that does not answer keeps it from finishing.
        os.kill(server.pid, signal.SIGSTOP)
        until(lambda: signalled(service, number))
        assert service.status() == status


def signalled(service: Program, number: int) -> bool:
    """Send a signal until the service has ended: one that arrives while another waits is not seen."""
    service.send(number)
    return service.ended


class TestStarting:
    def test_no_server(self, programs: Programs) -> None:
        service = programs.start(ALERTS, "--redis-url", "redis://me:secret@127.0.0.1:1")
        assert service.status() == 2
        assert service.errors.startswith("error: ")
        assert len(service.errors.splitlines()) == 1
        assert "redis://me:***@127.0.0.1:1" in service.errors

    @pytest.mark.parametrize("arguments", [["--every", "0"], ["--every", "nan"], ["--log-level", "loud"]])
    def test_arguments_that_do_not_fit(self, programs: Programs, arguments: list[str]) -> None:
        service = programs.start(ALERTS, *arguments)
        assert service.status() == 2
        assert "usage: turnstream-alerts" in service.errors

    def test_it_ends_while_it_connects(self, programs: Programs) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            service = programs.start(ALERTS, "--redis-url", f"redis://127.0.0.1:{silent.getsockname()[1]}")
            silent.settimeout(60)
            connection, _ = silent.accept()
            with connection:
                assert service.stop() == 0

    def test_help(self, programs: Programs) -> None:
        service = programs.start(ALERTS, "--help")
        assert service.status() == 0
        for word in ("TURNSTREAM_REDIS_URL", "--log-level", "SIGTERM", "Exit status"):
            assert word in service.output
