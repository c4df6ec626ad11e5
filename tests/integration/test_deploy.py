"""`deploy/` and `docker-compose.yml`, checked without Docker.

The files are parsed and what they name is looked for. The server's configuration and its users are tried on a real
Valkey, and a worker is started with the environment and the command that compose would give it.
"""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
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

from turnstream import AddMessage, CreateSession, SessionConfig, Turnstream, UpdateTokenMetrics, user_message
from turnstream.adapters.embedded.binary import find_server
from turnstream.adapters.redis.keys import Keys
from turnstream.domain.models import partition_of
from turnstream.errors import CommandParked
from turnstream.events import SessionCreated
from turnstream_relay.configuration import load_configuration
from turnstream_relay.relay import DRAIN
from turnstream_relay.signatures import new_secret

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


class Logging(msgspec.Struct):
    driver: str
    options: dict[str, str]


class Service(msgspec.Struct):
    stop_grace_period: str
    restart: str
    read_only: bool
    cap_drop: tuple[str, ...]
    security_opt: tuple[str, ...]
    pids_limit: int
    mem_limit: str
    logging: Logging
    secrets: tuple[str, ...]
    environment: dict[str, str] = {}
    user: str | None = None
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


class Secret(msgspec.Struct):
    file: str


class Compose(msgspec.Struct):
    services: dict[str, Service]
    volumes: dict[str, None]
    secrets: dict[str, Secret]


def compose() -> Compose:
    """The file as compose sees it when no variable is set: `${NAME:-default}` is the default."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "docker-compose.yml").read_text())
    return msgspec.yaml.decode(text, type=Compose)


SERVICES = compose().services
VALKEY, WORKER, ALERTS, RELAY = (SERVICES[name] for name in ("valkey", "worker", "alerts", "relay"))
RELAY_FILE = DEPLOY / "relay.toml"
RELAY_MODULE = PROJECT["scripts"][RELAY.entrypoint[0]].partition(".")[0]
CONF_IN_CONTAINER = VALKEY.command[VALKEY.command.index("valkey-server") + 1]
START_IN_CONTAINER = VALKEY.command[1]
SECRETS_IN_CONTAINER = "/run/secrets"
USERS = DEPLOY / "users.acl"
OPERATOR = "change-me-operator"
STRANGE = {role: f"{role}/#?%41@: ü'\"$&" for role in VALKEY.secrets}
"""Passwords that no URL holds as they are."""
PLAIN = {role: f"change-me-{role}" for role in VALKEY.secrets}


def stages() -> list[list[tuple[str, str]]]:
    """The Dockerfile's instructions by stage; those before the first stage are omitted."""
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
    """The value of an option in the server's command of the compose file."""
    return VALKEY.command[VALKEY.command.index(name) + 1]


# ── a server as compose would start it ──


class Server:
    """A running server; `ask` speaks to it as its operator."""

    def __init__(self, port: int, secrets: Path, operator: str) -> None:
        self.port = port
        self.secrets = secrets
        self.operator = operator

    def ask(self, *words: str, password: str | None = "") -> object:
        password = self.operator if password == "" else password
        once = Retry(NoBackoff(), 0)  # a refused password is not asked again
        with redis.Redis(port=self.port, password=password, decode_responses=True, retry=once) as client:
            return cast("object", client.execute_command(*words))

    def setting(self, name: str) -> str:
        return cast("str", mapping(self.ask("CONFIG", "GET", name))[name])


def mapping(answer: object) -> dict[str, object]:
    """Return names with their values; only newer versions of redis-py put them together."""
    if isinstance(answer, dict):
        return cast("dict[str, object]", answer)
    words = cast("list[str]", answer)
    return dict(zip(words[::2], words[1::2], strict=True))


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.01)


def variables_of(service: Service, server: Server) -> dict[str, str]:
    """The environment of a service, for a server that runs here."""
    host, secrets = f"valkey:{conf()['port']}", str(server.secrets)

    def here(value: str) -> str:
        return value.replace(host, f"127.0.0.1:{server.port}").replace(SECRETS_IN_CONTAINER, secrets)

    return {name: here(value) for name, value in service.environment.items()}


