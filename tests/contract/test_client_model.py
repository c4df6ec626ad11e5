"""Through the client, any sequence of commands with duplicates gets the model's answers, on every backend."""

from collections.abc import Callable, Sequence
from itertools import count

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from tests.contract.deployments import Deployment, MemoryDeployment, client_of
from tests.contract.model import Model, timeless
from tests.contract.programs import SESSIONS, Sent, Step, programs, sent_by
from tests.contract.redis_deployments import EmbeddedDeployment, FakeDeployment

from turnstream import InvalidCommand, Rejected, Turnstream
from turnstream.adapters.embedded import EmbeddedServer
from turnstream.settings import Settings

_namespaces = count()

pytestmark = pytest.mark.timeout(600)
"""Seconds; a counterexample is made small by running many others."""


async def answer_to(ts: Turnstream, sent: Sent) -> tuple[str, int] | str | None:
    """Return the answer that a producer gets; None if its client does not even send the command."""
    try:
        ticket = await ts.send(sent.command, command_id=sent.command_id)
    except InvalidCommand:
        return None
    try:
        return "ok", (await ticket).version
    except Rejected as error:
        return error.code


async def check_client(deployment: Deployment, steps: Sequence[Step]) -> None:
    model = Model()
    ts = await client_of(deployment)
    for sent in sent_by(steps):
        answer = await answer_to(ts, sent)
        if answer is None:
            continue
        model.apply(sent.command_id, sent.command, sent.entry_ms)
        _, code = model.replies[-1]
        expected = ("ok", model.outcomes[sent.command_id].version) if code == "ok" else code
        assert answer == expected
    stored = {i: await ts.sessions.get(i) for i in SESSIONS}
    assert timeless({i: s for i, s in stored.items() if s}) == timeless(model.sessions)


KINDS: dict[str, Callable[[Settings], Deployment]] = {
    "memory": MemoryDeployment,
    "fakeredis": FakeDeployment,
    "embedded": EmbeddedDeployment,
}


@pytest.mark.parametrize("kind", KINDS)
@given(steps=programs)
@bounded(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_client_gets_the_words_of_the_model(empty_server: EmbeddedServer, kind: str, steps: list[Step]) -> None:
    chosen = Settings(namespace=f"client-model-{next(_namespaces)}", partitions=1).at(empty_server.url)
    deployment = KINDS[kind](chosen)
    try:
        await check_client(deployment, steps)
    finally:
        await deployment.aclose()
