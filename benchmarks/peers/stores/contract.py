"""The measured operations of a session store; only the standard library, as every contender's Python loads it."""

from collections.abc import Sequence
from typing import ClassVar, Protocol, TypeVar

Session = TypeVar("Session")
"""A user's handle of a session: an id, or an object."""

Message = TypeVar("Message")
"""The value that users get when they read; the time to make it is measured."""


class CannotRunError(Exception):
    """A contender does not work on this server; says why."""


class Store(Protocol[Session, Message]):
    """A contender, used as its own documentation advises."""

    notes: ClassVar[tuple[str, ...]] = ()
    """Notes for a reader of the figures."""
    cuts: ClassVar[bool] = False
    """Whether the last messages are cut, here or by the contender, from all of them, because it has no other way."""
    rejoins: ClassVar[bool] = False
    """Whether a session that others write to has to be read again before each append."""

    async def open(self, url: str) -> None:
        """Connect to a server; raises `CannotRunError`."""
        ...

    async def new(self, texts: Sequence[str]) -> Session:
        """Make a session that holds messages of a user, in the fastest way; how long it takes is not measured."""
        ...

    async def join(self, session: Session) -> Session:
        """Return the same session as another writer holds it."""
        return session

    async def append(self, session: Session, text: str) -> object:
        """Append one message of a user, and wait until it is stored."""
        ...

    async def last(self, session: Session, count: int) -> Sequence[Message]:
        """Read the last messages, oldest first."""
        ...

    async def all(self, session: Session) -> Sequence[Message]:
        """Read all messages, oldest first."""
        ...

    def texts(self, messages: Sequence[Message]) -> list[str]:
        """Return the texts of the messages read, to compare them; this is not measured."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
