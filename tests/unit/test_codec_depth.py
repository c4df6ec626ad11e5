"""`deeper_than`: the nesting of JSON, without parsing it; of other bytes it may say yes, never wrongly no."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, settings
from hypothesis import given as for_all
from hypothesis import strategies as st
from tests.unit.given import json_values, unhurried

from turnstream.domain.json_input import deeper_than

LIMIT = 64


def depth(value: Any) -> int:  # noqa: ANN401 - JSON
    """The definition: a value that holds others is one level deeper than the deepest of them."""
    if isinstance(value, dict):
        return depth(list(dict[str, Any](value).values()))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, list):
        return 1 + max(map(depth, list[Any](value)), default=0)  # pyright: ignore[reportUnknownArgumentType]
    return 0


def scanned_depth(data: bytes) -> int:
    """How deep a parser could get that takes every bracket outside of a string for one, and never gives up."""
    deepest = level = 0
    in_string = escaped = False
    for byte in data:
        if in_string:
            in_string, escaped = escaped or byte != ord('"'), not escaped and byte == ord("\\")
        elif byte == ord('"'):
            in_string = True
        elif byte in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif byte in b"]}":
            level -= 1
    return deepest


tricky = st.recursive(
    st.none() | st.integers() | st.text('[]{}"\\\n,:a', max_size=6),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text('[]{}"\\', max_size=4), values, max_size=3),
    max_leaves=20,
)


@unhurried
@for_all(tricky | json_values, st.integers(0, 8), st.sampled_from([None, 1]))
def test_it_agrees_with_the_definition(value: Any, limit: int, indent: int | None) -> None:  # noqa: ANN401 - JSON
    data = json.dumps(value, indent=indent).encode()
    assert deeper_than(data, limit) == (depth(value) > limit)


@settings(unhurried, max_examples=300)
@for_all(st.text('[]{}"\\,:1', max_size=30).map(str.encode), st.integers(0, 5))
@example(b'"\\', 0)
@example(b'["\\"]', 0)
@example(b'"[[[[[[[[[[', 3)
@example(b'""[[[[', 3)
@example(b"[}[}[}", 1)
def test_of_anything_else_it_never_wrongly_says_no(data: bytes, limit: int) -> None:
    if scanned_depth(data) > limit:
        assert deeper_than(data, limit)
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return
    assert deeper_than(data, limit) == (depth(value) > limit)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'["\\"",'])
def test_hostile_nesting_is_seen_before_it_is_parsed(opening: bytes) -> None:
    assert deeper_than(opening * 200_000, LIMIT)


def test_many_shallow_values_are_not_deep() -> None:
    assert not deeper_than(json.dumps([[1], {"a": [2]}] * 50_000).encode(), LIMIT)


def test_brackets_inside_of_strings_do_not_count() -> None:
    assert not deeper_than(json.dumps({"code": "[" * 100_000 + '"' + "{" * 100_000}).encode(), LIMIT)
