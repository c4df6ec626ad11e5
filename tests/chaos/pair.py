"""A primary and its replica behind proxies that lead to the current primary; a failover loses unreplicated data."""

import asyncio
import time
from collections.abc import Sequence

from redis import Redis
from tests.chaos.proxy import Proxy
from tests.waiting import SOON

from turnstream.adapters.embedded import EmbeddedServer, start_embedded_server


class Pair:
    """Two servers that keep nothing on disk."""

    def __init__(self) -> None:
        """Start them."""
        self._ways: Sequence[Proxy] = ()
        self._primary = start_embedded_server()
        self._replica = _copy_of(self._primary)

    @property
    def url(self) -> str:
        """The primary of this moment."""
        return self._primary.url

    @property
    def port(self) -> int:
        """Its port."""
        return self._primary.port

    def led_by(self, ways: Sequence[Proxy]) -> None:
        """Have proxies lead to the primary from now on."""
        self._ways = ways

    def cut_off(self) -> None:
        """End the replication: the replica is a primary too now, and no client uses it yet."""
        with Redis.from_url(self._replica.url, protocol=2) as raw:
            raw.execute_command("REPLICAOF", "NO", "ONE")

    async def fail_over(self) -> None:
        """Kill the primary, lead all clients to the replica, and attach an empty replica to it."""
        lost, self._primary = self._primary, self._replica
        await asyncio.to_thread(lost.close)
        # Only now, so that no client reaches both.
        for way in self._ways:
            way.lead_to(self._primary.port)
        self._replica = await asyncio.to_thread(_copy_of, self._primary)

    def flush(self) -> None:
        """Delete everything, also on the replica."""
        with Redis.from_url(self.url, protocol=2) as raw:
            raw.flushall()

    def close(self) -> None:
        """End both."""
        self._primary.close()
        self._replica.close()


def _copy_of(primary: EmbeddedServer) -> EmbeddedServer:
    replica = start_embedded_server()
    with Redis.from_url(primary.url, protocol=2) as raw:
        # By default a primary waits five seconds for more replicas to come.
        raw.config_set("repl-diskless-sync-delay", 0)
    with Redis.from_url(replica.url, protocol=2) as raw:
        raw.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        end = time.monotonic() + SOON
        while raw.info("replication")["master_link_status"] != "up":
            assert time.monotonic() < end, "the replica has no copy of its primary"
            time.sleep(0.01)
    return replica
