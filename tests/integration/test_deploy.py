"""What `deploy/` and `docker-compose.yml` say, checked without Docker.

The files are parsed and what they name is looked for. The server's configuration and its users are tried on a real
Valkey, and a worker is started with the environment and the command that compose would give it.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import pytest
import redis
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tests.relay.receiver import Receiver, Reply, always, well
from tests.relay.written import to_loopback, write
from tests.waiting import wait_until as eventually

from turnstream import (
    AddMessage,
    CommandParked,
    CreateSession,
    SessionConfig,
    SessionCreated,
    Turnstream,
    UpdateTokenMetrics,
    user_message,
)
from turnstream.adapters.embedded.binary import find_server
from turnstream.adapters.redis.keys import Keys
from turnstream.application.routing import partition_of
from turnstream_relay.configuration import load_configuration
from turnstream_relay.relay import DRAIN
from turnstream_relay.signing import new_secret

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


# ── the files ──


class HealthCheck(msgspec.Struct):
    test: tuple[str, ...]


class Build(msgspec.Struct):
    context: str
    dockerfile: str


class Dependency(msgspec.Struct):
    condition: str


class Service(msgspec.Struct):
    stop_grace_period: str
    environment: dict[str, str]
    command: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    depends_on: dict[str, Dependency] = {}
    build: Build | None = None
    container_name: str | None = None
    healthcheck: HealthCheck | None = None
    entrypoint: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()

    @property
    def grace(self) -> int:
        return int(self.stop_grace_period.removesuffix("s"))


class Compose(msgspec.Struct):
    services: dict[str, Service]
    volumes: dict[str, None]


def compose() -> Compose:
    """The file as compose sees it when no variable is set: `${NAME:-default}` is the default."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "docker-compose.yml").read_text())
    return msgspec.yaml.decode(text, type=Compose)


SERVICES = compose().services
VALKEY, WORKER, ALERTS, RELAY = (SERVICES[name] for name in ("valkey", "worker", "alerts", "relay"))
RELAY_FILE = DEPLOY / "relay.toml"
RELAY_MODULE = PROJECT["scripts"][RELAY.entrypoint[0]].partition(".")[0]
CONF_IN_CONTAINER = VALKEY.command[1]
PASSWORD = VALKEY.environment["VALKEYCLI_AUTH"]  # the one of the health check


def stages() -> list[list[tuple[str, str]]]:
    """The Dockerfile's instructions, those of each stage by themselves; what precedes the first is left out."""
    found: list[list[tuple[str, str]]] = []
    for instruction, arguments in re.findall(r"^([A-Z]+) (.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE):
        if instruction == "FROM":
            found.append([])
        if found:
            found[-1].append((instruction, arguments))
    return found


def arguments(stage: list[tuple[str, str]], instruction: str) -> list[str]:
    return [words for name, words in stage if name == instruction]


def conf() -> dict[str, str]:
    lines = (DEPLOY / "valkey.conf").read_text().splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))


def option(name: str) -> str:
    """What the server's command of the compose file says after an option."""
    return VALKEY.command[VALKEY.command.index(name) + 1]


# ── a server as compose would start it ──


