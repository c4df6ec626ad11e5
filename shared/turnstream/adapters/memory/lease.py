"""Who owns a partition, as a worker or as a member of a subscription (design §5)."""

import secrets

RANDOM_BYTES = 8


class MemoryLease:
    """A lease of one process: it ends when its owner says so, or is gone."""

    def __init__(self) -> None:
        """Start free."""
        self.token: str | None = None
        self.owner: str | None = None
        self._epoch = 0
        self._held = False

    def is_free_for(self, member_id: str) -> bool:
        """Tell whether a member may take it: nobody else has it."""
        return not self._held or self.owner == member_id

    def take(self, member_id: str) -> str:
        """Give it to a member; return its token."""
        self._epoch += 1
        self.token = f"{self._epoch}-{secrets.token_hex(RANDOM_BYTES)}"
        self.owner = member_id
        self._held = True
        return self.token

    def renew(self, token: str) -> bool:
        """Keep it; one that was given up is taken back as long as nobody else has it."""
        self._held = self._held or token == self.token
        return token == self.token

    def release(self, token: str) -> bool:
        """Give it up; False if it is another one's. The token holds until the next owner's."""
        released = self._held and token == self.token
        self._held = self._held and not released
        return released

    def expire(self) -> None:
        """Let it run out: its owner is gone."""
        self._held = False

    def revoke(self) -> None:
        """Take it away; the token holds no more."""
        self._held = False
        self.token = None
