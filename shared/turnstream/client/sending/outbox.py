"""Commands on their way out: one lane a partition, so that nothing in it overtakes (design §10)."""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from turnstream.client.sending.partition_sender import MAX_TOGETHER, PartitionSender, Published, SendRequest
from turnstream.ports import CommandEntry, CommandQueue

WhenFull = Literal["raise", "wait"]
"""What happens to a command whose partition has too many waiting: `Overloaded` at once, or a wait for room."""

SAFE = 0.4
"""The fraction of the deduplication window for retrying a publication, and for resending an unanswered command: one may
follow the other, and both must fit into the window with the time of the way to the stream."""


class Outbox:
    """The lanes of a client; each is held while the client has no connection for its replies."""

    def __init__(self, queue: CommandQueue, window: float, max_backlog: int = MAX_TOGETHER) -> None:
        """Publish to these streams.

        Args:
            queue: the command streams.
            window: seconds for which workers recognise a command again.
            max_backlog: commands that may wait in a stream; more would never be let in together.

        """
        self.resend_window = window * SAFE
        self._queue = queue
        self._together = min(MAX_TOGETHER, max_backlog)
        self._lanes: dict[int, PartitionSender] = {}
        self._published: Published = lambda _, __: None

    def tell(self, published: Published) -> None:
        """Set the callback for commands that are queued from now on."""
        self._published = published

    def put(
        self,
        partition: int,
        entries: Sequence[CommandEntry],
        timeout: float | None = 0.0,
        *,
        wait: bool = False,
        until: float = math.inf,
    ) -> asyncio.Future[None]:
        """Put commands into a lane, in this order.

        Args:
            partition: where they go.
            entries: the commands.
            timeout: seconds for which it is tried again; `None` for as long as the caller waits.
            wait: wait for room where too many commands wait already.
            until: when the caller waits no longer, whatever is under way then, by the event loop's clock.

        Returns:
            A future that is done when all of them are durably queued; it fails with `Overloaded` when too many wait
            there already, with `Unavailable` when it is not known whether they are queued.

        """
        deadline = until if timeout is None else asyncio.get_running_loop().time() + timeout
        return self._lane(partition).put(SendRequest(entries, deadline, wait=wait, until=until))

    def hold(self, partitions: Iterable[int], why: str) -> None:
        """Publish nothing to these partitions until `resume`."""
        for partition in partitions:
            self._lane(partition).hold(why)

    def resume(self, again: Mapping[int, Sequence[CommandEntry]]) -> None:
        """Publish to these partitions, to each first these commands, which were published before."""
        for partition, entries in again.items():
            self._lane(partition).resume(entries)

    async def aclose(self) -> None:
        """Wait for publications in flight, without retries."""
        for lane in self._lanes.values():
            lane.close()
        await asyncio.gather(*(lane.task for lane in self._lanes.values() if lane.task))

    def _lane(self, partition: int) -> PartitionSender:
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = PartitionSender(
                self._queue, partition, self.resend_window, self._together, self._published
            )
        return lane