class Server:
    """A running server; `ask` speaks to it as its operator."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, *words: str, password: str | None = PASSWORD) -> object:
        once = Retry(NoBackoff(), 0)  # a refused password is not asked again
        with redis.Redis(port=self.port, password=password, decode_responses=True, retry=once) as client:
            return cast("object", client.execute_command(*words))

    def setting(self, name: str) -> str:
        return cast("dict[str, str]", self.ask("CONFIG", "GET", name))[name]


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.01)


@contextmanager
def started(command: tuple[str, ...], folder: Path) -> Generator[Server]:
    """Run the server's command of the compose file, on a free port and in a folder of the test's."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    here = {"valkey-server": find_server(), CONF_IN_CONTAINER: DEPLOY / "valkey.conf", option("--dir"): folder}
    words = [str(here.get(word, word)) for word in command] + ["--port", str(port), "--bind", "127.0.0.1"]
    log = folder / "server.log"
    with log.open("wb") as output, subprocess.Popen(words, stdout=output, stderr=output) as process:
        try:
            wait_until(lambda: process.poll() is not None or "Ready to accept connections" in log.read_text())
            assert process.poll() is None, log.read_text()
            yield Server(port)
        finally:
            process.terminate()
            process.wait(VALKEY.grace)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    with started(VALKEY.command, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """The server with a user each for operators, workers, producers, subscribers and members of subscriptions."""
    without_password = VALKEY.command[: VALKEY.command.index("--requirepass")]
    command = (*without_password, "--aclfile", str(DEPLOY / "users.acl"))
    with started(command, tmp_path_factory.mktemp("guarded")) as running:
        yield running


@contextmanager
def working(url: str) -> Generator[subprocess.Popen[bytes]]:
    """Run the worker of the image, with the environment of the compose file, on another server."""
    entry: list[str] = msgspec.json.decode(arguments(stages()[-1], "ENTRYPOINT")[0])
    environment = {**os.environ, **WORKER.environment, "TURNSTREAM_REDIS_URL": url}
    with subprocess.Popen((BIN / entry[0], *entry[1:], *WORKER.command), env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


# ── the image ──


def test_the_image_is_built_in_one_stage_and_runs_in_another() -> None:
    build, image = stages()
    folder = next(line.split()[-1] for line in arguments(build, "RUN") if "-m venv" in line)
    assert arguments(build, "FROM")[0].endswith(" AS build")
    assert arguments(image, "COPY") == [f"--from=build {folder} {folder}"]
    assert f"PATH={folder}/bin:$PATH" in arguments(image, "ENV")[0].split()


def test_what_the_image_copies_is_in_the_checkout_and_not_ignored() -> None:
    allowed = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = {source for line in arguments(stages()[0], "COPY") for source in line.split()[:-1]}
    assert copied == allowed
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_image_installs_extras_that_exist() -> None:
    install = next(line for line in arguments(stages()[0], "RUN") if "pip install" in line)
    extras = re.findall(r"\[(.+)\]", install)
    assert extras
    assert set(extras[0].split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_image_does_not_run_as_root() -> None:
    users = arguments(stages()[-1], "USER")
    assert users
    assert int(users[-1].partition(":")[0]) > 0


def test_the_images_python_is_one_that_the_project_supports() -> None:
    version = re.findall(r"^ARG PYTHON=(.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert f"Programming Language :: Python :: {version[0]}" in PROJECT["classifiers"]


def test_the_image_runs_a_script_of_the_project() -> None:
    (entry,) = arguments(stages()[-1], "ENTRYPOINT")
    script: list[str] = msgspec.json.decode(entry)
    assert script[0] in PROJECT["scripts"]
    assert subprocess.run((BIN / script[0], "--help"), capture_output=True, check=False).returncode == 0


# ── compose ──


def test_compose_mounts_the_configuration_that_the_server_reads_and_the_folder_that_it_writes() -> None:
    mounts = dict(volume.split(":")[:2] for volume in VALKEY.volumes)
    assert mounts["./deploy/valkey.conf"] == CONF_IN_CONTAINER
    assert [where for name, where in mounts.items() if name in compose().volumes] == [option("--dir")]


def test_compose_builds_the_worker_from_the_dockerfile() -> None:
    assert WORKER.build is not None
    assert (ROOT / WORKER.build.context).resolve() == ROOT
    assert (ROOT / WORKER.build.dockerfile) == DEPLOY / "Dockerfile"


def test_the_example_of_a_service_runs_from_the_workers_image_when_it_is_asked_for() -> None:
    assert ALERTS.profiles == ("alerts",)
    assert ALERTS.build == WORKER.build
    assert ALERTS.entrypoint[0] in PROJECT["scripts"]
    assert ALERTS.environment == WORKER.environment
    assert ALERTS.depends_on == WORKER.depends_on


def test_the_relay_runs_from_the_workers_image_when_it_is_asked_for() -> None:
    assert RELAY.profiles == ("relay",)
    assert RELAY.build == WORKER.build
    assert RELAY.entrypoint[0] in PROJECT["scripts"]
    assert RELAY.environment.items() >= WORKER.environment.items()
    assert RELAY.depends_on == WORKER.depends_on
    assert RELAY.grace > DRAIN


def test_the_relay_is_as_hardened_as_a_worker() -> None:
    hardened = {"read_only", "cap_drop", "security_opt"}
    services = msgspec.yaml.decode((ROOT / "docker-compose.yml").read_bytes())["services"]
    wanted = {name: services["worker"][name] for name in hardened}
    assert {name: services["relay"][name] for name in hardened} == wanted


def test_compose_mounts_the_file_of_endpoints_that_the_relay_reads() -> None:
    mounts = dict(volume.split(":")[:2] for volume in RELAY.volumes)
    assert mounts == {f"./{RELAY_FILE.relative_to(ROOT)}": RELAY.command[-1]}


def test_the_example_of_endpoints_takes_its_secret_from_the_environment_of_compose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = new_secret()
    for variable in RELAY.environment.keys() - WORKER.environment.keys():
        monkeypatch.setenv(variable, secret)
    (only,) = load_configuration(RELAY_FILE).endpoints.values()
    assert only.secret.get_secret_value() == secret


def test_any_number_of_workers_can_run_once_the_server_is_healthy() -> None:
    assert (WORKER.ports, WORKER.container_name) == ((), None)
    assert WORKER.depends_on["valkey"].condition == "service_healthy"
    assert VALKEY.healthcheck is not None


def test_the_workers_url_names_the_server_of_compose() -> None:
    assert WORKER.environment["TURNSTREAM_REDIS_URL"] == f"redis://:{PASSWORD}@valkey:{conf()['port']}/0"


# ── the server's configuration, on the real server ──


@pytest.mark.parametrize(
    ("name", "value"),
    [("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "noeviction"), ("protected-mode", "yes")],
)
def test_the_configuration_is_in_force(server: Server, name: str, value: str) -> None:
    assert server.setting(name) == value


def test_memory_has_a_limit(server: Server) -> None:
    assert int(server.setting("maxmemory")) > 0


def test_the_health_check_asks_for_an_answer_that_only_a_ready_server_with_this_password_gives(server: Server) -> None:
    assert VALKEY.healthcheck is not None
    assert VALKEY.healthcheck.test == ("CMD-SHELL", "valkey-cli ping | grep -q PONG")
    assert server.ask("PING") is True
    with pytest.raises(redis.AuthenticationError):
        server.ask("PING", password=None)


def test_data_outlives_the_server(tmp_path: Path) -> None:
    with started(VALKEY.command, tmp_path) as server:
        server.ask("SET", "ts:kept", "yes", "EX", "600")
    with started(VALKEY.command, tmp_path) as server:
        assert server.ask("GET", "ts:kept") == "yes"


def test_a_worker_starts_as_compose_would_start_it_and_leaves_when_it_is_told_to(server: Server) -> None:
    url = WORKER.environment["TURNSTREAM_REDIS_URL"].replace(f"valkey:{conf()['port']}", f"127.0.0.1:{server.port}")
    with working(url) as worker:
        wait_until(lambda: worker.poll() is not None or server.ask("EXISTS", "ts:workers") == 1)
        assert worker.poll() is None, "the worker ended by itself"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(WORKER.grace) == 0


# ── its users ──

OPERATOR = "change-me-operator"
SESSION = "ts:session:{tag}:a"

PERMITTED = [
    ("worker", "HSET", SESSION, "version", "1"),
    ("worker", "EVALSHA", "0" * 40, "1", "ts:partition:{tag}"),
    ("worker", "PUBLISH", "ts:events:session-created", "…"),
    ("worker", "INFO", "replication"),
    ("worker", "CLIENT", "LIST"),
    ("worker", "WAITAOF", "1", "0", "100"),
    ("producer", "XADD", "ts:commands:{tag}", "*", "type", "create-session"),
    ("producer", "HGETALL", SESSION),
    ("producer", "XRANGE", "ts:events:{tag}", "-", "+"),
    ("producer", "SUBSCRIBE", "ts:session:a"),
    ("producer", "INFO", "server"),
    ("subscriber", "EVALSHA_RO", "0" * 40, "2", "ts:partition:{tag}", "ts:events:{tag}"),
    ("subscriber", "XRANGE", "ts:events:{tag}", "-", "+"),
    ("subscriber", "HGETALL", SESSION),
    ("subscriber", "SUBSCRIBE", "ts:session:a"),
    ("consumer", "XRANGE", "ts:events:{tag}", "-", "+"),
    ("consumer", "HSET", "ts:subscription:{tag}:billing", "sequence", "1"),
    ("consumer", "SADD", "ts:names:{subscriptions}", "billing"),
    ("consumer", "PUBLISH", "ts:changes:{subscriptions}:billing", "members"),
]
FORBIDDEN = [
    *((user, *words) for user in ("worker", "producer", "subscriber", "consumer") for words in (
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "requirepass"),
        ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
        ("SHUTDOWN",),
        ("SCRIPT", "FLUSH"),
        ("ACL", "LIST"),
        ("GET", "another:key"),
        ("SUBSCRIBE", "another:channel"),
    )),
    ("producer", "HSET", SESSION, "version", "1"),
    ("producer", "UNLINK", SESSION),
    ("producer", "XTRIM", "ts:commands:{tag}", "MAXLEN", "0"),
    ("producer", "PUBLISH", "ts:events:session-created", "forged"),
    ("subscriber", "XADD", "ts:commands:{tag}", "*", "type", "create-session"),
    ("subscriber", "SET", SESSION, "…"),
    ("subscriber", "EVALSHA", "0" * 40, "1", "ts:partition:{tag}"),
    ("subscriber", "PUBLISH", "ts:events:session-created", "forged"),
    ("consumer", "XADD", "ts:commands:{tag}", "*", "type", "create-session"),
    ("consumer", "HSET", SESSION, "version", "1"),
    ("consumer", "UNLINK", "ts:events:{tag}"),
    ("consumer", "PUBLISH", "ts:events:session-created", "forged"),
]  # fmt: skip


@pytest.mark.parametrize("words", PERMITTED, ids=" ".join)
def test_a_user_may_do_what_it_needs(guarded: Server, words: tuple[str, ...]) -> None:
    assert guarded.ask("ACL", "DRYRUN", *words, password=OPERATOR) == "OK"


@pytest.mark.parametrize("words", FORBIDDEN, ids=" ".join)
def test_a_user_may_do_nothing_else(guarded: Server, words: tuple[str, ...]) -> None:
    assert "permissions" in str(guarded.ask("ACL", "DRYRUN", *words, password=OPERATOR))


async def operate(url: str, producer: Turnstream, session_id: str) -> None:
    """Park a session by a foreign key, and have an operator mend it, with the rights of a worker."""
    keys = Keys("ts", 64).partitions[partition_of(session_id, 64)]
    async with Redis.from_url(url) as raw, Turnstream.connect(url) as operator:
        await raw.set(keys.messages(session_id), "a text")
        for _ in range(3):
            with pytest.raises(CommandParked):
                await producer.execute(AddMessage(session_id, user_message("Hello")))
        assert (await operator.parked.discard(session_id)).left == 2
        await raw.unlink(keys.messages(session_id))
        assert (await operator.parked.redrive(session_id)).done == 2
        await raw.xadd(keys.commands, {"id": "c1", "type": "unknown"})
        await producer.execute(AddMessage(session_id, user_message("behind it")))
        malformed = await anext(operator.malformed.list())
        assert await operator.malformed.redrive(malformed.id)


async def test_workers_and_producers_get_along_with_their_permissions(guarded: Server) -> None:
    urls = {user: f"redis://{user}:change-me-{user}@127.0.0.1:{guarded.port}/0" for user in ("worker", "producer")}
    with working(urls["worker"]):
        async with Turnstream.connect(urls["producer"]) as ts, ts.subscribe(SessionCreated) as events:
            session = await ts.execute(CreateSession(config=SessionConfig(provider="openai", model="gpt-4")))
            assert (await anext(aiter(events))).session_id == session.id
            await operate(urls["worker"], ts, session.id)
    assert guarded.ask("ACL", "LOG", password=OPERATOR) == []


@contextmanager
def alerting(url: str, log: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run the example of a service as compose would, on another server."""
    module = PROJECT["scripts"][ALERTS.entrypoint[0]].partition(".")[0]
    environment = {**os.environ, "TURNSTREAM_REDIS_URL": url}
    with (
        log.open("wb") as errors,
        subprocess.Popen((sys.executable, "-m", module), env=environment, stderr=errors) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


async def test_members_of_a_durable_subscription_get_along_with_their_permissions(
    guarded: Server, tmp_path: Path
) -> None:
    users = ("worker", "producer", "consumer")
    urls = {user: f"redis://{user}:change-me-{user}@127.0.0.1:{guarded.port}/0" for user in users}
    log = tmp_path / "alerts.log"
    with working(urls["worker"]), alerting(urls["consumer"], log) as service:
        async with Turnstream.connect(urls["producer"]) as ts:
            await eventually(lambda: begun(ts, "alerts"), ALERTS.grace)
            session = await ts.execute(CreateSession(config=SessionConfig(provider="openai", model="gpt-4")))
            await ts.execute(UpdateTokenMetrics(session.id, prompt_tokens=8_000))
            await eventually(lambda: "context window critical" in log.read_text(), ALERTS.grace)
        service.send_signal(signal.SIGTERM)
        assert service.wait(ALERTS.grace) == 0
    assert session.id in log.read_text()
    assert guarded.ask("ACL", "LOG", password=OPERATOR) == []


async def begun(ts: Turnstream, subscription: str) -> bool:
    """Tell whether a subscription has a checkpoint in every partition."""
    names = [info.name for info in await ts.subscriptions.list_all()]
    return subscription in names and all(lag.mark for lag in await ts.subscriptions.lag(subscription))


@contextmanager
def relaying(url: str, file: Path, secret: str) -> Generator[subprocess.Popen[bytes]]:
    """Run the relay as compose would, on another server and with another file."""
    words = [str(file) if word == RELAY.command[-1] else word for word in RELAY.command]
    environment = {**os.environ, **RELAY.environment, "BILLING_SECRET": secret, "TURNSTREAM_REDIS_URL": url}
    with subprocess.Popen((sys.executable, "-m", RELAY_MODULE, *words), env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


async def typed(url: str, file: Path, secret: str, *words: str) -> str:
    """Run another command of the relay to its end, and return what it printed."""
    environment = {**os.environ, "BILLING_SECRET": secret, "TURNSTREAM_REDIS_URL": url}
    command = (sys.executable, "-m", RELAY_MODULE, *words, "--config", str(file))
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output.decode()


async def test_the_relay_gets_along_with_the_permissions_of_a_durable_subscription(
    guarded: Server, tmp_path: Path
) -> None:
    users = ("worker", "producer", "consumer")
    works, produces, relays = (f"redis://{user}:change-me-{user}@127.0.0.1:{guarded.port}/0" for user in users)
    async with Receiver(always(Reply(500))).serving() as receiver:
        file = write(tmp_path, to_loopback(RELAY_FILE.read_text(), receiver.url, "attempts = 1"))
        with working(works), relaying(relays, file, receiver.secret) as service:
            async with Turnstream.connect(produces) as ts:
                await eventually(lambda: begun(ts, "relay.billing"), RELAY.grace)
                session = await ts.execute(CreateSession(config=SessionConfig(provider="openai", model="gpt-4")))
                await ts.execute(UpdateTokenMetrics(session.id, prompt_tokens=10))
                await eventually(lambda: bool(receiver.refused), RELAY.grace)
                await eventually(lambda: parked(ts), RELAY.grace)
            operate = partial(typed, relays, file, receiver.secret)
            assert session.id in await operate("parked", "list")
            receiver.behaviour = well
            assert "delivered" in await operate("parked", "redrive", "--endpoint", "billing")
            mine = receiver.refused[0].id
            assert receiver.ids == [mine]
            await operate("replay", "--endpoint", "billing", "--since", "1h")
            # Events of other tests come, too.
            await eventually(lambda: receiver.ids.count(mine) == 2, RELAY.grace)
            service.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(service.wait, RELAY.grace) == 0
    assert guarded.ask("ACL", "LOG", password=OPERATOR) == []


async def parked(ts: Turnstream) -> bool:
    return bool(await ts.subscriptions.parked("relay.billing"))
