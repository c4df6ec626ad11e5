"""Reprs: short, and without what a message says, for all that programs get or give."""

from datetime import UTC, datetime

import msgspec
import pytest
from msgspec.structs import replace

import turnstream
from turnstream import Session, SessionConfig, SessionPage, TokenMetrics, admin, commands, events, user_message
from turnstream.catalogue import PriceSource
from turnstream.domain.representation import SHOWN

SECRET = "what nobody is to read"
PUBLIC = [
    kind
    for module in (turnstream, admin, commands, events)
    for kind in (getattr(module, name) for name in module.__all__)
    if isinstance(kind, type)
    and issubclass(kind, msgspec.Struct)
    and kind is not turnstream.Settings  # it shows all but secrets
]
CONTENT = (
    *("content", "text", "url", "alt_text", "args", "metadata", "system_prompt", "tools", "tool_calls", "data"),
    *("provider_options", "output", "fields", "messages", "message", "updates", "config", "session"),
)
LONGEST = 500
HOLDERS: list[object] = [
    *(SECRET, SECRET.encode(), (SECRET,), [SECRET], {SECRET: SECRET}, msgspec.Raw(f'"{SECRET}"'.encode())),
    replace(user_message(SECRET), metadata={"key": SECRET}),
    SessionConfig("openai", "gpt-4", system_prompt=SECRET),
]


@pytest.mark.parametrize("held", HOLDERS, ids=lambda held: type(held).__name__)
@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_no_value_shows_content(kind: type[msgspec.Struct], held: object) -> None:
    values = {name: "an-id" if name in SHOWN else held for name in kind.__struct_fields__}
    try:
        shown = repr(kind(**values))
    except TypeError:
        # It compares numbers as it is made, so it can hold nothing else.
        assert hasattr(kind, "__post_init__")
        return
    assert SECRET not in shown
    assert shown.startswith(f"{kind.__name__}(")
    assert len(shown) < LONGEST or isinstance(held, msgspec.Struct)


def test_content_is_not_shown() -> None:
    assert SHOWN.isdisjoint(CONTENT)


def test_a_session_shows_ids_counts_and_its_version() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    messages = [user_message(SECRET) for _ in range(3)]
    metrics = TokenMetrics(
        prompt_tokens=1,
        completion_tokens=2,
        total_tokens=3,
        estimated_cost=0.5,
        context_utilization=0.1,
        max_context_window=8192,
        price_source=PriceSource.SPEC,
    )
    session = Session(
        id="s",
        config=SessionConfig("openai", "gpt-4"),
        messages=tuple(messages),
        metrics=metrics,
        created_at=at,
        updated_at=at,
        is_active=True,
        version=7,
    )
    shown = repr(session)
    assert shown.startswith("Session(id='s', config=SessionConfig(provider='openai', model='gpt-4'), messages=<3>, ")
    assert "version=7" in shown
    assert repr(SessionPage(sessions=(), next_cursor="next")) == "SessionPage(sessions=<0>, next_cursor='next')"