@contextmanager
def started(folder: Path, passwords: Mapping[str, str]) -> Generator[Server]:
    """Run the server's command of the compose file, on a free port and in a folder of the test's."""
    secrets = folder / "secrets"
    secrets.mkdir(exist_ok=True)
    for role, password in passwords.items():
        (secrets / role).write_text(f"{password}\n")
    environment = {**os.environ, "SECRETS": str(secrets), "USERS": str(USERS), "TMPDIR": str(folder)}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    here = {
        "valkey-server": find_server(),
        CONF_IN_CONTAINER: DEPLOY / "valkey.conf",
        START_IN_CONTAINER: DEPLOY / "start-valkey.sh",
        option("--dir"): folder,
    }
    words = [str(here.get(word, word)) for word in VALKEY.command] + ["--port", str(port), "--bind", "127.0.0.1"]
    log = folder / "server.log"
    with log.open("wb") as output, subprocess.Popen(words, env=environment, stdout=output, stderr=output) as process:
        try:
            wait_until(lambda: process.poll() is not None or "Ready to accept connections" in log.read_text())
            assert process.poll() is None, log.read_text()
            yield Server(port, secrets, passwords["operator"])
        finally:
            process.terminate()
            process.wait(VALKEY.grace)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    with started(tmp_path_factory.mktemp("server"), STRANGE) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """The server with a user each for operators, workers, producers, subscribers and members of subscriptions."""
    with started(tmp_path_factory.mktemp("guarded"), PLAIN) as running:
        yield running


@contextmanager
def working(server: Server) -> Generator[subprocess.Popen[bytes]]:
    """Run the worker of the image, with the environment of the compose file, on another server."""
    entry: list[str] = msgspec.json.decode(arguments(stages()[-1], "ENTRYPOINT")[0])
    environment = {**os.environ, **variables_of(WORKER, server)}
    with subprocess.Popen((BIN / entry[0], *entry[1:], *WORKER.command), env=environment) as process:
        try:
            # By then it has made the deployment, and loaded what the others call.
            wait_until(lambda: process.poll() is not None or server.ask("EXISTS", "ts:workers") == 1, 60)
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


def test_the_files_the_image_copies_are_in_the_checkout_and_not_ignored() -> None:
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
    assert mounts["./deploy/start-valkey.sh"] == START_IN_CONTAINER
    # The script's default.
    script = (DEPLOY / "start-valkey.sh").read_text()
    assert {mounts["./deploy/users.acl"], SECRETS_IN_CONTAINER} <= set(re.findall(r"\{[A-Z]+:-([^}]+)\}", script))
    assert [where for name, where in mounts.items() if name in compose().volumes] == [option("--dir")]


def test_compose_builds_the_worker_from_the_dockerfile() -> None:
    assert WORKER.build is not None
    assert (ROOT / WORKER.build.context).resolve() == ROOT
    assert (ROOT / WORKER.build.dockerfile) == DEPLOY / "Dockerfile"


def test_the_example_of_a_service_runs_from_the_workers_image_when_it_is_asked_for() -> None:
    assert ALERTS.profiles == ("alerts",)
    assert ALERTS.build == WORKER.build
    assert ALERTS.entrypoint[0] in PROJECT["scripts"]
    assert ALERTS.depends_on == WORKER.depends_on


def test_the_relay_runs_from_the_workers_image_when_it_is_asked_for() -> None:
    assert RELAY.profiles == ("relay",)
    assert RELAY.build == WORKER.build
    assert RELAY.entrypoint[0] in PROJECT["scripts"]
    assert RELAY.environment.items() >= ALERTS.environment.items()
    assert RELAY.depends_on == WORKER.depends_on
    assert RELAY.grace > DRAIN


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert (service.read_only, service.cap_drop) == (True, ("ALL",))
    assert service.security_opt == ("no-new-privileges:true",)
    assert service.pids_limit > 0
    assert re.fullmatch(r"\d+[mg]", service.mem_limit)
    assert {"max-size", "max-file"} <= service.logging.options.keys()


def test_the_server_has_more_memory_than_it_may_fill() -> None:
    megabytes = {"m": 1, "g": 1024}
    limit = int(VALKEY.mem_limit[:-1]) * megabytes[VALKEY.mem_limit[-1]]
    assert limit * 0.6 <= int(conf()["maxmemory"].removesuffix("gb")) * 1024 <= limit * 0.7


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "valkey"])
def test_every_service_has_the_password_of_one_user_from_a_file(name: str) -> None:
    (secret,) = SERVICES[name].secrets
    environment = SERVICES[name].environment
    assert environment["TURNSTREAM_REDIS_USERNAME"] == secret
    assert environment["TURNSTREAM_REDIS_PASSWORD_FILE"] == f"{SECRETS_IN_CONTAINER}/{secret}"
    assert environment["TURNSTREAM_REDIS_URL"] == f"redis://valkey:{conf()['port']}/0"


