"""Workers as processes: how they start, share, hand over and end."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import redis
from tests.builders import CONFIG
from tests.e2e.programs import (
    PARTITIONS,
    PATIENCE,
    URL_FORMS,
    WORKER,
    Deployment,
    Program,
    Programs,
    children,
    needs_proc,
    until,
)
from tests.waiting import wait_until

from turnstream import AddMessage, CreateSession, Settings, Turnstream, user_message
from turnstream.adapters.embedded import start_embedded_server
from turnstream.settings import load_settings

SHARES = {"one-1": PARTITIONS // 2, "one-2": PARTITIONS // 2}
"""The partitions that a supervisor's two workers own."""


def settings_of(deployment: Deployment) -> Settings:
    return load_settings(redis_url=deployment.url, namespace=deployment.namespace)


class TestEnding:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_politely(self, programs: Programs, deployment: Deployment, number: int) -> None:
        worker = programs.worker()
        until(lambda: deployment.owned_by(one=PARTITIONS))
        assert worker.stop(number) == 0
        assert deployment.owners() == []
        assert deployment.workers() == 0
        assert "worker stopped" in worker.errors

    async def test_the_next_worker_resumes_where_it_stopped(self, programs: Programs, deployment: Deployment) -> None:
        async with Turnstream.connect(settings=settings_of(deployment)) as ts:
            sessions = [f"session-{number}" for number in range(20)]
            messages = {session: [user_message(str(number)) for number in range(50)] for session in sessions}
            worker = programs.worker()
            for created in await ts.send_many([CreateSession(CONFIG, session) for session in sessions]):
                await created
            commands = [AddMessage(session, messages[session][number]) for number in range(50) for session in sessions]
            tickets = await ts.send_many(commands)
            worker.send(signal.SIGTERM)
            await wait_until(lambda: worker.ended, PATIENCE)
            programs.worker(name="two")
            for ticket in tickets:
                await ticket
            for session in sessions:
                assert list(await ts.sessions.messages(session)) == messages[session]
        assert worker.status() == 0

    @pytest.mark.slow
    @pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_a_second_signal_ends_it_at_once(self, programs: Programs, number: int, status: int) -> None:
        with start_embedded_server() as server:
            deployment = Deployment(server.url, "ts")
            worker = programs.worker(deployment=deployment)
            until(lambda: deployment.owned_by(one=PARTITIONS))
            # A server that does not answer keeps it from finishing.
            os.kill(server.pid, signal.SIGSTOP)
            until(lambda: signalled(worker, number))
            assert worker.status() == status

    def test_it_ends_without_its_server(self, programs: Programs) -> None:
        with start_embedded_server() as server:
            deployment = Deployment(server.url, "ts")
            worker = programs.worker(deployment=deployment)
            until(lambda: deployment.owned_by(one=PARTITIONS))
        worker.says("server unavailable")
        assert worker.stop() == 0

    def test_it_ends_while_it_connects(self, programs: Programs) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            worker = programs.start(WORKER, "--redis-url", f"redis://127.0.0.1:{silent.getsockname()[1]}")
            silent.settimeout(60)
            connection, _ = silent.accept()
            with connection:
                assert worker.stop() == 0

    def test_it_ends_with_its_standard_input(self, programs: Programs, deployment: Deployment) -> None:
        worker = programs.worker("--stop-at-eof", stdin=subprocess.PIPE)
        until(lambda: deployment.owned_by(one=PARTITIONS))
        assert worker.process.stdin
        worker.process.stdin.close()
        assert worker.status() == 0
        assert deployment.owners() == []


