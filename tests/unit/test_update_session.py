"""`update-session`: config and metrics merge, messages and metadata are replaced, a new model brings its window."""

from typing import Any

import pytest
from msgspec import UNSET
from tests.unit.given import (
    AT,
    FRESH,
    LATER,
    SMALL,
    added,
    config_updated,
    created,
    given,
    measured,
    message,
    updated,
)

from turnstream.domain.commands import UpdateSession
from turnstream.domain.events import SessionUpdated
from turnstream.domain.models import SessionConfig, TokenMetrics
from turnstream.domain.patches import SessionConfigPatch, SessionPatch, TokenMetricsPatch
from turnstream.domain.prices import PriceSource
from turnstream.errors import SessionNotFound, VersionConflict

HALF_FULL = TokenMetrics(
    prompt_tokens=300,
    completion_tokens=200,
    total_tokens=500,
    estimated_cost=700.0,
    context_utilization=0.5,
    max_context_window=1_000,
    price_source=PriceSource.OVERRIDE,
)
"""The metrics of a session of the small model after one call."""


def update(**updates: Any) -> UpdateSession:  # noqa: ANN401 - the fields of SessionPatch
    return UpdateSession("s", SessionPatch(**updates))


def test_should_update_a_session() -> None:
    command = update(config=SessionConfigPatch(temperature=0.8), is_active=False)
    session = given(created(SessionConfig("openai", "gpt-4"))).when(command).session
    assert (session.config.temperature, session.is_active) == (0.8, False)
    assert (session.config.provider, session.config.model) == ("openai", "gpt-4")


def test_announces_the_update_and_then_the_changed_config() -> None:
    command = update(config=SessionConfigPatch(temperature=0.8), is_active=False)
    given(created()).when(command).then(
        updated(config=SessionConfigPatch(temperature=0.8), is_active=False),
        config_updated(temperature=0.8),
    )


def test_an_update_that_leaves_the_config_alone_says_nothing_of_it() -> None:
    given(created()).when(update(is_active=False)).then(updated(is_active=False))


def test_an_empty_patch_is_an_update() -> None:
    decided = given(created()).when(update())
    decided.then(updated())
    assert (decided.session.version, decided.session.updated_at) == (2, LATER)


def test_an_empty_patch_of_the_config_touches_it() -> None:
    given(created()).when(update(config=SessionConfigPatch())).then(
        updated(config=SessionConfigPatch()), config_updated()
    )


def test_unset_leaves_and_none_clears() -> None:
    config = SessionConfig(
        "openai",
        "small",
        system_prompt="Be brief",
        temperature=0.5,
        max_tokens=100,
        context_strategy="truncate",
        tools=("search",),
        provider_options={"seed": 1},
    )
    story = given(created(config, metadata={"topic": "x"}))
    assert story.when(update(config=SessionConfigPatch())).session.config == config
    cleared = SessionConfigPatch(
        system_prompt=None, temperature=None, max_tokens=None, context_strategy=None, tools=None, provider_options=None
    )
    session = story.when(update(config=cleared, metadata=None)).session
    assert (session.config, session.metadata) == (SMALL, None)


def test_metadata_is_replaced_whole() -> None:
    story = given(created(metadata={"topic": "x", "user": "u"}))
    assert story.when(update(metadata={"topic": "y"})).session.metadata == {"topic": "y"}
    assert story.when(update(is_active=False)).session.metadata == {"topic": "x", "user": "u"}


def test_options_of_the_provider_are_replaced_whole() -> None:
    story = given(created(SessionConfig("openai", "small", provider_options={"seed": 1})))
    command = update(config=SessionConfigPatch(provider_options={"top_k": 2}))
    assert story.when(command).session.config.provider_options == {"top_k": 2}


def test_metrics_merge_and_nothing_is_added_up() -> None:
    story = given(created(), measured(HALF_FULL))
    session = story.when(update(metrics=TokenMetricsPatch(prompt_tokens=7, estimated_cost=1.5))).session
    assert session.metrics == TokenMetrics(
        prompt_tokens=7,
        completion_tokens=200,
        total_tokens=500,
        estimated_cost=1.5,
        context_utilization=0.5,
        max_context_window=1_000,
        price_source=PriceSource.OVERRIDE,
    )


def test_the_size_of_the_last_prompt_can_be_cleared() -> None:
    story = given(
        created(),
        measured(
            TokenMetrics(
                prompt_tokens=1,
                completion_tokens=1,
                total_tokens=2,
                estimated_cost=3.0,
                context_utilization=0.1,
                max_context_window=1_000,
                price_source=PriceSource.OVERRIDE,
                context_tokens=100,
            )
        ),
    )
    assert story.when(update(metrics=TokenMetricsPatch(context_tokens=None))).session.metrics.context_tokens is None


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_messages_are_replaced() -> None:
    story = given(created(), added("m1"), added("m2"))
    replaced = story.when(update(messages=(message("m3"), message("m1", "Other"))))
    assert replaced.session.messages == (message("m3"), message("m1", "Other"))
    assert story.when(update(messages=())).session.messages == ()


