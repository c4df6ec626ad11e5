"""The resender of unanswered commands: an owner may have died before it replied (ADR 16).

A partition replies in the order of its stream. So the newest overdue command is resent first, as a probe. Its reply
means that all earlier commands were applied as well, and only their replies were lost. If there is no reply, the
backlog is long, and the probe has added only one entry to it.
"""

import asyncio
import math
from collections.abc import Sequence
from functools import partial

from turnstream.client.replies.ticket import PendingCommand
from turnstream.client.sending.outbox import Outbox

POLL_INTERVAL_S = 1.0
"""Seconds between two checks for unanswered commands."""

MIN_AGE_S = 5.0
"""Seconds before a command is resent: most slow or replaced workers reply within that time."""

TIMEOUT_PARTS = 3
"""A command is overdue after its time-out divided by this."""

EXPIRY_WINDOWS = 10
"""Deduplication windows after which a command is forgotten."""


class UnansweredResender:
    """Resends a command at most once, with its id: a worker that has applied it replies with the recorded outcome."""

    def __init__(self, pending: dict[str, PendingCommand], outbox: Outbox) -> None:
        """Look after these commands, which are in the order in which they were sent."""
        self._pending = pending
        self._outbox = outbox
        # Early enough to leave time to resend the commands before a probe.
        self._longest = outbox.resend_window / 2
        self._probes: dict[int, PendingCommand] = {}

    async def run(self) -> None:
        """Check at intervals, so that no command needs its own timer."""
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            self._look(asyncio.get_running_loop().time())

    def _look(self, now: float) -> None:
        overdue: dict[int, list[PendingCommand]] = {}
        hopeless: list[PendingCommand] = []
        youngest = min(MIN_AGE_S, self._longest)
        for pending in self._pending.values():
            age = now - pending.sent_at
            if age < youngest:
                break
            if not pending.queued:
                continue
            if age > max(EXPIRY_WINDOWS * self._outbox.resend_window, pending.timeout):
                hopeless.append(pending)
            elif not pending.reminded_at and self._due(pending) <= age < self._outbox.resend_window:
                overdue.setdefault(pending.command.partition, []).append(pending)
        for pending in hopeless:
            del self._pending[pending.command.entry.command_id]
        for partition, found in overdue.items():
            self._remind(partition, found, now)

    def _due(self, pending: PendingCommand) -> float:
        return min(max(MIN_AGE_S, pending.timeout / TIMEOUT_PARTS), self._longest)

    def _remind(self, partition: int, overdue: Sequence[PendingCommand], now: float) -> None:
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
            # It does not wait for room: a refused command is resent later.
            entries = [pending.command.entry for pending in again]
            put = self._outbox.put(partition, entries, self._outbox.resend_window)
            put.add_done_callback(partial(_allow_another, again))


def _allow_another(again: Sequence[PendingCommand], put: asyncio.Future[None]) -> None:
    """Reminders that were refused do not count."""
    if not put.cancelled() and put.exception():
        for pending in again:
            pending.reminded_at = 0.0
