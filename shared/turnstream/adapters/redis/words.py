"""Commands as scripts take them: the number of their words, then the words; long ones cut into several."""

from collections.abc import Iterable, Sequence

from turnstream.adapters.redis.topology.connection import Word

MAX_WORDS = 4_000
"""Words of one command inside a script: Lua cannot unpack 8,000."""


class WordList:
    """Grows into the arguments of a script."""

    def __init__(self, words: Iterable[Word] = ()) -> None:
        """Start with the script's other arguments."""
        self.words: list[Word] = list(words)

    def add(self, *command: Word) -> None:
        """Append one command."""
        self.words.append(len(command))
        self.words += command

    def add_many(self, head: Sequence[Word], items: Sequence[Word], group: int = 1) -> int:
        """Append one command with many items behind its head, or as many as it takes; a group is never torn.

        Returns:
            How many commands were appended.

        """
        step = (MAX_WORDS - len(head)) // group * group
        starts = range(0, len(items), step)
        for start in starts:
            part = items[start : start + step]
            self.words.append(len(head) + len(part))
            self.words += head
            self.words += part
        return len(starts)


def portions_of(items: Sequence[str]) -> list[Sequence[str]]:
    """Cut items, all for one command, into as many as one command takes."""
    step = MAX_WORDS - 2
    return [items[start : start + step] for start in range(0, len(items), step)]