def test_replacing_messages_never_reuses_a_position() -> None:
    story = given(created(), added("m1"), added("m2"), updated(messages=(message("m1"),)), added("m4"))
    assert story.header is not None
    assert (story.header.message_count, story.header.next_position) == (2, 4)


# ── a change of model ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_model_brings_its_window_and_the_utilisation_of_it() -> None:
    decided = given(created(), measured(HALF_FULL)).when(update(config=SessionConfigPatch(model="large")))
    decided.then(
        updated(
            config=SessionConfigPatch(model="large"),
            metrics=TokenMetricsPatch(max_context_window=10_000, context_utilization=0.05),
        ),
        config_updated(model="large"),
    )
    assert decided.session.metrics.estimated_cost == 700.0


def test_utilisation_of_a_new_model_follows_the_last_prompt_where_its_size_is_known() -> None:
    story = given(
        created(),
        measured(
            TokenMetrics(
                prompt_tokens=300,
                completion_tokens=200,
                total_tokens=500,
                estimated_cost=700.0,
                context_utilization=0.1,
                max_context_window=1_000,
                price_source=PriceSource.OVERRIDE,
                context_tokens=100,
            )
        ),
    )
    metrics = story.when(update(config=SessionConfigPatch(model="large"))).session.metrics
    assert (metrics.context_utilization, metrics.context_tokens) == (0.01, 100)


def test_a_new_provider_of_the_same_model_brings_its_window_too() -> None:
    story = given(created(), measured(HALF_FULL))
    metrics = story.when(update(config=SessionConfigPatch(provider="acme"))).session.metrics
    assert (metrics.max_context_window, metrics.context_utilization) == (2_000, 0.25)


def test_an_explicit_window_wins_over_the_new_models() -> None:
    story = given(created(), measured(HALF_FULL))
    command = update(
        config=SessionConfigPatch(model="large"),
        metrics=TokenMetricsPatch(max_context_window=5_000, total_tokens=1_000),
    )
    metrics = story.when(command).session.metrics
    assert (metrics.max_context_window, metrics.context_utilization) == (5_000, 0.2)


def test_an_explicit_utilisation_wins_too() -> None:
    story = given(created(), measured(HALF_FULL))
    command = update(config=SessionConfigPatch(model="large"), metrics=TokenMetricsPatch(context_utilization=0.75))
    metrics = story.when(command).session.metrics
    assert (metrics.max_context_window, metrics.context_utilization) == (10_000, 0.75)


def test_naming_the_same_model_changes_no_window() -> None:
    own_window = TokenMetrics(
        prompt_tokens=300,
        completion_tokens=200,
        total_tokens=500,
        estimated_cost=700.0,
        context_utilization=0.9,
        max_context_window=555,
        price_source=PriceSource.OVERRIDE,
    )
    story = given(created(), measured(own_window))
    session = story.when(update(config=SessionConfigPatch(provider="openai", model="small"))).session
    assert session.metrics == own_window


def test_a_change_of_temperature_changes_no_window() -> None:
    decided = given(created(), measured(HALF_FULL)).when(update(config=SessionConfigPatch(temperature=1.5)))
    event = decided.events[0]
    assert isinstance(event, SessionUpdated)
    assert event.updates.metrics is UNSET


# ── rejections and time ──────────────────────────────────────────────────────────────────────────────────────────────


def test_should_refuse_a_session_that_does_not_exist() -> None:
    given().when(update(is_active=False)).then_rejected(SessionNotFound("s"))


def test_an_inactive_session_can_be_updated() -> None:
    assert given(created(), updated(is_active=False)).when(update(is_active=True)).session.is_active


def test_time_never_runs_backwards() -> None:
    before = AT.replace(year=AT.year - 1)
    decided = given(created()).when(update(is_active=False), at=before)
    assert {event.timestamp for event in decided.events} == {AT}
    assert decided.session.updated_at == AT


@pytest.mark.parametrize(("expected", "actual"), [(1, 2), (3, 2), (0, 2)])
def test_another_version_than_the_expected_one(expected: int, actual: int) -> None:
    command = UpdateSession("s", SessionPatch(is_active=False), expected_version=expected)
    given(created(), added("m1")).when(command).then_rejected(VersionConflict("s", expected, actual))


def test_a_fresh_session_keeps_its_metrics() -> None:
    assert given(created()).when(update(is_active=False)).session.metrics == FRESH
