"""What all parts of the adapter share: the connection, the keys, the scripts, and what the operator has chosen."""

from typing import Any

import msgspec

from turnstream.adapters.redis.buckets import Buckets
from turnstream.adapters.redis.connection import Connector, PipelinedConnection
from turnstream.adapters.redis.keys import Keys, PartitionKeys
from turnstream.adapters.redis.scripting import Scripts
from turnstream.adapters.redis.words import WordList
from turnstream.settings import Settings


class Server(msgspec.Struct, frozen=True):
    """One server that holds a deployment; `knows_replication` where it has a replication id to check."""

    connect: Connector
    where: str
    connection: PipelinedConnection
    keys: Keys
    scripts: Scripts
    buckets: Buckets
    settings: Settings
    knows_replication: bool = True

    def partition(self, number: int) -> PartitionKeys:
        """Return the keys of a partition."""
        return self.keys.partitions[number]

    async def read(self, partition: int, reads: WordList) -> list[Any]:
        """Return the answers to several reads of a partition, as of one moment."""
        keys = [self.partition(partition).partition]
        answers: list[Any] = await self.scripts.read.run(self.connection, keys, reads.words)
        return answers
