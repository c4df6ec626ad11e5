"""Servers in groups for the tests: a cluster with replicas, and a primary with a replica and three Sentinels.

Each server ends with the process of the tests, however that ends, and its directory goes with it.
"""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from redis import Redis, RedisError
from redis.crc import key_slot
from tests.waiting import SOON, wait_until

from turnstream.adapters.embedded.binary import find_server
from turnstream.adapters.embedded.process import GuardedProcess
from turnstream.adapters.embedded.server import _PORT_ATTEMPTS, _free_port, _gets_ready

SLOTS = 16_384
SERVICE = "sessions"
PASSWORD = "secret"
PRIMARIES = 3

_COMMON = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")
_ROW_WITHOUT_SLOTS = 8
_STEADY = 15_000
"""Milliseconds without an answer after which a node counts as lost: so many that a busy machine loses none."""


_PREFIX = "turnstream-node-"
_STARTING = 300.0
"""Seconds in which a node has locked its directory, also on a busy machine."""


def remove_what_was_left() -> None:
    """Remove the directories of nodes that are gone: one whose watchdog was killed with it leaves its own."""
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - home.stat().st_mtime > _STARTING and not _is_locked(home / "lock"):
                shutil.rmtree(home)


def _is_locked(file: Path) -> bool:
    """Return whether a living server has a lock file; it is its standard input."""
    with suppress(FileNotFoundError), file.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class NotStartedError(Exception):
    """A server ended while it started: another process took one of its ports."""


class Node:
    """One server of a group."""

    def __init__(self, *options: str, config: str = "", at: "Node | None" = None) -> None:
        """Start it, on free ports or on those of a node that has ended."""
        self.port: int = at.port if at else _free_port()
        self.bus: int = at.bus if at else _free_port()
        home = Path(tempfile.mkdtemp(prefix=_PREFIX))
        file = home / "server.conf"
        file.write_text(config.format(port=self.port, bus=self.bus))
        command = (str(find_server()), str(file), "--port", str(self.port), *options)
        command = tuple(word.format(bus=self.bus) for word in command)
        with (home / "lock").open("ab") as lock, (home / "log").open("ab") as output:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.process = GuardedProcess.start(command, home, lock=lock, log=output, scratch=True)
        self._password = ""
        self.raw: Redis = Redis(port=self.port, protocol=2, decode_responses=True)
        if not _gets_ready(self.process, self.port):
            log = (home / "log").read_text()
            self.stop()
            raise NotStartedError(log)

    def call(self, *words: str | int) -> Any:  # noqa: ANN401 - whatever the server answers
        """Send a command."""
        return self.raw.execute_command(*words)  # pyright: ignore[reportUnknownVariableType]

    def lock_with(self, password: str) -> None:
        """Ask for a password from now on, and give it to other servers."""
        self.call("CONFIG", "SET", "masterauth", password)
        self.call("CONFIG", "SET", "requirepass", password)
        self.raw.close()
        self._password = password
        self.raw = Redis(port=self.port, protocol=2, decode_responses=True, password=password)

    def stop(self) -> None:
        """Kill it; a second time does nothing."""
        self.raw.close()
        if self.process.watchdog.returncode is None:
            self.process.stop(grace=0)

    @property
    def url(self) -> str:
        credentials = f":{self._password}@" if self._password else ""
        return f"redis://{credentials}127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self.process.watchdog.returncode is None


