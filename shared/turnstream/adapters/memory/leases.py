"""The lease of a partition, for a worker or a consumer (design §5)."""

import secrets

RANDOM_BYTES = 8


class MemoryLease:
    """A lease within one process: it ends when its owner releases it, or has left."""

    def __init__(self) -> None:
        """Start free."""
        self.token: str | None = None
        self.owner: str | None = None
        self._epoch = 0
        self._held = False

    @property
    def holder(self) -> str | None:
        """The member that holds it now; `None` if it was released."""
        return self.owner if self._held else None

    def is_free_for(self, member_id: str) -> bool:
        """Return whether a member may take it: no other member has it."""
        return not self._held or self.owner == member_id

    def take(self, member_id: str) -> str:
        """Give it to a member; return its token."""
        self._epoch += 1
        self.token = f"{self._epoch}-{secrets.token_hex(RANDOM_BYTES)}"
        self.owner = member_id
        self._held = True
        return self.token

    def renew(self, token: str) -> bool:
        """Keep it; a released lease is held again if no other member has taken it."""
        self._held = self._held or token == self.token
        return token == self.token

    def release(self, token: str) -> bool:
        """Release it; False if another member has it. The token is valid until the next owner takes the lease."""
        released = self._held and token == self.token
        self._held = self._held and not released
        return released

    def expire(self) -> None:
        """End it because its owner has left."""
        self._held = False

    def revoke(self) -> None:
        """End it and invalidate its token."""
        self._held = False
        self.token = None
