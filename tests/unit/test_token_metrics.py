"""`update-token-metrics`: tokens add up, each call is priced as it arrives, a full context window is announced.

The small model has a window of 1,000 tokens and costs 1 dollar a token of the prompt, 2 of the completion.
"""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace
from tests.unit.given import (
    AT,
    CATALOGUE,
    FRESH,
    LATER,
    SMALL,
    Story,
    created,
    critical,
    given,
    measured,
    updated,
)

from turnstream.catalogue import default_catalogue
from turnstream.domain.command_specs import decide
from turnstream.domain.commands import ChangingCommand, CreateSession, UpdateSession, UpdateTokenMetrics
from turnstream.domain.events import AnyEvent, ContextWindowCritical
from turnstream.domain.handlers import Context
from turnstream.domain.models import SessionConfig, TokenMetrics
from turnstream.domain.patches import SessionConfigPatch, SessionPatch, TokenMetricsPatch
from turnstream.domain.prices import PriceSource, TokenUsage
from turnstream.errors import InvalidCommand, SessionNotFound, VersionConflict


def after(*commands: ChangingCommand, model: str = "small") -> Story:
    """Create a session and apply commands to it, one after the other."""
    story = Story()
    for number, command in enumerate((CreateSession(SessionConfig("openai", model), "s"), *commands)):
        for event in decide(story, command, Context(f"c{number}", LATER, CATALOGUE)).events:
            story.happen(event)
    return story


def metrics(*commands: ChangingCommand, model: str = "small") -> TokenMetrics:
    header = after(*commands, model=model).header
    assert header is not None
    return header.metrics


def criticals(events: list[AnyEvent]) -> list[tuple[float, bool]]:
    return [(event.utilization, event.crossed) for event in events if isinstance(event, ContextWindowCritical)]


def test_tokens_and_their_price_add_up() -> None:
    decided = given(
        created(),
        measured(
            TokenMetrics(
                prompt_tokens=100,
                completion_tokens=50,
                total_tokens=150,
                estimated_cost=200.0,
                context_utilization=0.15,
                max_context_window=1_000,
                price_source=PriceSource.OVERRIDE,
            )
        ),
    ).when(UpdateTokenMetrics("s", prompt_tokens=30, completion_tokens=20))
    decided.then(
        measured(
            TokenMetrics(
                prompt_tokens=130,
                completion_tokens=70,
                total_tokens=200,
                estimated_cost=270.0,
                context_utilization=0.2,
                max_context_window=1_000,
                price_source=PriceSource.OVERRIDE,
            )
        )
    )
    assert (decided.session.version, decided.session.updated_at) == (3, LATER)


def test_prompt_tokens_alone_or_completion_tokens_alone() -> None:
    assert metrics(UpdateTokenMetrics("s", prompt_tokens=100)).total_tokens == 100
    only_completion = metrics(UpdateTokenMetrics("s", completion_tokens=50))
    assert (only_completion.completion_tokens, only_completion.estimated_cost) == (50, 100.0)


@pytest.mark.parametrize(
    "command",
    [
        UpdateTokenMetrics("s"),
        UpdateTokenMetrics("s", prompt_tokens=0, completion_tokens=0, cache_read_tokens=0, cache_write_tokens=0),
    ],
)
def test_omitted_or_zero_tokens_are_announced_as_well(command: UpdateTokenMetrics) -> None:
    decided = given(created()).when(command).then(measured(FRESH))
    assert decided.session.version == 2


def test_the_specs_own_example() -> None:
    decided = after(UpdateTokenMetrics("s", prompt_tokens=50, completion_tokens=80), model="gpt-4").when(
        UpdateTokenMetrics("s", prompt_tokens=7_000, completion_tokens=0)
    )
    assert decided.session.metrics.estimated_cost == pytest.approx(7_050 * 0.03 / 1_000 + 80 * 0.06 / 1_000)
    assert decided.session.metrics.price_source is PriceSource.SPEC
    assert criticals(list(decided.events)) == [(7_130 / 8_192, True)]


# ── prices ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cached_tokens_are_parts_of_the_prompt_for_the_price_only() -> None:
    cached = metrics(
        UpdateTokenMetrics("s", prompt_tokens=100, completion_tokens=10, cache_read_tokens=60, cache_write_tokens=20)
    )
    assert (cached.prompt_tokens, cached.total_tokens) == (100, 110)
    assert cached.estimated_cost == 20 * 1.0 + 60 * 0.5 + 20 * 1.5 + 10 * 2.0


