"""The signals of a store to the worker that called it: exceptions that no caller of the library receives.

    TurnstreamError
    ├── Fenced                the partition is written by another owner now; this one stops
    ├── TooLate               a batch holds a command whose time is over (`now_ms`); the worker decides it again
    ├── Collision             a batch was decided without knowing something that is stored; decided again, too
    ├── WorkerDied            workers died while they applied a command, which is parked
    └── BatchRefused          the store cannot write a batch as it is; one of its commands is parked
        └── PartitionRefused  as `BatchRefused`, but the fault is in a key of the whole partition

The processor treats `StoredDataInvalid`, which is public, like a `BatchRefused`.
"""

from turnstream.errors import TurnstreamError


class Fenced(TurnstreamError):  # noqa: N818 - a state of the partition
    """The partition has a new owner, or changed under this one: nothing was written."""

    def __init__(self, partition: int, reason: str) -> None:
        """Name the partition and the check that failed (`token`, `replid`, `cursor`, `sequence`, `version`)."""
        super().__init__(f"Partition {partition} was not written: {reason} is not what this worker expects")
        self.partition = partition
        self.reason = reason


class TooLate(TurnstreamError):  # noqa: N818 - a state of the batch
    """A batch would apply a command after its time: nothing was written."""

    def __init__(self, partition: int, now_ms: int) -> None:
        """Name the partition, and the time of the server, in milliseconds since 1970."""
        super().__init__(
            f"Partition {partition} was not written: at {now_ms} the time of a command of the batch is over"
        )
        self.partition = partition
        self.now_ms = now_ms


class Collision(TurnstreamError):  # noqa: N818 - a state of the batch
    """A batch would write an outcome or a message that is stored already: nothing was written."""

    def __init__(self, partition: int) -> None:
        """Name the partition."""
        super().__init__(
            f"Partition {partition} was not written: a command or a message of the batch is stored already"
        )
        self.partition = partition


class WorkerDied(TurnstreamError):  # noqa: N818 - a state of the command
    """The processes of several workers ended while they applied a command."""

    def __init__(self, deaths: int) -> None:
        """Keep how many."""
        super().__init__(f"{deaths} workers died on it")
        self.deaths = deaths


class BatchRefused(TurnstreamError):  # noqa: N818 - a state of the batch
    """The store cannot write or read what a batch needs, and would not another time: nothing was written."""

    def __init__(self, partition: int | None, reason: str) -> None:
        """Name the partition, and say what the store said."""
        super().__init__(f"Partition {partition} was not written: {reason}")
        self.partition = partition
        self.reason = reason


class PartitionRefused(BatchRefused):
    """An unexpected value is stored at a key of the whole partition, so no command of it is parked for that."""
