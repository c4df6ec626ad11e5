"""Patches: UNSET leaves, None clears, and neither ids nor creation times can be patched."""

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec import UNSET
from tests.unit.given import FRESH, arbitrary, message, unhurried

from turnstream.domain.models import ChatMessage, Session, SessionConfig, TokenMetrics
from turnstream.domain.patches import (
    ChatMessagePatch,
    SessionConfigPatch,
    SessionPatch,
    TokenMetricsPatch,
    apply_patch,
    set_fields,
)

PATCHES: list[tuple[type[msgspec.Struct], type[msgspec.Struct], set[str]]] = [
    (ChatMessage, ChatMessagePatch, {"id", "created_at"}),
    (SessionConfig, SessionConfigPatch, set()),
    (TokenMetrics, TokenMetricsPatch, set()),
    (Session, SessionPatch, {"id", "created_at", "updated_at", "version"}),
]


@pytest.mark.parametrize(("entity", "patch", "kept"), PATCHES)
def test_everything_can_be_patched_but_ids_times_and_versions(
    entity: type[msgspec.Struct], patch: type[msgspec.Struct], kept: set[str]
) -> None:
    assert set(patch.__struct_fields__) == set(entity.__struct_fields__) - kept


def test_ids_and_times_in_a_patch_on_the_wire_are_unknown_fields() -> None:
    wire = b'{"id":"m9","createdAt":"2000-01-01T00:00:00Z","metadata":{"a":1}}'
    patch = msgspec.json.decode(wire, type=ChatMessagePatch)
    assert apply_patch(message("m1"), patch) == message("m1", a=1)


def test_no_patch_at_all_leaves_everything() -> None:
    assert apply_patch(FRESH, UNSET) is FRESH


def test_unset_leaves_and_none_clears() -> None:
    config = SessionConfig("openai", "small", system_prompt="Be brief", temperature=0.5)
    assert apply_patch(config, SessionConfigPatch(system_prompt=None)) == SessionConfig(
        "openai", "small", system_prompt=None, temperature=0.5
    )


@pytest.mark.parametrize(
    ("patch", "wire"),
    [
        (SessionConfigPatch(), b"{}"),
        (SessionConfigPatch(temperature=None), b'{"temperature":null}'),
        (SessionConfigPatch(temperature=0.8), b'{"temperature":0.8}'),
        (SessionPatch(is_active=False), b'{"isActive":false}'),
        (SessionPatch(metadata=None), b'{"metadata":null}'),
        (SessionPatch(messages=()), b'{"messages":[]}'),
    ],
)
def test_the_wire_distinguishes_unset_from_none(patch: msgspec.Struct, wire: bytes) -> None:
    assert msgspec.json.encode(patch) == wire
    assert msgspec.json.decode(wire, type=type(patch)) == patch


@pytest.mark.parametrize("wire", [b'{"provider":null}', b'{"model":null}'])
def test_required_fields_cannot_be_cleared(wire: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(wire, type=SessionConfigPatch)


@unhurried
@for_all(arbitrary(SessionConfig), arbitrary(SessionConfigPatch))
def test_a_patched_value_keeps_the_fields_that_the_patch_omits(
    config: SessionConfig, patch: SessionConfigPatch
) -> None:
    patched, wanted = apply_patch(config, patch), set_fields(patch)
    for name in config.__struct_fields__:
        assert getattr(patched, name) == wanted.get(name, getattr(config, name))


@unhurried
@for_all(st.data())
def test_applying_a_patch_twice_is_applying_it_once(data: st.DataObject) -> None:
    body, patch = data.draw(arbitrary(ChatMessage)), data.draw(arbitrary(ChatMessagePatch))
    once = apply_patch(body, patch)
    assert apply_patch(once, patch) == once
    assert (once.id, once.created_at) == (body.id, body.created_at)
