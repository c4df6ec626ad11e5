"""The handler of events, and its memory."""

from collections import Counter

from turnstream import ResyncRequired, Turnstream
from turnstream.events import ContextWindowCritical
from turnstream.logging import get_logger

log = get_logger(__name__)

REMEMBERED = 10_000
"""The number of crossings that are remembered to recognise a repeated one."""


class Alerts:
    """Logs each crossing once and counts it; its memory ends with the process."""

    def __init__(self, ts: Turnstream) -> None:
        """Look up sessions by this client."""
        self._ts = ts
        self._counts = Counter[str]()
        self._gaps = 0
        self._seen: dict[tuple[str, str, int], None] = {}

    async def handle(self, event: ContextWindowCritical | ResyncRequired) -> None:
        """Take an event; an error, as when the server is down, has the same event redelivered."""
        if isinstance(event, ResyncRequired):
            # Nothing here can be read again: a crossing is no state. So the counts say that they may be too low.
            self._gaps += 1
            log.warning("crossings may be missing", partition=event.partition, reason=event.reason, lost=event.lost)
        elif event.crossed:
            self._count(event, await self._model(event))

    def report(self) -> None:
        """Log the counts."""
        log.info("crossings by model", counts=dict(self._counts), gaps=self._gaps)

    def _count(self, event: ContextWindowCritical, model: str) -> None:
        crossing = (event.session_id, event.incarnation, event.version)
        if crossing in self._seen:
            return
        self._seen[crossing] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._counts[model] += 1
        about = {"session_id": event.session_id, "version": event.version, "model": model}
        log.warning("context window critical", used=event.utilization, window=event.max_context_window, **about)

    async def _model(self, event: ContextWindowCritical) -> str:
        """Return the model that the session has now; the event does not say, and the session may be gone."""
        session = await self._ts.sessions.get(event.session_id)
        # One that began after the event is another one under the same id.
        return session.config.model if session and session.created_at <= event.timestamp else "unknown"
