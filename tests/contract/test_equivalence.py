"""Any sequence of commands, cut into batches in any way, has the outcomes, the state and the events of the model.

The model is `decide` and `evolve` and a dictionary; the backends do the same by loading, batching, and writing.
"""

from collections.abc import Callable, Sequence
from itertools import count, cycle

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as bounded
from tests.contract.deployments import Deployment, MemoryDeployment, opened
from tests.contract.model import Model, recorded, without_places
from tests.contract.processors import processor_over
from tests.contract.programs import SESSIONS, Cut, Sent, Step, cuts, programs, sent_by
from tests.contract.redis_deployments import EmbeddedDeployment, FakeDeployment
from tests.contract.samples import CLIENT, taken

from turnstream.adapters.embedded import EmbeddedServer
from turnstream.application.processor import PartitionProcessor
from turnstream.codec.envelope import encode_entry
from turnstream.codec.records import decode_replies, milliseconds
from turnstream.domain.events import AnyEvent
from turnstream.domain.evolution import fold
from turnstream.domain.models import session_of
from turnstream.errors import SessionNotFound
from turnstream.ports import Backend, CommandEntry, IndexEntry, MessageRange, Needs, RawEntry
from turnstream.settings import Settings

pytestmark = pytest.mark.timeout(600)
"""Seconds; a counterexample is made small by running many others."""

_namespaces = count()


def modelled(sent: Sequence[Sent]) -> Model:
    model = Model()
    for each in sent:
        model.apply(each.command_id, each.command, each.entry_ms)
    return model


def entries_of(sent: Sequence[Sent], reply_to: str) -> list[RawEntry]:
    """Encode commands without the client's checks: the worker must do without them, too."""
    entries: list[RawEntry] = []
    for number, each in enumerate(sent):
        data = msgspec.json.encode(each.command)
        words = encode_entry(CommandEntry(each.command_id, each.command.type, data, reply_to))
        raw = [word if isinstance(word, bytes) else word.encode() for word in words]
        entries.append(RawEntry(f"{each.entry_ms}-{number}", dict(zip(raw[::2], raw[1::2], strict=True))))
    return entries


async def processor_of(backend: Backend, cached: int) -> PartitionProcessor:
    return processor_over(backend, await taken(backend), cached)


async def run(backend: Backend, sent: Sequence[Sent], batches: Sequence[Cut]) -> None:
    left = entries_of(sent, backend.channels.reply_channel(0, CLIENT))
    processor = await processor_of(backend, cached=2)
    for batch in cycle(batches):
        if batch.new_owner:
            processor = await processor_of(backend, cached=100)
        await processor.process(left[: batch.size])
        left = left[batch.size :]
        if not left:
            return


async def check(deployment: Deployment, sent: Sequence[Sent], batches: Sequence[Cut]) -> None:
    model = modelled(sent)
    backend = await opened(deployment)
    replies = await backend.channels.subscribe([backend.channels.reply_channel(0, CLIENT)])
    await run(backend, sent, batches)

    answers: list[tuple[str, str]] = []
    async for _, payload in replies:
        answers += [(reply.command_id, reply.error.code if reply.error else "ok") for reply in decode_replies(payload)]
        if len(answers) == len(sent):
            break
    await replies.aclose()
    assert answers == model.replies
    await check_state(deployment, backend, model)
    await check_outcomes(backend, model, sent[-1].entry_ms)


async def check_state(deployment: Deployment, backend: Backend, model: Model) -> None:
    events = await deployment.events(0)
    assert without_places(events) == model.events
    assert [event.meta.sequence for event in events if event.meta] == list(range(1, len(events) + 1))
    check_chains(events)
    for session_id in SESSIONS:
        expected = model.sessions.get(session_id)
        try:
            stored = session_of(*await backend.reader.messages(session_id, MessageRange()))
        except SessionNotFound:
            stored = None
        assert stored == expected
        assert fold(event for event in events if event.session_id == session_id) == expected
    listed = await backend.reader.index(0, None, 10, newest_first=False)
    assert listed == sorted(IndexEntry(milliseconds(s.updated_at), i) for i, s in model.sessions.items())
    assert await backend.reader.count() == len(model.sessions)


def check_chains(events: Sequence[AnyEvent]) -> None:
    of_type: dict[str, int] = {}
    of_life: dict[tuple[str, str], int] = {}
    for event in events:
        assert event.meta is not None
        life = (event.session_id, event.incarnation)
        assert event.meta.previous_of_type == of_type.get(event.type, 0)
        assert event.meta.previous_of_session == of_life.get(life, 0)
        of_type[event.type] = of_life[life] = event.meta.sequence


async def check_outcomes(backend: Backend, model: Model, last_ms: int) -> None:
    loaded = await backend.store.load(0, Needs({}, dict.fromkeys(model.outcomes, last_ms)))
    assert {i: recorded(outcome) for i, outcome in loaded.outcomes.items()} == model.outcomes


async def check_on(
    kind: Callable[[Settings], Deployment], settings: Settings, steps: Sequence[Step], batches: Sequence[Cut]
) -> None:
    deployment = kind(settings)
    try:
        await check(deployment, sent_by(steps), batches)
    finally:
        await deployment.aclose()


def fresh() -> Settings:
    return Settings(namespace=f"equivalence-{next(_namespaces)}", partitions=1)


@given(programs, cuts)
@bounded(max_examples=60, deadline=None)
async def test_in_memory(steps: list[Step], batches: list[Cut]) -> None:
    await check_on(MemoryDeployment, fresh(), steps, batches)


@given(programs, cuts)
@bounded(max_examples=15, deadline=None)
async def test_on_fakeredis(steps: list[Step], batches: list[Cut]) -> None:
    await check_on(FakeDeployment, fresh(), steps, batches)


@given(steps=programs, batches=cuts)
@bounded(max_examples=60, deadline=None)
async def test_on_the_server(server: EmbeddedServer, steps: list[Step], batches: list[Cut]) -> None:
    await check_on(EmbeddedDeployment, fresh().at(server.url), steps, batches)