class TestSharing:
    def test_two_divide_the_partitions_and_hand_them_over(self, programs: Programs, deployment: Deployment) -> None:
        one, two = programs.worker(name="one"), programs.worker(name="two")
        until(lambda: deployment.owned_by(one=PARTITIONS // 2, two=PARTITIONS // 2))
        assert one.stop() == 0
        until(lambda: deployment.owned_by(two=PARTITIONS))
        assert two.stop() == 0
        assert deployment.owners() == []


@needs_proc
class TestSupervisor:
    def test_it_runs_several_and_ends_them(self, programs: Programs, deployment: Deployment) -> None:
        supervisor, _ = self.start(programs, deployment)
        assert supervisor.stop() == 0
        assert deployment.owners() == []
        assert programs.left() == set()

    def test_a_crashed_worker_is_started_again(self, programs: Programs, deployment: Deployment) -> None:
        supervisor, workers = self.start(programs, deployment)
        crashed = min(workers)
        os.kill(crashed, signal.SIGKILL)
        supervisor.says("worker process ended, starting another")
        until(lambda: len(children(supervisor, programs.left()) - {crashed}) == 2)
        assert supervisor.stop() == 0
        assert programs.left() == set()

    def test_a_service_manager_may_signal_all_of_them(self, programs: Programs, deployment: Deployment) -> None:
        supervisor, workers = self.start(programs, deployment)
        for pid in (supervisor.process.pid, *workers):
            os.kill(pid, signal.SIGTERM)
        assert supervisor.status() == 0
        assert supervisor.errors.count("worker stopped") == 2
        assert deployment.owners() == []

    def test_a_worker_that_crashes_while_the_server_is_away_is_started_again(
        self, programs: Programs, tmp_path: Path
    ) -> None:
        with start_embedded_server(tmp_path) as server:
            deployment = Deployment(server.url, "ts")
            supervisor, workers = self.start(programs, deployment)
        os.kill(min(workers), signal.SIGKILL)
        supervisor.says("worker process ended, starting another")
        with start_embedded_server(tmp_path, port=server.port):
            until(lambda: deployment.owned_by(**SHARES))
            assert supervisor.stop() == 0

    @pytest.mark.slow
    def test_a_killed_supervisor_leaves_no_worker(self, programs: Programs, deployment: Deployment) -> None:
        supervisor, _ = self.start(programs, deployment)
        supervisor.stop(signal.SIGKILL)
        until(lambda: programs.left() == set())
        assert deployment.owners() == []

    @pytest.mark.slow
    def test_a_second_signal_ends_all_at_once(self, programs: Programs) -> None:
        with start_embedded_server() as server:
            supervisor, _ = self.start(programs, Deployment(server.url, "ts"))
            os.kill(server.pid, signal.SIGSTOP)
            until(lambda: signalled(supervisor, signal.SIGTERM))
            assert supervisor.status() == 143
            until(lambda: programs.left() == set())

    def test_a_worker_that_cannot_work_ends_all(self, programs: Programs, deployment: Deployment) -> None:
        supervisor, workers = self.start(programs, deployment)
        with redis.Redis.from_url(deployment.url) as client:
            client.set(deployment.keys.layout, "32 2")
        os.kill(min(workers), signal.SIGKILL)
        assert supervisor.status() == 2
        assert "set TURNSTREAM_PARTITIONS to 32" in supervisor.errors
        assert programs.left() == set()

    @staticmethod
    def start(programs: Programs, deployment: Deployment) -> tuple[Program, set[int]]:
        """Start a supervisor of two, and wait until both work."""
        supervisor = programs.worker("--processes", "2", deployment=deployment)
        until(lambda: deployment.workers() == 2 and deployment.owned_by(**SHARES))
        workers = children(supervisor, programs.left())
        assert len(workers) == 2
        return supervisor, workers


class TestStarting:
    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_a_server_that_is_not_there_yet_is_waited_for(
        self, programs: Programs, tmp_path: Path, processes: str
    ) -> None:
        with start_embedded_server(tmp_path) as server:
            deployment = Deployment(server.url, "ts")
        worker = programs.worker("--processes", processes, deployment=deployment)
        worker.says("server unavailable")
        with start_embedded_server(tmp_path, port=server.port):
            until(lambda: deployment.workers() == int(processes))
            assert worker.stop() == 0
        assert "ended" not in worker.errors

    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_it_ends_while_it_waits_for_a_server(self, programs: Programs, processes: str) -> None:
        worker = programs.start(WORKER, "--redis-url", "redis://me:secret@127.0.0.1:1", "--processes", processes)
        worker.says("server unavailable")
        assert "redis://me:***@127.0.0.1:1" in worker.errors
        assert "secret" not in worker.errors
        assert worker.stop() == 0

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("TURNSTREAM_LEASE", "soon"),
            ("TURNSTREAM_PARTITIONS", "3"),
            ("TURNSTREAM_CATALOGUE_FILE", "/nowhere/models.toml"),
            ("TURNSTREAM_REDIS_URL", "http://localhost"),
        ],
    )
    def test_a_setting_that_does_not_fit(self, programs: Programs, variable: str, value: str) -> None:
        worker = programs.start(WORKER, environment={variable: value})
        assert worker.status() == 2
        assert_one_line(worker.errors)

    @pytest.mark.parametrize("arguments", [["--processes", "0"], ["--processes", "many"], ["--log-level", "loud"]])
    def test_arguments_that_cannot_be_read(self, programs: Programs, arguments: list[str]) -> None:
        worker = programs.start(WORKER, *arguments)
        assert worker.status() == 2
        assert "usage: turnstream-worker" in worker.errors

    def test_help(self, programs: Programs) -> None:
        worker = programs.start(WORKER, "--help")
        assert worker.status() == 0
        for word in ("TURNSTREAM_REDIS_URL", "--processes", "SIGTERM", "exit status", "examples", *URL_FORMS):
            assert word in worker.output


def signalled(program: Program, number: int) -> bool:
    """Send a signal until the program has ended: one that arrives while another waits is not seen."""
    program.send(number)
    return program.ended


def assert_one_line(errors: str) -> None:
    assert errors.startswith("error: ")
    assert len(errors.splitlines()) == 1, errors
