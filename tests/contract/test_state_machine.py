"""Two owners, a queue and a client, in any order of steps: every backend answers as a plain model does.

The model knows a lease, a token, a log and how much of it is applied; `Model` has the effects of commands. It is
compared with every kind of backend after every step, so that the scripts on fakeredis and on the server give identical
replies.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import settings as bounded
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.contract.deployments import Deployment, MemoryDeployment, opened
from tests.contract.model import Model, recorded, timeless, without_places
from tests.contract.processors import processor_over
from tests.contract.programs import SESSIONS, commands
from tests.contract.redis_deployments import EmbeddedDeployment, FakeDeployment

from turnstream.adapters.embedded import EmbeddedServer
from turnstream.application.processor import PartitionProcessor
from turnstream.domain.commands import ChangingCommand
from turnstream.domain.models import session_of
from turnstream.errors import Overloaded, SessionNotFound
from turnstream.ports import Backend, CommandEntry, MessageRange, Needs
from turnstream.settings import Settings
from turnstream.signals import Fenced

OWNERS = ("a", "b")
MOST_WAITING = 8
NOW_MS = 1_793_491_200_000

pytestmark = pytest.mark.timeout(600)
"""Seconds; a counterexample is made small by running many others."""

_namespaces = count()

Life = tuple[str, int]
"""An owner, and a number: each take is another life."""
NO_LIFE: tuple[Life, ...] = ()


class Plain:
    """A partition, described as simply as possible."""

    def __init__(self) -> None:
        self.applied = Model()
        self.log: list[tuple[str, ChangingCommand]] = []
        self.done = 0
        self._lease: Life | None = None
        self._token: Life | None = None

    @property
    def waiting(self) -> int:
        return len(self.log) - self.done

    @property
    def accepted(self) -> int:
        return len(self.log)

    def take(self, life: Life) -> tuple[int, int] | None:
        if self._lease is not None and self._lease[0] != life[0]:
            return None
        self._lease = self._token = life
        return len(self.applied.events), self.waiting

    def renew(self, life: Life) -> bool:
        if life != self._token:
            return False
        self._lease = life
        return True

    def release(self, life: Life) -> None:
        if life == self._lease:
            self._lease = None

    def expire(self) -> None:
        self._lease = None

    def publish(self, entries: Sequence[tuple[str, ChangingCommand]]) -> str:
        if self.waiting + len(entries) > MOST_WAITING:
            return "overloaded"
        self.log += entries
        return "published"

    def look(self) -> dict[str, Any]:
        known = [command_id for command_id, _ in self.log[: self.done]]
        return {
            "waiting": self.waiting,
            "events": timeless(self.applied.events),
            "sessions": timeless(self.applied.sessions),
            "outcomes": timeless({command_id: self.applied.outcomes[command_id] for command_id in known}),
        }

    def commit(self, life: Life, size: int) -> str:
        if life != self._token:
            return "token"
        for command_id, command in self.log[self.done : self.done + size]:
            self.applied.apply(command_id, command, NOW_MS)
        self.done = min(self.done + size, len(self.log))
        return "committed"


class System:
    """One kind of backend: an own one for each owner, and what applies its commands in each of its lives."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self._backends: dict[str, Backend] = {}
        self._lives: dict[Life, PartitionProcessor] = {}

    async def open(self) -> None:
        self._backends = {owner: await opened(self.deployment) for owner in OWNERS}
        for owner, backend in self._backends.items():
            await backend.ownership.beat(owner)

    async def take(self, life: Life) -> tuple[int, int] | None:
        backend = self._backends[life[0]]
        state = await backend.ownership.take(0, life[0])
        if state is None:
            return None
        self._lives[life] = processor_over(backend, state, cached=2)
        return state.sequence, await self.deployment.backlog(0)

    async def renew(self, life: Life) -> bool:
        (kept,) = await self._backends[life[0]].ownership.renew([self._lives[life].state])
        return kept

    async def release(self, life: Life) -> None:
        await self._backends[life[0]].ownership.release([self._lives[life].state])

    async def expire(self) -> None:
        for life in self._lives.values():
            await self.deployment.expire(life.state)

    async def publish(self, entries: Sequence[tuple[str, ChangingCommand]]) -> str:
        queued = [CommandEntry(i, command.type, msgspec.json.encode(command)) for i, command in entries]
        try:
            await self._backends["a"].queue.publish(0, queued)
        except Overloaded:
            return "overloaded"
        return "published"

    async def commit(self, life: Life, size: int) -> str:
        processor, queue = self._lives[life], self._backends[life[0]].queue
        entries = (await queue.read({0: processor.state.cursor}, size, 1.0))[0]
        try:
            await processor.process(entries)
        except Fenced as error:
            return error.reason
        return "committed"

    async def look(self, command_ids: Sequence[str]) -> dict[str, Any]:
        """Return everything visible of the deployment."""
        backend = self._backends["b"]
        return {
            "waiting": await self.deployment.backlog(0),
            "events": timeless(without_places(await self.deployment.events(0))),
            "sessions": {i: found for i in SESSIONS if (found := await _session(backend, i))},
            "outcomes": await _outcomes(backend, command_ids),
        }