def test_each_call_is_priced_as_it_arrives_by_the_model_of_that_time() -> None:
    change = UpdateSession("s", SessionPatch(config=SessionConfigPatch(model="large")))
    assert (
        metrics(
            UpdateTokenMetrics("s", prompt_tokens=10, completion_tokens=1),
            change,
            UpdateTokenMetrics("s", prompt_tokens=10, completion_tokens=1),
        ).estimated_cost
        == 12.0 + 120.0
    )


def test_two_calls_of_a_tiered_model_cost_the_sum_of_both() -> None:
    half, both = (TokenUsage(prompt_tokens=tokens) for tokens in (150_000, 300_000))
    one, together = (default_catalogue().price(u, "gemini-2.5-pro", "google", LATER).cost for u in (half, both))
    assert together > 2 * one > 0, "the model has no tiers any more: take another one"
    config = SessionConfig("google", "gemini-2.5-pro")
    story = given(created(config), measured(replace(FRESH, estimated_cost=one)))
    assert story.when(UpdateTokenMetrics("s", prompt_tokens=150_000)).session.metrics.estimated_cost == 2 * one


def test_the_price_is_that_of_the_commands_own_time() -> None:
    """The model became cheaper; a command that waited since before costs what it cost then."""
    config = SessionConfig("openai", "o3")
    story = given(created(config))
    dates = datetime(2025, 5, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
    before, now = (default_catalogue().price(TokenUsage(prompt_tokens=1_000), "o3", "openai", at).cost for at in dates)
    assert before > now > 0, "the model has one price only: take another one"
    waited = story.when(UpdateTokenMetrics("s", prompt_tokens=1_000), at=dates[0])
    assert waited.session.metrics.estimated_cost == before


@pytest.mark.parametrize(
    ("model", "source"),
    [("small", PriceSource.OVERRIDE), ("gpt-4", PriceSource.SPEC), ("gpt-4o", PriceSource.CATALOGUE)],
)
def test_says_where_the_price_came_from(model: str, source: PriceSource) -> None:
    known = metrics(UpdateTokenMetrics("s", prompt_tokens=10, completion_tokens=1), model=model)
    assert known.price_source is source
    assert known.estimated_cost > 0


def test_a_cost_of_0_for_an_unknown_model_says_so() -> None:
    unknown = metrics(UpdateTokenMetrics("s", prompt_tokens=10, completion_tokens=1), model="unknown-model")
    assert (unknown.estimated_cost, unknown.price_source) == (0.0, PriceSource.UNKNOWN)


def test_the_source_is_that_of_the_latest_price() -> None:
    change = UpdateSession("s", SessionPatch(config=SessionConfigPatch(model="unknown-model")))
    latest = metrics(UpdateTokenMetrics("s", prompt_tokens=10), change, UpdateTokenMetrics("s", prompt_tokens=10))
    assert (latest.estimated_cost, latest.price_source) == (10.0, PriceSource.UNKNOWN)


# ── the context window ───────────────────────────────────────────────────────────────────────────────────────────────


def test_utilisation_counts_all_tokens() -> None:
    assert (
        metrics(
            UpdateTokenMetrics("s", prompt_tokens=300, completion_tokens=100), UpdateTokenMetrics("s", prompt_tokens=50)
        ).context_utilization
        == 0.45
    )


def test_utilisation_follows_the_last_prompt_once_its_size_is_sent() -> None:
    calls = (
        UpdateTokenMetrics("s", prompt_tokens=300, completion_tokens=100, context_tokens=300),
        UpdateTokenMetrics("s", prompt_tokens=700, completion_tokens=5, context_tokens=700),
    )
    last = metrics(*calls)
    assert (last.total_tokens, last.context_tokens, last.context_utilization) == (1_105, 700, 0.7)


def test_the_size_of_the_last_prompt_stays_until_another_is_sent() -> None:
    kept = metrics(
        UpdateTokenMetrics("s", prompt_tokens=300, context_tokens=300), UpdateTokenMetrics("s", prompt_tokens=600)
    )
    assert (kept.context_tokens, kept.context_utilization) == (300, 0.3)


def test_a_prompt_of_no_tokens_is_a_size_too() -> None:
    emptied = metrics(
        UpdateTokenMetrics("s", prompt_tokens=900), UpdateTokenMetrics("s", prompt_tokens=1, context_tokens=0)
    )
    assert (emptied.context_tokens, emptied.context_utilization) == (0, 0.0)


def test_utilisation_may_pass_the_whole_window() -> None:
    assert metrics(UpdateTokenMetrics("s", prompt_tokens=2_500)).context_utilization == 2.5


def test_exactly_the_threshold_is_not_critical() -> None:
    given(created()).when(UpdateTokenMetrics("s", prompt_tokens=800)).then(
        measured(
            TokenMetrics(
                prompt_tokens=800,
                completion_tokens=0,
                total_tokens=800,
                estimated_cost=800.0,
                context_utilization=0.8,
                max_context_window=1_000,
                price_source=PriceSource.OVERRIDE,
            )
        )
    )


def test_above_the_threshold_is_critical() -> None:
    given(created()).when(UpdateTokenMetrics("s", prompt_tokens=801)).then(
        measured(
            TokenMetrics(
                prompt_tokens=801,
                completion_tokens=0,
                total_tokens=801,
                estimated_cost=801.0,
                context_utilization=0.801,
                max_context_window=1_000,
                price_source=PriceSource.OVERRIDE,
            )
        ),
        critical(0.801, 1_000, crossed=True),
    )


def test_only_the_update_that_crosses_the_threshold_says_so() -> None:
    sizes = 500, 850, 900, 800, 810, 820
    story = after(*(UpdateTokenMetrics("s", prompt_tokens=1, context_tokens=size) for size in sizes))
    assert criticals(story.past) == [(0.85, True), (0.9, False), (0.81, True), (0.82, False)]


def test_a_patch_above_the_threshold_crosses_it_once() -> None:
    full = UpdateSession("s", SessionPatch(metrics=TokenMetricsPatch(context_utilization=0.9, total_tokens=900)))
    assert criticals(after(full, UpdateTokenMetrics("s")).past) == [(0.9, True), (0.9, False)]


def test_a_smaller_model_can_cross_the_threshold() -> None:
    smaller = UpdateSession("s", SessionPatch(config=SessionConfigPatch(model="small")))
    assert criticals(after(UpdateTokenMetrics("s", prompt_tokens=900), smaller, model="large").past) == [(0.9, True)]


# ── rejections, time and activity ────────────────────────────────────────────────────────────────────────────────────


def test_a_session_that_does_not_exist() -> None:
    given().when(UpdateTokenMetrics("s", prompt_tokens=1)).then_rejected(SessionNotFound("s"))


def test_another_version_than_the_expected_one() -> None:
    given(created()).when(UpdateTokenMetrics("s", prompt_tokens=1, expected_version=4)).then_rejected(
        VersionConflict("s", 4, 1)
    )


def test_an_inactive_session_counts_on() -> None:
    story = given(created(SMALL), updated(is_active=False))
    assert story.when(UpdateTokenMetrics("s", prompt_tokens=5)).session.metrics.total_tokens == 5


def test_time_never_runs_backwards() -> None:
    assert (
        given(created()).when(UpdateTokenMetrics("s", prompt_tokens=1), at=AT.replace(year=2000)).session.updated_at
        == AT
    )


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (UpdateTokenMetrics("s", prompt_tokens=-1), "$.promptTokens"),
        (UpdateTokenMetrics("s", prompt_tokens=1, completion_tokens=-1), "$.completionTokens"),
        (UpdateTokenMetrics("s", prompt_tokens=1, cache_read_tokens=-1), "$.cacheReadTokens"),
        (UpdateTokenMetrics("s", prompt_tokens=1, cache_write_tokens=-1), "$.cacheWriteTokens"),
        (UpdateTokenMetrics("s", prompt_tokens=1, context_tokens=-1), "$.contextTokens"),
        (UpdateTokenMetrics("s", prompt_tokens=10**15 + 1), "$.promptTokens"),
        (UpdateTokenMetrics("s", prompt_tokens=10, cache_read_tokens=11), "$.promptTokens"),
        (UpdateTokenMetrics("s", prompt_tokens=10, cache_read_tokens=6, cache_write_tokens=5), "$.promptTokens"),
        (UpdateTokenMetrics("s", cache_read_tokens=1), "$.promptTokens"),
    ],
)
def test_tokens_that_cannot_be(command: UpdateTokenMetrics, path: str) -> None:
    with pytest.raises(InvalidCommand) as caught:
        assert given(created()).when(command).events
    assert caught.value.path == path


def test_all_of_the_prompt_may_be_cached() -> None:
    cached = metrics(UpdateTokenMetrics("s", prompt_tokens=10, cache_read_tokens=6, cache_write_tokens=4))
    assert cached.estimated_cost == 6 * 0.5 + 4 * 1.5
