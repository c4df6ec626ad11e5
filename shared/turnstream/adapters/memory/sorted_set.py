"""A sorted set: members by a score, equal scores by member."""

from bisect import bisect_left, bisect_right, insort

Row = tuple[int, str]
"""A score and its member: rows compare in the order of the ranking."""


class SortedSet:
    """Finds a row by its member, and rows by their rank."""

    def __init__(self) -> None:
        """Start empty."""
        self._scores: dict[str, int] = {}
        self._rows: list[Row] = []

    def row(self, member: str) -> Row | None:
        """Return a member's row, if it has one."""
        score = self._scores.get(member)
        return None if score is None else (score, member)

    def put(self, member: str, score: int) -> None:
        """Put a member at its score; its earlier score is replaced."""
        self.remove(member)
        self._scores[member] = score
        insort(self._rows, (score, member))

    def remove(self, member: str) -> None:
        """Remove a member, if it is there."""
        row = self.row(member)
        if row is not None:
            del self._scores[member]
            del self._rows[bisect_left(self._rows, row)]

    def clear(self) -> None:
        """Remove all members."""
        self._scores.clear()
        self._rows.clear()

    def between(self, after: Row | None, before: Row | None, count: int | None, *, from_end: bool) -> list[Row]:
        """Return the rows between two rows, exclusive, in order; of them the first or the last `count`."""
        start = bisect_right(self._rows, after) if after else 0
        end = bisect_left(self._rows, before) if before else len(self._rows)
        if count is not None and from_end:
            start = max(start, end - count)
        elif count is not None:
            end = min(end, start + count)
        return self._rows[start:end]
