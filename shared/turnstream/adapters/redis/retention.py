"""How long events are kept (design §2, §6)."""

from turnstream.adapters.redis.server import Server
from turnstream.ports import AGE_PRECISION, SIZE_PRECISION, PartitionState

STEP = 1_000
"""Events taken in one call: half a millisecond of the server for events of 3 KB, a tenth of that for small ones."""

LEAST_BETWEEN_MARKS = 64 * 1024


def bytes_between_marks(kept: int) -> int:
    """Return after how many bytes of events a commit leaves a mark, where so many bytes are kept."""
    return max(kept // SIZE_PRECISION, LEAST_BETWEEN_MARKS)


class Retention:
    """Trims event streams by age, by length and by bytes, in steps between which the server does other things."""

    def __init__(self, server: Server) -> None:
        """Use a server."""
        self._server = server

    async def trim(self, state: PartitionState) -> None:
        """Take what is not to be kept, unless the partition has another owner."""
        server, keys = self._server, self._server.partition(state.partition)
        age = max(int(server.settings.event_retention_age * 1000), 1)
        between_marks = -(-age // AGE_PRECISION)
        kept = server.settings.event_retention_bytes
        arguments = (state.token, server.settings.event_retention, age, between_marks, STEP, kept)
        while await server.scripts.trim.run(server.calls(state.partition), [keys.partition, keys.events], arguments):
            pass