def test_no_password_is_in_the_compose_file_or_a_command() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert not re.search(r"requirepass|:[^/\s]*@|PASSWORD: ", text)
    assert set(compose().secrets) == set(VALKEY.secrets)
    assert {secret.file for secret in compose().secrets.values()} == {
        f"./deploy/secrets/{name}" for name in VALKEY.secrets
    }


def test_make_creates_the_passwords_and_never_replaces_them(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    made: list[dict[str, str]] = []
    for _ in range(2):
        subprocess.run(("make", "secrets"), cwd=tmp_path, check=True)
        made.append({file.name: file.read_text() for file in (tmp_path / "deploy" / "secrets").iterdir()})
    assert made[0] == made[1]
    assert set(made[0]) == set(VALKEY.secrets)
    assert len(set(made[0].values())) == len(made[0])
    assert all(len(password) > 30 for password in made[0].values())


def test_compose_mounts_the_file_of_endpoints_that_the_relay_reads() -> None:
    mounts = dict(volume.split(":")[:2] for volume in RELAY.volumes)
    assert mounts == {f"./{RELAY_FILE.relative_to(ROOT)}": RELAY.command[-1]}


def test_the_example_of_endpoints_takes_its_secret_from_the_environment_of_compose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = new_secret()
    for variable in RELAY.environment.keys() - ALERTS.environment.keys():
        monkeypatch.setenv(variable, secret)
    (only,) = load_configuration(RELAY_FILE).endpoints.values()
    assert only.secret.get_secret_value() == secret


def test_any_number_of_workers_can_run_once_the_server_is_healthy() -> None:
    assert (WORKER.ports, WORKER.container_name) == ((), None)
    assert WORKER.depends_on["valkey"].condition == "service_healthy"
    assert VALKEY.healthcheck is not None


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
    password = f'VALKEYCLI_AUTH="$$(cat {SECRETS_IN_CONTAINER}/operator)"'
    assert VALKEY.healthcheck.test == ("CMD-SHELL", f"{password} valkey-cli ping | grep -q PONG")
    assert server.ask("PING") is True
    with pytest.raises(redis.AuthenticationError):
        server.ask("PING", password=None)


def test_a_server_without_a_password_for_each_role_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"no password in .*/worker"), started(tmp_path, {**PLAIN, "worker": ""}):
        pass


def test_no_password_can_be_seen_in_the_servers_command_line_or_its_list_of_users(server: Server) -> None:
    seen = f"{server.ask('ACL', 'LIST')} {server.ask('INFO', 'server')} {server.ask('CONFIG', 'GET', '*')}"
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            seen += (process / "cmdline").read_text(errors="replace")
    assert not [role for role, password in STRANGE.items() if password in seen]


def test_data_outlives_the_server(tmp_path: Path) -> None:
    with started(tmp_path, PLAIN) as server:
        server.ask("SET", "ts:kept", "yes", "EX", "600")
    with started(tmp_path, PLAIN) as server:
        assert server.ask("GET", "ts:kept") == "yes"


def test_a_worker_starts_as_under_compose_and_stops_on_request(server: Server) -> None:
    with working(server) as worker:
        assert worker.poll() is None, "the worker ended by itself"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(WORKER.grace) == 0


# ── its users ──


def test_the_users_are_those_that_the_command_prints() -> None:
    printed = subprocess.run((BIN / "turnstream", "acl"), capture_output=True, check=True, text=True)
    assert printed.stdout == USERS.read_text()


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
    ("producer", "FCALL", "enqueue", "1", "ts:commands:{tag}"),
    ("subscriber", "FCALL_RO", "read", "2", "ts:partition:{tag}", "ts:events:{tag}"),
    ("subscriber", "XRANGE", "ts:events:{tag}", "-", "+"),
    ("subscriber", "HGETALL", SESSION),
    ("subscriber", "SUBSCRIBE", "ts:session:a"),
    ("consumer", "XRANGE", "ts:events:{tag}", "-", "+"),
    ("consumer", "HSET", "ts:subscription:{tag}:billing", "sequence", "1"),
    ("consumer", "SADD", "ts:names:{subscriptions}", "billing"),
    ("consumer", "PUBLISH", "ts:changes:{subscriptions}:billing", "members"),
]


