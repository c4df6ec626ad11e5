"""The schedule of resends for unanswered commands: an owner may have died before it replied (ADR 16).

A partition replies in the order of its stream. So the newest overdue command is resent first, as a probe. Its reply
means that all earlier commands were applied as well, and only their replies were lost. If there is no reply, the
backlog is long, and the probe has added only one entry to it.
"""

import math
from collections.abc import Sequence

from turnstream.client.replies.pending_commands import PendingCommand, PendingCommands

POLL_INTERVAL_S = 1.0
"""Seconds between two checks for unanswered commands, so that no command needs its own timer."""

MIN_AGE_S = 5.0
"""Seconds before a command is resent: most slow or replaced workers reply within that time."""

TIMEOUT_PARTS = 3
"""A command is overdue after its time-out divided by this."""

EXPIRY_WINDOWS = 10
"""Resend windows after which a command is forgotten."""


class ResendSchedule:
    """Selects overdue commands, each at most once: a worker that has applied one replies with the recorded outcome."""

    def __init__(self, pending: PendingCommands) -> None:
        """Select from these commands."""
        self._pending = pending
        # Early enough to leave time to resend the commands before a probe.
        self._latest = pending.resend_window / 2
        self._probes: dict[int, PendingCommand] = {}

    def due(self, now: float) -> dict[int, list[PendingCommand]]:
        """Return the commands to resend at this time of the event loop's clock, by partition."""
        overdue: dict[int, list[PendingCommand]] = {}
        expired: list[PendingCommand] = []
        window = self._pending.resend_window
        youngest = min(MIN_AGE_S, self._latest)
        for pending in self._pending:
            age = now - pending.sent_at
            if age < youngest:
                break
            if not pending.queued:
                continue
            if age > max(EXPIRY_WINDOWS * window, pending.timeout):
                expired.append(pending)
            elif not pending.overdue_resent_at and self._due_age(pending) <= age < window:
                overdue.setdefault(pending.command.partition, []).append(pending)
        for pending in expired:
            self._pending.forget(pending)
        selected = {partition: self._select(partition, found, now) for partition, found in overdue.items()}
        return {partition: resends for partition, resends in selected.items() if resends}

    def _due_age(self, pending: PendingCommand) -> float:
        return min(max(MIN_AGE_S, pending.timeout / TIMEOUT_PARTS), self._latest)

    def _select(self, partition: int, overdue: Sequence[PendingCommand], now: float) -> list[PendingCommand]:
        """Return the commands sent before an answered probe, and a new probe unless one is still recent."""
        probe, newest = self._probes.get(partition), overdue[-1]
        answered_at = probe.sent_at if probe and probe.reply.answer else -math.inf
        resends = [pending for pending in overdue if pending.sent_at <= answered_at]
        waits = probe and not probe.reply.answer and now - probe.overdue_resent_at < self._due_age(probe)
        if newest.sent_at > answered_at and not waits:
            resends.append(newest)
            self._probes[partition] = newest
        for pending in resends:
            pending.overdue_resent_at = now
        return resends