class RunningCluster:
    """Three primaries with a replica each; `nodes` holds the primaries, then their replicas in the same order."""

    def __init__(self, nodes: Sequence[Node], start: Callable[[Node], Node]) -> None:
        """Take the nodes, and what starts another one in the place of one that has ended."""
        self.nodes = list(nodes)
        self._start = start

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:PRIMARIES])

    def holder(self, key: str) -> Node:
        """Return the primary that held a key when the cluster was made."""
        return self.nodes[key_slot(key.encode()) * PRIMARIES // SLOTS]

    def replica_of(self, node: Node) -> Node:
        return self.nodes[self.nodes.index(node) + PRIMARIES]

    def fail_over(self, primary: Node, replica: Node) -> Node:
        """Kill a primary, promote its replica, and return a new, empty node on the ports of the first as its replica.

        The promotion is ordered, so there is no wait until enough nodes miss the lost one, and all agree.
        """
        lost = primary.call("CLUSTER", "MYID")
        primary.stop()
        replica.call("CLUSTER", "FAILOVER", "TAKEOVER")
        promoted = replica.call("CLUSTER", "MYID")
        left = [node for node in self.nodes if node is not primary]
        for node in left:
            _eventually(_claims_slots, replica, promoted, node)
        for node in left:
            node.call("CLUSTER", "FORGET", lost)
        added = self._start(primary)
        self.nodes[self.nodes.index(primary)] = added
        _introduce(added, left)
        _eventually(_replicates, added, promoted)
        for node in self.nodes:
            _eventually(_is_ready, node, len(self.nodes))
        return added

    def others(self, *without: Node) -> list[Node]:
        """Return the first primaries but some."""
        return [node for node in self.nodes[:PRIMARIES] if node not in without]


class RunningSentinels:
    """A primary, its replica, and three Sentinels that watch them."""

    def __init__(self, servers: Sequence[Node], sentinels: Sequence[Node]) -> None:
        self.servers = list(servers)
        self.sentinels = list(sentinels)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://:{PASSWORD}@{hosts}/{SERVICE}"

    async def agreed(self) -> None:
        """Wait until each Sentinel knows the others and the replica, so that they can fail over."""
        await wait_until(lambda: all(map(_is_informed, self.sentinels)))


@contextmanager
def running_cluster(
    node_timeout: int = _STEADY, *, replicas: bool = True, announced: str = ""
) -> Generator[RunningCluster]:
    """Start a cluster, without any tool: takes about three seconds, most of which the nodes wait on purpose.

    Clients are sent to the `announced` host, if there is one; the nodes themselves listen on 127.0.0.1.
    """
    options = (
        *(*_COMMON, "--cluster-enabled", "yes", "--cluster-port", "{bus}", "--cluster-node-timeout"),
        *(str(node_timeout), "--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no"),
        *(("--cluster-announce-client-ipv4", announced) if announced else ()),
    )
    with ExitStack() as started:
        nodes = [_started(started, *options) for _ in range(2 * PRIMARIES if replicas else PRIMARIES)]
        for number, node in enumerate(nodes):
            _introduce(node, nodes[:number])
        for number, node in enumerate(nodes[:PRIMARIES]):
            first, behind = (-(-SLOTS * n // PRIMARIES) for n in (number, number + 1))
            node.call("CLUSTER", "ADDSLOTSRANGE", first, behind - 1)
        for node, primary in zip(nodes[PRIMARIES:], nodes, strict=False):
            _eventually(_replicates, node, primary.call("CLUSTER", "MYID"))
        for node in nodes:
            _eventually(_is_ready, node, len(nodes))
        yield RunningCluster(nodes, lambda lost: _started(started, *options, at=lost))


@contextmanager
def running_sentinels() -> Generator[RunningSentinels]:
    """Start a primary with a password, a replica and their Sentinels."""
    with ExitStack() as started:
        primary, replica = (_started(started, *_COMMON) for _ in range(2))
        for node in (primary, replica):
            node.lock_with(PASSWORD)
        replica.call("REPLICAOF", "127.0.0.1", primary.port)
        config = (
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        sentinels = [_started(started, "--sentinel", "--bind", "127.0.0.1", config=config) for _ in range(3)]
        _eventually(lambda: replica.call("INFO", "replication")["master_link_status"] == "up")
        yield RunningSentinels([primary, replica], sentinels)


@contextmanager
def slot_on_its_way(key: str, source: Node, target: Node, others: Sequence[Node]) -> Generator[Callable[..., None]]:
    """Move the slot of a key; yields to move some of its keys, or all that are left. In the end the slot has moved."""
    slot = key_slot(key.encode())
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.call("CLUSTER", "MYID"))
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.call("CLUSTER", "MYID"))

    def move(*keys: str) -> None:
        keys = keys or tuple(source.call("CLUSTER", "GETKEYSINSLOT", slot, 1_000))
        if keys:
            # No key is left if a lease expired since.
            assert source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys) in ("OK", "NOKEY")

    yield move
    # A worker may write in between.
    while source.call("CLUSTER", "COUNTKEYSINSLOT", slot):
        move()
    for node in (target, source, *others):
        node.call("CLUSTER", "SETSLOT", slot, "NODE", target.call("CLUSTER", "MYID"))


def copied(primary: Node, replica: Node) -> None:
    """Wait until a replica has all that its primary has written up to now."""
    written = primary.call("INFO", "replication")["master_repl_offset"]
    _eventually(lambda: replica.call("INFO", "replication")["slave_repl_offset"] >= written)


def _started(started: ExitStack, *options: str, config: str = "", at: Node | None = None) -> Node:
    for _ in range(_PORT_ATTEMPTS - 1):
        with suppress(NotStartedError):
            return _kept(started, Node(*options, config=config, at=at))
    return _kept(started, Node(*options, config=config, at=at))


def _kept(started: ExitStack, node: Node) -> Node:
    started.callback(node.stop)
    return node


def _introduce(node: Node, others: Sequence[Node]) -> None:
    for other in others:
        node.call("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus)


def _replicates(node: Node, primary: str) -> bool:
    with suppress(RedisError):
        node.call("CLUSTER", "REPLICATE", primary)
        return True
    return False


def _is_ready(node: Node, nodes: int) -> bool:
    info = str(node.call("CLUSTER", "INFO"))
    linked = node.call("ROLE")[0] == "master" or node.call("ROLE")[3] == "connected"
    return linked and "cluster_state:ok" in info and f"cluster_known_nodes:{nodes}" in info


def _has_slots(name: str, node: Node) -> bool:
    """Return whether a node knows that another one holds slots."""
    rows = [line.split() for line in str(node.call("CLUSTER", "NODES")).splitlines()]
    return any(row[0] == name and len(row) > _ROW_WITHOUT_SLOTS for row in rows)


def _claims_slots(replica: Node, name: str, node: Node) -> bool:
    """Return whether a node knows of a takeover; one whose epoch another node has, too, is claimed once more."""
    if _has_slots(name, node):
        return True
    replica.call("CLUSTER", "BUMPEPOCH")
    return False


def _is_informed(sentinel: Node) -> bool:
    words = iter(sentinel.call("SENTINEL", "MASTER", SERVICE))
    state = dict(zip(words, words, strict=True))
    return (state["num-other-sentinels"], state["num-slaves"]) == ("2", "1")


def _eventually(condition: Callable[..., bool], *arguments: object) -> None:
    end = time.monotonic() + 3 * SOON
    while not condition(*arguments):
        assert time.monotonic() < end, "a group of servers did not get ready"
        time.sleep(0.02)
