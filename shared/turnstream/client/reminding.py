"""Commands that nobody answers are published once more: an owner may have died before it told of them (ADR 16).

A partition answers in the order of its stream. So of what is overdue there the newest is published first: its answer
says that all before it is applied, too, and that only the answers were lost. Where it does not come, the backlog is
long, and one command more is all that was added to it.
"""

import asyncio
import math
from collections.abc import Sequence
from functools import partial

from turnstream.client.outbox import Outbox
from turnstream.client.pending import Pending

LOOK = 1.0
"""Seconds between two looks at what is unanswered."""

PATIENCE = 5.0
"""Seconds for which nobody is reminded: most workers that are slow, or replaced, answer meanwhile."""

PART = 3
"""A command is overdue after this part of the time for which somebody waits."""

FORGOTTEN = 10
"""Windows after which a command is not waited for any more."""


class Reminder:
    """Publishes a command at most once more, under its id: a worker that has applied it tells its recorded outcome."""

    def __init__(self, pending: dict[str, Pending], outbox: Outbox) -> None:
        """Look after these commands, which are in the order in which they were sent."""
        self._pending = pending
        self._outbox = outbox
        # So early that there is time left to ask for what was sent before a probe.
        self._longest = outbox.resend_window / 2
        self._probes: dict[int, Pending] = {}

    async def run(self) -> None:
        """Look now and then, so that no command needs a timer of its own."""
        while True:
            await asyncio.sleep(LOOK)
            self._look(asyncio.get_running_loop().time())

    def _look(self, now: float) -> None:
        overdue: dict[int, list[Pending]] = {}
        hopeless: list[Pending] = []
        youngest = min(PATIENCE, self._longest)
        for pending in self._pending.values():
            age = now - pending.sent_at
            if age < youngest:
                break
            if not pending.queued:
                continue
            if age > max(FORGOTTEN * self._outbox.resend_window, pending.timeout):
                hopeless.append(pending)
            elif not pending.reminded_at and self._due(pending) <= age < self._outbox.resend_window:
                overdue.setdefault(pending.command.partition, []).append(pending)
        for pending in hopeless:
            del self._pending[pending.command.entry.command_id]
        for partition, found in overdue.items():
            self._remind(partition, found, now)

    def _due(self, pending: Pending) -> float:
        return min(max(PATIENCE, pending.timeout / PART), self._longest)

    def _remind(self, partition: int, overdue: Sequence[Pending], now: float) -> None:
        probe, newest = self._probes.get(partition), overdue[-1]
        answered = probe.sent_at if probe and probe.expected.answer else -math.inf
        again = [pending for pending in overdue if pending.sent_at <= answered]
        asked = probe and not probe.expected.answer and now - probe.reminded_at < self._due(probe)
        if newest.sent_at > answered and not asked:
            again.append(newest)
            self._probes[partition] = newest
        for pending in again:
            pending.reminded_at = now
        if again:
            # It does not wait for room: what is refused is reminded of later.
            entries = [pending.command.entry for pending in again]
            put = self._outbox.put(partition, entries, self._outbox.resend_window)
            put.add_done_callback(partial(_allow_another, again))


def _allow_another(again: Sequence[Pending], put: asyncio.Future[None]) -> None:
    """Reminders that were refused do not count."""
    if not put.cancelled() and put.exception():
        for pending in again:
            pending.reminded_at = 0.0