async def _session(backend: Backend, session_id: str) -> Any:  # noqa: ANN401 - as JSON
    with suppress(SessionNotFound):
        return timeless(session_of(*await backend.reader.messages(session_id, MessageRange())))
    return None


async def _outcomes(backend: Backend, command_ids: Iterable[str]) -> Any:  # noqa: ANN401 - as JSON
    now_ms = int(time.time() * 1000)
    loaded = await backend.store.load(0, Needs({}, dict.fromkeys(command_ids, now_ms)))
    return timeless({i: recorded(outcome) for i, outcome in loaded.outcomes.items()})


class Machine(RuleBasedStateMachine):
    """Takes the same steps on the model and on every system, and looks at all of them."""

    lives: Bundle[Life] = Bundle("lives")

    server: ClassVar[EmbeddedServer]

    def __init__(self) -> None:
        super().__init__()
        self.plain = Plain()
        self._runner = asyncio.Runner()
        self._taken = 0
        chosen = Settings(namespace=f"machine-{next(_namespaces)}", partitions=1, max_backlog=MOST_WAITING, lease=600.0)
        kinds = (MemoryDeployment(chosen), FakeDeployment(chosen), EmbeddedDeployment(chosen.at(self.server.url)))
        self.systems = [System(deployment) for deployment in kinds]
        self._on_all(lambda system: system.open())

    def teardown(self) -> None:
        self._on_all(lambda system: system.deployment.aclose())
        self._runner.close()

    @rule(target=lives, owner=st.sampled_from(OWNERS))
    def take(self, owner: str) -> Life | MultipleResults[Life]:
        self._taken += 1
        life = (owner, self._taken)
        expected = self.plain.take(life)
        self._all_answer(expected, lambda system: system.take(life))
        return life if expected else multiple(*NO_LIFE)

    @rule(life=lives)
    def renew(self, life: Life) -> None:
        self._all_answer(self.plain.renew(life), lambda system: system.renew(life))

    @rule(life=lives)
    def release(self, life: Life) -> None:
        self.plain.release(life)
        self._on_all(lambda system: system.release(life))

    @precondition(lambda self: self._taken)
    @rule()
    def expire(self) -> None:
        self.plain.expire()
        self._on_all(lambda system: system.expire())

    @rule(sent=st.lists(commands, min_size=1, max_size=4))
    def publish(self, sent: list[ChangingCommand]) -> None:
        entries = [(f"c{self.plain.accepted + n}", command) for n, command in enumerate(sent)]
        self._all_answer(self.plain.publish(entries), lambda system: system.publish(entries))

    @precondition(lambda self: self.plain.log)
    @rule(data=st.data(), other=st.none() | commands)
    def resend(self, data: st.DataObject, other: ChangingCommand | None) -> None:
        command_id, command = data.draw(st.sampled_from(self.plain.log))
        entries = [(command_id, other or command)]
        self._all_answer(self.plain.publish(entries), lambda system: system.publish(entries))

    @precondition(lambda self: self.plain.waiting)
    @rule(life=lives, size=st.integers(1, MOST_WAITING))
    def commit(self, life: Life, size: int) -> None:
        self._all_answer(self.plain.commit(life, size), lambda system: system.commit(life, size))

    @invariant()
    def all_look_the_same(self) -> None:
        ids = [command_id for command_id, _ in self.plain.log]
        self._all_answer(self.plain.look(), lambda system: system.look(ids))

    def _all_answer(self, expected: object, ask: Callable[[System], Awaitable[object]]) -> None:
        for system, answer in zip(self.systems, self._on_all(ask), strict=True):
            assert answer == expected, type(system.deployment).__name__

    def _on_all(self, ask: Callable[[System], Awaitable[object]]) -> list[object]:
        async def all_of_them() -> list[object]:
            return [await ask(system) for system in self.systems]

        return self._runner.run(all_of_them())


def test_every_backend_answers_as_the_model_does(empty_server: EmbeddedServer) -> None:
    class OnThisServer(Machine):
        server = empty_server

    bounds = bounded(max_examples=15, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(OnThisServer, settings=bounds)
