"""A command that has no answer yet, and what is known of it."""

import msgspec

from turnstream.application.intake import payload_hash
from turnstream.client.addressing import Addressed
from turnstream.client.tickets import Expected
from turnstream.ports import Reply


class Pending(msgspec.Struct):
    """A command that has no answer yet.

    `sent_at` is when it was first sent, in seconds of the event loop's clock, and `connection` the number of its
    partition's connection for replies then, or of the last one behind which it was sent again. `timeout` is for how
    many seconds somebody waits, `own_id` whether the caller chose the id, `sends` how many sends of it have not failed,
    and `reminded_at` when it was published once more because nobody answered, 0 if it was not.
    """

    expected: Expected
    command: Addressed
    sent_at: float
    timeout: float
    own_id: bool
    connection: int
    queued: bool = False
    sends: int = 0
    reminded_at: float = 0.0

    def is_for(self, command: Addressed) -> bool:
        """Tell whether it is this command that is waited for."""
        own, other = self.command.entry, command.entry
        return own is other or (own.type, own.data) == (other.type, other.data)

    def is_meant_by(self, reply: Reply) -> bool:
        """Tell whether a reply is about this command, and not about an earlier one under the id that the caller chose.

        What was sent twice is answered twice, and the second answer may come when nobody waits for it any more.
        """
        return not self.own_id or reply.payload_hash in {"", payload_hash(self.command.entry)}
