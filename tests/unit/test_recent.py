"""Sessions as the last results left them: used only if the next command follows directly."""

import pytest
from msgspec.structs import replace
from tests.unit.given import AT, SMALL, message

from turnstream.client.session_cache import CachedSession, SessionCache
from turnstream.codec.records import milliseconds
from turnstream.domain.models import ChatMessage, SessionHeader, TokenMetrics
from turnstream.domain.prices import PriceSource
from turnstream.ports import SessionPosition

METRICS = TokenMetrics(
    prompt_tokens=0,
    completion_tokens=0,
    total_tokens=0,
    estimated_cost=0.0,
    context_utilization=0.0,
    max_context_window=8_192,
    price_source=PriceSource.SPEC,
)


def header(session_id: str = "s", messages: int = 0) -> SessionHeader:
    return SessionHeader(
        id=session_id,
        incarnation="life",
        version=4,
        config=SMALL,
        metrics=METRICS,
        message_count=messages,
        next_position=messages,
        created_at=AT,
        updated_at=AT,
        is_active=True,
    )


def place(previous: int, sequence: int, generation: str = "g") -> SessionPosition:
    return SessionPosition(generation, previous, sequence, milliseconds(AT) + 1_000)


def holding(count: int) -> tuple[ChatMessage, ...]:
    return tuple(message(f"m{number}") for number in range(count))


def kept(session_id: str, messages: tuple[ChatMessage, ...], sequence: int) -> CachedSession:
    found = CachedSession.of(
        header(session_id, len(messages)), messages, replace(place(0, sequence), updated_ms=milliseconds(AT))
    )
    assert found is not None
    return found


def test_the_directly_following_event_is_folded() -> None:
    found = kept("s", holding(2), 7).followed_by((message("new"), message("newer")), 5, place(7, 9))
    assert found is not None
    session = found.session()
    assert [each.id for each in session.messages] == ["m0", "m1", "new", "newer"]
    assert (session.version, found.header.message_count, found.header.next_position) == (5, 4, 4)
    assert (session.updated_at - AT).total_seconds() == 1
    assert session.created_at == AT
    assert found.followed_by((message("last"),), 6, place(9, 10)) is not None


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(place(8, 9), id="somebody wrote in between"),
        pytest.param(place(7, 9, "other"), id="another history"),
    ],
)
def test_an_event_after_a_gap_is_not_folded(other: SessionPosition) -> None:
    assert kept("s", (), 7).followed_by((message("new"),), 5, other) is None


def test_a_callers_changes_to_a_result_are_not_in_the_next_one() -> None:
    first = kept("s", (message("m0", tags=["a"]), message("m1")), 7)
    metadata = first.session().messages[0].metadata
    assert metadata is not None
    metadata["tags"].append("b")
    second = first.followed_by((message("new", tags=["c"]),), 5, place(7, 8))
    assert second is not None
    assert [each.metadata for each in second.session().messages] == [{"tags": ["a"]}, None, {"tags": ["c"]}]


def test_a_session_that_was_changed_before_it_was_read_is_not_kept() -> None:
    """Another life of it may have come to the same version."""
    assert CachedSession.of(header(), (), place(0, 7)) is None


def test_the_least_recently_kept_make_room() -> None:
    recent = SessionCache(most=4_000)
    for number, name in enumerate("abc"):
        recent.keep(kept(name, holding(2), number + 1))
    assert recent.take("a") is None
    assert recent.take("b") is not None
    recent.keep(kept("d", (), 12))
    assert recent.take("d") is not None
    assert recent.take("d") is None


def test_a_session_too_large_for_the_cache_evicts_no_other() -> None:
    recent = SessionCache(most=4_000)
    recent.keep(kept("small", (), 1))
    recent.keep(kept("large", (message(text="x" * 4_000),), 2))
    recent.keep(kept("tagged", (message(tags=["x" * 4_000]),), 3))
    assert recent.take("large") is recent.take("tagged") is None
    assert recent.take("small") is not None
