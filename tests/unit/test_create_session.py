"""`create-session`: a session at version 1, with its model's window and, with a prompt, a first message."""

from datetime import timedelta

import pytest
from tests.unit.given import AT, CATALOGUE, FRESH, LATER, SMALL, Story, created, deleted, given, incarnation_of

from turnstream.domain.command_specs import decide
from turnstream.domain.commands import CreateSession
from turnstream.domain.content import TextContent
from turnstream.domain.events import SessionCreated
from turnstream.domain.handlers import Context
from turnstream.domain.models import ChatMessage, ChatMessageRole, SessionConfig
from turnstream.domain.prices import PriceSource
from turnstream.errors import InvalidCommand, SessionAlreadyExists, VersionConflict


def test_creates_a_session() -> None:
    given().when(CreateSession(SMALL, "s")).then(created())


def test_keeps_config_and_metadata() -> None:
    config = SessionConfig("openai", "small", temperature=0.7, tools=("search",), provider_options={"seed": 1})
    given().when(CreateSession(config, "s", metadata={"topic": "x"})).then(created(config, metadata={"topic": "x"}))


def test_should_create_a_valid_session_with_a_system_message() -> None:
    config = SessionConfig("openai", "gpt-4", system_prompt="You are a helpful assistant", temperature=0.7)
    session = given().when(CreateSession(config, "s"), command_id="c7").session
    prompt = ChatMessage(
        id="c7", role=ChatMessageRole.SYSTEM, content=(TextContent("You are a helpful assistant"),), created_at=LATER
    )
    assert session.config == config
    assert session.messages == (prompt,)
    assert session.is_active
    assert session.metrics.max_context_window == 8_192


@pytest.mark.parametrize("prompt", [None, ""])
def test_should_not_add_a_system_message_if_there_is_no_prompt(prompt: str | None) -> None:
    assert (
        given().when(CreateSession(SessionConfig("openai", "gpt-4", system_prompt=prompt), "s")).session.messages == ()
    )


def test_times_are_those_of_the_command() -> None:
    session = given().when(CreateSession(SMALL, "s"), at=AT).session
    assert (session.created_at, session.updated_at, session.version) == (AT, AT, 1)


def test_ids_derive_from_the_command_so_that_a_redelivery_decides_the_same() -> None:
    command = CreateSession(SessionConfig("openai", "small", system_prompt="Be brief"), "s")
    context = Context("c7", LATER, CATALOGUE)
    first, again = decide(Story(), command, context), decide(Story(), command, context)
    other = decide(Story(), command, Context("c8", LATER, CATALOGUE))
    assert first == again
    ids = [(incarnation_of(command_id, LATER), command_id) for command_id in ("c7", "c8")]
    assert [_ids(event) for event in (*first.events, *other.events)] == ids


def test_a_command_id_that_is_used_again_later_makes_another_incarnation() -> None:
    command = CreateSession(SMALL, "s")
    times = (AT, AT + timedelta(milliseconds=1), LATER)
    decisions = [decide(Story(), command, Context("c7", time, CATALOGUE)) for time in times]
    assert len({decision.events[0].incarnation for decision in decisions}) == len(times)


def _ids(event: object) -> tuple[str, str]:
    assert isinstance(event, SessionCreated)
    return event.incarnation, event.session.messages[0].id


@pytest.mark.parametrize(
    ("model", "window", "source"),
    [
        ("large", 10_000, PriceSource.OVERRIDE),
        ("gpt-4", 8_192, PriceSource.SPEC),
        ("gpt-4o", 128_000, PriceSource.CATALOGUE),
        ("unknown-model", 4_096, PriceSource.UNKNOWN),
    ],
)
def test_window_and_provenance_of_the_price_are_the_models(model: str, window: int, source: PriceSource) -> None:
    metrics = given().when(CreateSession(SessionConfig("openai", model), "s")).session.metrics
    assert (metrics.max_context_window, metrics.price_source) == (window, source)
    assert (metrics.total_tokens, metrics.estimated_cost, metrics.context_utilization) == (0, 0.0, 0.0)


def test_the_provider_counts_for_the_window() -> None:
    assert given().when(CreateSession(SessionConfig("acme", "small"), "s")).session.metrics.max_context_window == 2_000


def test_should_refuse_an_id_that_exists() -> None:
    given(created()).when(CreateSession(SMALL, "s")).then_rejected(SessionAlreadyExists("s"))


def test_a_recreated_session_starts_empty() -> None:
    again = given(created(), deleted()).when(CreateSession(SMALL, "s"), command_id="c3")
    again.then(created(metrics=FRESH))
    assert (again.events[0].incarnation, again.session.version) == (incarnation_of("c3", LATER), 1)


def test_version_0_means_no_session() -> None:
    given().when(CreateSession(SMALL, "s", expected_version=0)).then(created())
    given().when(CreateSession(SMALL, "s", expected_version=1)).then_rejected(VersionConflict("s", 1, 0))


@pytest.mark.parametrize("session_id", [None, ""])
def test_a_worker_needs_an_id(session_id: str | None) -> None:
    with pytest.raises(InvalidCommand) as caught:
        assert given().when(CreateSession(SMALL, session_id)).events
    assert caught.value.path == "$.sessionId"