@pytest.mark.parametrize("words", PERMITTED, ids=" ".join)
def test_a_user_has_the_permissions_it_needs(guarded: Server, words: tuple[str, ...]) -> None:
    assert guarded.ask("ACL", "DRYRUN", *words, password=OPERATOR) == "OK"


async def operate(url: str, producer: Turnstream, session_id: str) -> None:
    """Park a session by a key of another type, and have an operator fix it, with a worker's permissions."""
    keys = Keys("ts", 64).partitions[partition_of(session_id, 64)]
    async with Redis.from_url(url) as raw, Turnstream.connect(url) as operator:
        await raw.set(keys.messages(session_id), "a text")
        for _ in range(3):
            with pytest.raises(CommandParked):
                await producer.execute(AddMessage(session_id, user_message("Hello")))
        assert (await operator.admin.parked.discard(session_id)).left == 2
        await raw.unlink(keys.messages(session_id))
        assert (await operator.admin.parked.redrive(session_id)).done == 2
        await raw.xadd(keys.commands, {"id": "c1", "type": "unknown"})
        await producer.execute(AddMessage(session_id, user_message("behind it")))
        malformed = await anext(operator.admin.malformed.list())
        assert await operator.admin.malformed.redrive(malformed.id)


async def test_workers_and_producers_get_along_with_their_permissions(guarded: Server) -> None:
    urls = {user: f"redis://{user}:change-me-{user}@127.0.0.1:{guarded.port}/0" for user in ("worker", "producer")}
    with working(guarded):
        async with Turnstream.connect(urls["producer"]) as ts, ts.subscribe(SessionCreated) as events:
            session = await ts.execute(CreateSession(config=SessionConfig(provider="openai", model="gpt-4")))
            assert (await anext(aiter(events))).session_id == session.id
            await operate(urls["worker"], ts, session.id)
    assert refusals(guarded) == []


@contextmanager
def alerting(server: Server, log: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run the example of a service as compose would, on another server."""
    module = PROJECT["scripts"][ALERTS.entrypoint[0]].partition(".")[0]
    environment = {**os.environ, **variables_of(ALERTS, server)}
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
    with working(guarded), alerting(guarded, log) as service:
        async with Turnstream.connect(urls["producer"]) as ts:
            await eventually(lambda: begun(ts, "alerts"), ALERTS.grace)
            session = await ts.execute(CreateSession(config=SessionConfig(provider="openai", model="gpt-4")))
            await ts.execute(UpdateTokenMetrics(session.id, prompt_tokens=8_000))
            await eventually(lambda: "context window critical" in log.read_text(), ALERTS.grace)
        service.send_signal(signal.SIGTERM)
        assert service.wait(ALERTS.grace) == 0
    assert session.id in log.read_text()
    assert refusals(guarded) == []


def refusals(server: Server) -> list[dict[str, object]]:
    """The users' refused commands, except looks at connections: without that permission a consumer waits for leases."""
    entries = [mapping(entry) for entry in cast("list[object]", server.ask("ACL", "LOG"))]
    return [entry for entry in entries if entry["object"] != "client|list"]


async def begun(ts: Turnstream, subscription: str) -> bool:
    """Return whether a subscription has a checkpoint in every partition."""
    names = [info.name async for info in ts.admin.consumers.list()]
    return subscription in names and all([lag.mark async for lag in ts.admin.consumers.lag(subscription)])


@contextmanager
def relaying(server: Server, file: Path, secret: str) -> Generator[subprocess.Popen[bytes]]:
    """Run the relay as compose would, on another server and with another file."""
    words = [str(file) if word == RELAY.command[-1] else word for word in RELAY.command]
    environment = {**os.environ, **variables_of(RELAY, server), "BILLING_SECRET": secret}
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
    users = ("producer", "consumer")
    produces, relays = (f"redis://{user}:change-me-{user}@127.0.0.1:{guarded.port}/0" for user in users)
    async with Receiver(always(Reply(500))).serving() as receiver:
        file = write(tmp_path, to_loopback(RELAY_FILE.read_text(), receiver.url, "attempts = 1"))
        with working(guarded), relaying(guarded, file, receiver.secret) as service:
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
    assert refusals(guarded) == []


async def parked(ts: Turnstream) -> bool:
    return bool([each async for each in ts.admin.consumers.parked("relay.billing")])
