"""Tickets of the client without asyncio."""

from turnstream.client.replies.ticket import Applied
from turnstream.client.replies.ticket import Ticket as AsyncTicket
from turnstream.sync.portal import Portal


class Ticket:
    """A queued command; ask for its `result`, again and again if need be, to learn that it was applied."""

    def __init__(self, portal: Portal, ticket: AsyncTicket) -> None:
        """Hold a ticket of the client of asyncio."""
        self._portal = portal
        self._ticket = ticket
        self.command_id = ticket.command_id
        self.session_id = ticket.session_id

    def __repr__(self) -> str:
        """Show which command it is, never its content."""
        return repr(self._ticket)

    def result(self, timeout: float | None = None) -> Applied:
        """Wait until the command is applied.

        Args:
            timeout: seconds to wait; by default those that it was sent with.

        Raises:
            Rejected: it was refused; the class says why.
            CommandTimeout: no answer came in time.
            Unavailable: the connection for replies was lost.

        """
        return self._portal.call(self._ticket.result(timeout))
