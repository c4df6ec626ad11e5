"""Producers at full speed: each keeps one session busy, sends again what was not answered, and writes all of it down.

A producer whose session is lost creates it again, and one whose session is parked continues.

A producer has a few commands of its session in flight. Their order is promised for sends that are awaited one after
the other. So when one of them fails, no later one is sent, and all unanswered ones are resent under the same ids in the
same order. A command that was queued the first time is then only answered again.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from math import inf
from random import Random
from time import monotonic

from tests.chaos.history import History, Reply, Sent

from turnstream import (
    AddMessage,
    AddMessages,
    ChatMessage,
    ChatMessageRole,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    SessionConfig,
    TextContent,
    Ticket,
    Turnstream,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
)
from turnstream.commands import ChatMessagePatch, SessionPatch
from turnstream.domain.commands import ChangingCommand
from turnstream.errors import CommandParked, Rejected, SessionNotFound, Unavailable

CONFIG = SessionConfig("openai", "gpt-4o")
AT = datetime(2026, 11, 1, tzinfo=UTC)
MOST_TOGETHER = 8
LONG = 200
"""Messages after which a session is deleted and made again, so that reading it stays quick."""
ANSWER = 2.0
"""Seconds after which a producer sends again."""
PAUSE = 0.02
"""Seconds between two attempts while the system is not available."""


class Script:
    """Invents the next command of a session, seeded; it knows only what this producer has done."""

    def __init__(self, producer: str, session_id: str, chance: Random) -> None:
        self._producer = producer
        self._session_id = session_id
        self._chance = chance
        self._messages: list[str] = []
        self._made = 0
        self._next: list[ChangingCommand] = [CreateSession(CONFIG, session_id)]

    def command(self) -> ChangingCommand:
        if self._next:
            return self._next.pop()
        if len(self._messages) > LONG:
            self._messages.clear()
            self._next.append(CreateSession(CONFIG, self._session_id, metadata={"life": self._made}))
            return DeleteSession(self._session_id)
        kinds = (self._add, self._add_many, self._update, self._remove, self._count, self._touch)
        (kind,) = self._chance.choices(kinds, weights=(8, 3, 3, 1, 3, 1))
        return kind()

    def begin_again(self) -> None:
        """Make the session again: it is gone, with history that was lost."""
        self._messages.clear()
        self._next = [CreateSession(CONFIG, self._session_id, metadata={"life": self._made})]

    def _add(self) -> ChangingCommand:
        return AddMessage(self._session_id, self._message())

    def _add_many(self) -> ChangingCommand:
        return AddMessages(self._session_id, tuple(self._message() for _ in range(self._chance.randint(2, 6))))

    def _update(self) -> ChangingCommand:
        message_id = self._chance.choice(self._messages) if self._messages else "never-there"
        return UpdateMessage(
            self._session_id, message_id, updates=ChatMessagePatch(metadata={"read": self._chance.random()})
        )

    def _remove(self) -> ChangingCommand:
        if self._chance.random() < 0.5 or not self._messages:
            last = self._chance.randint(1, 3)
            del self._messages[-last:]
            return RemoveMessages(self._session_id, last=last)
        return RemoveMessages(
            self._session_id, message_ids=(self._messages.pop(self._chance.randrange(len(self._messages))),)
        )

    def _count(self) -> ChangingCommand:
        return UpdateTokenMetrics(
            self._session_id, prompt_tokens=self._chance.randint(0, 500), completion_tokens=self._chance.randint(0, 500)
        )

    def _touch(self) -> ChangingCommand:
        return UpdateSession(self._session_id, SessionPatch(metadata={"topic": self._chance.random()}))

    def _message(self) -> ChatMessage:
        self._made += 1
        message_id = f"{self._producer}-m{self._made}"
        self._messages.append(message_id)
        text = TextContent("x" * self._chance.randint(1, 60))
        return ChatMessage(id=message_id, role=ChatMessageRole.USER, content=(text,), created_at=AT)


class Producer:
    """Sends the commands of a script until it is stopped, then completes those in flight."""

    def __init__(
        self, name: str, session_id: str, ts: Turnstream, history: History, chance: Random, *, forges: bool
    ) -> None:
        """Use a client; a producer that `forges` occasionally sends other payloads under used ids."""
        self.stopping = False
        self._forges = forges
        self._under_way: Sequence[Sent] = ()
        self._name = name
        self._session_id = session_id
        self._ts = ts
        self._history = history
        self._chance = chance
        self._script = Script(name, session_id, chance)
        self._number = 0
        self._round = 0
        self._answered: list[Sent] = []

    async def run(self) -> None:
        """Work until stopped."""
        while not self.stopping:
            self._round += 1
            batch = [self._new() for _ in range(self._chance.randint(1, MOST_TOGETHER))]
            await self._bring_about(batch)
            self._answered = [*self._answered, *batch][-50:]
            await self._repeat_something()

    def abandon(self) -> None:
        """Note that the commands in flight are no longer waited for."""
        for sent in self._under_way:
            sent.abandoned = not sent.answers

    def _new(self) -> Sent:
        self._number += 1
        return self._noted(f"{self._name}-{self._number}", self._number, self._script.command())

    def _noted(self, command_id: str, number: int, command: ChangingCommand) -> Sent:
        sent = Sent(command_id, self._name, number, command, round=self._round)
        self._history.sent.append(sent)
        return sent

    async def _repeat_something(self) -> None:
        """Occasionally resend an answered command, unchanged or with another payload."""
        earlier = self._chance.choice(self._answered)
        match self._chance.randrange(20):
            case 0 | 1:
                await self._bring_about([earlier])
            case 2 if self._forges:
                changed = UpdateSession(self._session_id, SessionPatch(metadata={"forged": earlier.command_id}))
                await self._bring_about([self._noted(earlier.command_id, earlier.number, changed)])
            case _:
                pass

    async def _bring_about(self, batch: Sequence[Sent]) -> None:
        """Send commands, in order, until each has been answered once more."""
        wanted = {id(sent): sent.answers + 1 for sent in batch}
        began = monotonic()
        left = self._under_way = list(batch)
        while left:
            await self._attempt(left)
            for sent in left:
                sent.waited = max(sent.waited, monotonic() - began)
            left = [sent for sent in left if sent.answers < wanted[id(sent)]]
            if left:
                await asyncio.sleep(self._chance.uniform(PAUSE, 2 * PAUSE))

    async def _attempt(self, batch: Sequence[Sent]) -> None:
        tickets: list[tuple[Sent, Ticket]] = []
        try:
            for sent in batch:
                if not sent.sends:
                    sent.since = monotonic()
                sent.sends += 1
                sent.until = inf
                ticket = await self._ts.send(sent.command, command_id=sent.command_id, timeout=ANSWER)
                sent.accepted = True
                tickets.append((sent, ticket))
        except Unavailable:
            pass
        await asyncio.gather(*(self._hear(sent, ticket) for sent, ticket in tickets))

    async def _hear(self, sent: Sent, ticket: Ticket) -> None:
        try:
            applied = await ticket
        except Rejected as error:
            sent.replies.append(Reply(error.code))
            if isinstance(error, SessionNotFound):
                self._script.begin_again()
        except CommandParked:
            sent.parked += 1
        except Unavailable:
            return
        else:
            sent.replies.append(Reply("ok", applied.version))
        sent.until = monotonic()


def counts(history: History) -> dict[str, int]:
    """Return how much was sent, and how it went."""
    answered = [sent for sent in history.sent if sent.replies]
    parked = [sent for sent in history.sent if sent.parked]
    outcomes = history.outcomes
    return {
        "commands sent": len(history.sent),
        "applied": sum(sent.replies[0].code == "ok" for sent in answered),
        "rejected": sum(sent.replies[0].code != "ok" for sent in answered),
        "parked": len(parked),
        "of them with an outcome by a redrive": sum(sent.command_id in outcomes for sent in parked),
        "sessions parked": len({sent.session_id for sent in parked}),
        "abandoned by their producers": sum(sent.abandoned for sent in history.sent),
        "never answered": sum(not (sent.answers or sent.abandoned) for sent in history.sent),
        "resends": sum(sent.sends - 1 for sent in history.sent if sent.sends),
        "of other payloads under used ids": len(history.sent) - len(history.commands),
    }
