"""The parameters of a run, and its result."""

from collections.abc import Mapping, Sequence
from itertools import count

import msgspec
from tests.chaos.history import History
from tests.chaos.sites import Site

from turnstream.domain.models import partition_of
from turnstream.settings import Secret, Settings

POISONED_EVERY = 4
"""Of so many sessions one may be poisoned: the others show that nothing comes to them."""


class Plan(msgspec.Struct, frozen=True):
    """How a run is made: its seed and length in seconds, and how much is going on."""

    seed: int
    seconds: float
    sessions: int = 24
    clients: int = 3
    workers: int = 3
    members: int = 2
    """Processes of a durable subscription to all events."""
    partitions: int = 8
    lease: float = 1.0
    heartbeat: float = 2.0
    changes: int = 5
    """How many workers are drained, and as many killed, when all else is well again."""

    @property
    def session_ids(self) -> Sequence[str]:
        """The sessions, as many of them in each partition: `s0` and others."""
        first = partition_of("s0", self.partitions)
        return [self._id(number, (first + number) % self.partitions) for number in range(self.sessions)]

    @property
    def victims(self) -> Sequence[str]:
        """Those that may be poisoned."""
        return self.session_ids[1::POISONED_EVERY]

    def _id(self, number: int, partition: int) -> str:
        names = (f"s{number}{'.' * dots}" for dots in count())
        return next(name for name in names if partition_of(name, self.partitions) == partition)

    def settings(self, site: Site) -> Settings:
        """Return settings that keep everything for the checker: outcomes for longer than the run."""
        return Settings(
            redis_url=Secret(site.url),
            durability=site.durability,
            namespace="chaos",
            partitions=self.partitions,
            lease=self.lease,
            heartbeat=self.heartbeat,
            deduplication_window=max(3_600.0, 4 * self.seconds),
            event_retention=site.event_retention,
            event_retention_bytes=10**12,
        )

    def environment(self, site: Site, url: str) -> dict[str, str]:
        """Return the same for processes that connect to a URL."""
        settings = self.settings(site)
        retained = ("event_retention", "event_retention_bytes")
        names = ("namespace", "partitions", "lease", "heartbeat", "deduplication_window", *retained, "durability")
        chosen = {f"TURNSTREAM_{name.upper()}": str(getattr(settings, name)) for name in names}
        return chosen | {"TURNSTREAM_REDIS_URL": url}


class Result(msgspec.Struct):
    """The result of a run: its history, and figures that are printed but not judged."""

    history: History
    faults: dict[str, int]
    changes: Mapping[str, Sequence[float]]
    settled_after: float
    died: Sequence[str]
    redriven: int
    """How often a session was redriven."""
