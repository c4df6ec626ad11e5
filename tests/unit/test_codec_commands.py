"""Commands on the wire: the worker accepts and restores every command of the client; an invalid one names its field."""

import math
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from tests.unit.given import AT, MAX_BYTES, SMALL, any_command, arbitrary_command, json_values, message, unhurried

from turnstream.codec.envelope import decode_command, encode_command
from turnstream.domain.command_specs import COMMANDS, check_rules
from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    AnyCommand,
    CreateSession,
    DeleteSession,
    RemovedMessage,
    RemoveMessages,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
)
from turnstream.domain.content import TextContent, ToolCallContent
from turnstream.domain.json_input import MAX_DEPTH
from turnstream.domain.models import ChatMessage, ChatMessageRole, SessionConfig
from turnstream.domain.patches import ChatMessagePatch, SessionConfigPatch, SessionPatch, TokenMetricsPatch
from turnstream.errors import InvalidCommand

SURROGATE = "\ud800"


def refused(command: AnyCommand, max_bytes: int = MAX_BYTES) -> InvalidCommand:
    with pytest.raises(InvalidCommand) as caught:
        encode_command(command, max_bytes)
    return caught.value


def unread(name: str, data: bytes, max_bytes: int = MAX_BYTES) -> InvalidCommand:
    with pytest.raises(InvalidCommand) as caught:
        decode_command(name, data, max_bytes)
    return caught.value


def with_metadata(**metadata: Any) -> AddMessage:  # noqa: ANN401 - free-form
    return AddMessage("s", message("m1", **metadata))


# ── round trips ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", COMMANDS.values())
@settings(unhurried, max_examples=50)
@for_all(st.data())
def test_the_worker_gets_what_the_client_sends(kind: type[AnyCommand], data: st.DataObject) -> None:
    command = data.draw(arbitrary_command(kind))
    sent = encode_command(command, MAX_BYTES)
    received = decode_command(kind.type, sent, MAX_BYTES)
    assert received == command
    check_rules(received)


@unhurried
@for_all(any_command)
def test_a_worker_sends_the_same_bytes_again(command: AnyCommand) -> None:
    sent = encode_command(command, MAX_BYTES)
    assert encode_command(decode_command(command.type, sent, MAX_BYTES), MAX_BYTES) == sent


@unhurried
@for_all(json_values)
def test_metadata_comes_back_as_it_was(value: Any) -> None:  # noqa: ANN401 - free-form
    command = with_metadata(value=value)
    assert decode_command(command.type, encode_command(command, MAX_BYTES), MAX_BYTES) == command


def test_the_names_on_the_wire_are_the_specs() -> None:
    command = UpdateTokenMetrics("s", prompt_tokens=100, completion_tokens=50, context_tokens=70, expected_version=3)
    assert msgspec.json.decode(encode_command(command, MAX_BYTES)) == {
        "sessionId": "s",
        "promptTokens": 100,
        "completionTokens": 50,
        "contextTokens": 70,
        "expectedVersion": 3,
    }


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        (UpdateTokenMetrics("s", prompt_tokens=100), {"sessionId", "promptTokens"}),
        (UpdateTokenMetrics("s", completion_tokens=50), {"sessionId", "completionTokens"}),
        (UpdateTokenMetrics("s"), {"sessionId"}),
    ],
)
def test_a_command_can_be_created_with_partial_token_metrics(command: UpdateTokenMetrics, fields: set[str]) -> None:
    assert msgspec.json.decode(encode_command(command, MAX_BYTES)).keys() == fields


def test_unknown_fields_are_ignored() -> None:
    wire = b'{"sessionId":"s","force":true,"message":{"nested":[1]}}'
    assert decode_command("delete-session", wire, MAX_BYTES) == DeleteSession("s")


# ── values that are no JSON, or that JSON would change ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_without_json_form_is_shown_as_it_is_if_null_is_invalid(number: float) -> None:
    patch = SessionPatch(metrics=TokenMetricsPatch(estimated_cost=number))
    error = refused(UpdateSession("s", patch))
    assert (error.path, error.reason) == (
        "$.updates.metrics.estimatedCost",
        f"Expected a finite number, got {number}",
    )


@pytest.mark.parametrize(
    "text", [rb"\ud800", rb"\ud800abc", rb"\uD800\u0041", rb"\udc00", rb"\ud83d\ude00\uDFFF", rb"\\\ud800"]
)
def test_half_a_character_on_the_wire_is_reported_as_such(text: bytes) -> None:
    with pytest.raises(InvalidCommand, match="Not JSON: a lone surrogate") as invalid:
        decode_command("delete-session", b'{"sessionId":"%s"}' % text, MAX_BYTES)
    assert invalid.value.path == "$"


@pytest.mark.parametrize("text", [rb"\\ud800", rb"\ud83d\ude00", rb"\ud8", rb'\ud8"}'])
def test_an_escaped_backslash_is_not_half_a_character(text: bytes) -> None:
    with pytest.raises(InvalidCommand, match=r"Not JSON: (?!a lone)"):
        decode_command("delete-session", b'{"sessionId":"%s"' % text, MAX_BYTES)


class Colour(StrEnum):
    RED = "red"


class OtherText(str):
    __slots__ = ()


CIRCULAR: dict[str, Any] = {}
CIRCULAR["again"] = CIRCULAR


def shallow(value: object) -> dict[str, object]:
    return {"value": value}


def deep(value: object) -> dict[str, object]:
    return {"list": [1, {"value": value}]}


NO_JSON: list[object] = [
    *(math.nan, math.inf, -math.inf, SURROGATE, f"fine{SURROGATE}", {1, 2}, frozenset({1}), b"bytes", bytearray(b"x")),
    *(AT, date(2026, 11, 1), timedelta(1), Decimal(1), UUID(int=1), object(), 1j, range(3), len, TextContent("Hello")),
    *({1: "one"}, {None: 1}, {(1, 2): 3}, {SURROGATE: 1}, {True: 1}, {1.5: 1}),
    *(msgspec.UNSET, msgspec.Raw(b"{}"), OtherText("x"), RemovedMessage("m1")),
]
SOME_JSON: list[object] = [
    *((1, 2), Colour.RED, [], {}, 2**64, -(2**63) - 1, 10**100, 1e-300, -0.0, "\x00", "\U0001f600"),
]


def kind_of(value: object) -> str:
    return type(value).__name__


@pytest.mark.parametrize("value", NO_JSON, ids=kind_of)
@pytest.mark.parametrize(
    ("wrapped", "path"),
    [(shallow, "$.message.metadata.value"), (deep, "$.message.metadata.list[1].value")],
    ids=["shallow", "deep"],
)
def test_free_form_values_that_are_no_json_name_their_field(
    value: object, wrapped: Callable[[object], dict[str, object]], path: str
) -> None:
    assert refused(with_metadata(**wrapped(value))).path == path


@pytest.mark.parametrize("value", SOME_JSON, ids=kind_of)
def test_free_form_values_that_json_knows(value: object) -> None:
    assert encode_command(with_metadata(value=value), MAX_BYTES)


def test_an_invalid_value_after_the_deepest_allowed_one_is_found() -> None:
    deepest: Any = 1
    for _ in range(MAX_DEPTH - 3):
        deepest = [deepest]
    assert encode_command(with_metadata(deep=deepest), MAX_BYTES)
    assert refused(with_metadata(deep=deepest, behind=math.nan)).path == "$.message.metadata.behind"


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (DeleteSession(SURROGATE), "$.sessionId"),
        (DeleteSession(1), "$.sessionId"),  # type: ignore[arg-type]
        (DeleteSession(None), "$.sessionId"),  # type: ignore[arg-type]
        (DeleteSession(OtherText("s")), "$.sessionId"),
        (DeleteSession("s", expected_version="1"), "$.expectedVersion"),  # type: ignore[arg-type]
        (DeleteSession("s", expected_version=1.5), "$.expectedVersion"),  # type: ignore[arg-type]
        (DeleteSession("s", expected_version=True), "$.expectedVersion"),
        (CreateSession(None, "s"), "$.config"),  # type: ignore[arg-type]
        (CreateSession(SessionConfig("openai", None), "s"), "$.config.model"),  # type: ignore[arg-type]
        (CreateSession(SessionConfig("p", "m", temperature=math.nan), "s"), "$.config.temperature"),
        (CreateSession(SessionConfig("p", "m", temperature=math.inf), "s"), "$.config.temperature"),
        (CreateSession(SessionConfig("p", "m", temperature="hot"), "s"), "$.config.temperature"),  # type: ignore[arg-type]
        (CreateSession(SessionConfig("p", "m", temperature=10**400), "s"), "$.config.temperature"),
        (CreateSession(SessionConfig("p", "m", context_strategy="forget"), "s"), "$.config.contextStrategy"),  # type: ignore[arg-type]
        (CreateSession(SessionConfig("p", "m", tools={"search"}), "s"), "$.config.tools"),  # type: ignore[arg-type]
        (CreateSession(SessionConfig("p", "m", tools=("search", 1)), "s"), "$.config.tools[1]"),  # type: ignore[arg-type]
        (CreateSession(SessionConfig("p", "m", provider_options={"a": {1}}), "s"), "$.config.providerOptions.a"),
        (CreateSession(SMALL, "s", metadata=[1]), "$.metadata"),  # type: ignore[arg-type]
        (UpdateSession("s", SessionPatch(is_active=1)), "$.updates.isActive"),  # type: ignore[arg-type]
        (UpdateSession("s", SessionPatch(is_active=None)), "$.updates.isActive"),  # type: ignore[arg-type]
        (UpdateSession("s", {"is_active": False}), "$.updates"),  # type: ignore[arg-type]
        (UpdateSession("s", SessionPatch(config={"max_tokens": 5})), "$.updates.config"),  # type: ignore[arg-type]
        (
            UpdateSession("s", SessionPatch(config=SessionConfigPatch(temperature=math.nan))),
            "$.updates.config.temperature",
        ),
        (UpdateMessage("s", "m1", updates=ChatMessagePatch(role="robot")), "$.updates.role"),  # type: ignore[arg-type]
        (AddMessage("s", ChatMessage(id="m", role="robot", content=(), created_at=AT)), "$.message.role"),  # type: ignore[arg-type]
        (
            AddMessage("s", ChatMessage(id="m", role=ChatMessageRole.USER, content="text", created_at=AT)),  # type: ignore[arg-type]
            "$.message.content",
        ),
        (
            AddMessage("s", ChatMessage(id="m", role=ChatMessageRole.USER, content=("text",), created_at=AT)),  # type: ignore[arg-type]
            "$.message.content[0]",
        ),
        (
            AddMessage(
                "s", ChatMessage(id="m", role=ChatMessageRole.USER, content=(TextContent(SURROGATE),), created_at=AT)
            ),
            "$.message.content[0].text",
        ),
        (
            AddMessage(
                "s",
                ChatMessage(
                    id="m",
                    role=ChatMessageRole.USER,
                    content=(ToolCallContent(tool_call_id="c", name="n", args={"x": {1}}),),
                    created_at=AT,
                ),
            ),
            "$.message.content[0].args.x",
        ),
        (
            AddMessage(
                "s", ChatMessage(id="m", role=ChatMessageRole.USER, content=(), created_at=AT.replace(tzinfo=None))
            ),
            "$.message.createdAt",
        ),
        (AddMessages("s", (message("m1"), message("m2", bad=b""))), "$.messages[1].metadata.bad"),
        (RemoveMessages("s", message_ids="m1"), "$.messageIds"),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_wrong_fields_are_named(command: AnyCommand, path: str) -> None:
    assert refused(command).path == path


def test_a_role_may_be_given_by_its_name() -> None:
    named = AddMessage("s", ChatMessage(id="m1", role="user", content=(TextContent("Hello"),), created_at=AT))  # type: ignore[arg-type]
    assert decode_command("add-message", encode_command(named, MAX_BYTES), MAX_BYTES) == AddMessage("s", message("m1"))


# ── sizes and depth: one limit for both sides ────────────────────────────────────────────────────────────────────────


def test_the_size_of_a_command_is_limited_to_the_byte() -> None:
    command = with_metadata(text="é" * 100)
    data = encode_command(command, MAX_BYTES)
    assert encode_command(command, len(data)) == data
    assert refused(command, len(data) - 1).reason == f"Expected at most {len(data) - 1} bytes, got {len(data)}"
    assert decode_command("add-message", data, len(data)) == command
    assert unread("add-message", data, len(data) - 1).path == "$"


def test_ten_thousand_parts_are_too_many() -> None:
    parts = (TextContent("x"),) * 10_000
    assert (
        refused(AddMessage("s", ChatMessage(id="m", role=ChatMessageRole.USER, content=parts, created_at=AT))).path
        == "$.message.content"
    )
    assert encode_command(
        AddMessage("s", ChatMessage(id="m", role=ChatMessageRole.USER, content=parts[:5_000], created_at=AT)), MAX_BYTES
    )


def in_list(inner: object) -> object:
    return [inner]


@pytest.mark.parametrize("wrap", [in_list, shallow])
def test_nesting_is_limited_to_the_level(wrap: Callable[[object], object]) -> None:
    nested: object = 1
    for _ in range(MAX_DEPTH - 3):
        nested = wrap(nested)
    fits, too_deep = with_metadata(deep=nested), with_metadata(deep=wrap(nested))
    assert decode_command("add-message", encode_command(fits, MAX_BYTES), MAX_BYTES) == fits
    assert refused(too_deep).path.startswith("$.message.metadata.deep")
    assert unread("add-message", msgspec.json.encode(too_deep)).path == "$"


@pytest.mark.parametrize("metadata", [CIRCULAR, {"endless": [CIRCULAR]}])
def test_a_value_that_holds_itself_is_too_deep(metadata: dict[str, Any]) -> None:
    error = refused(with_metadata(**metadata))
    assert error.reason == f"Nested deeper than {MAX_DEPTH} levels"
    assert len(error.path) < 200


@pytest.mark.parametrize("levels", [1_000, 100_000])
def test_nesting_that_no_parser_survives(levels: int) -> None:
    nested: Any = 1
    for _ in range(levels):
        nested = [nested]
    assert "Nested deeper" in refused(with_metadata(deep=nested)).reason
    assert unread("create-session", b'{"metadata":' + b"[" * levels).path == "$"


# ── written straight to the stream ───────────────────────────────────────────────────────────────────────────────────

CONFIG = b'{"sessionId":"s","config":{"provider":"p","model":"m"%b}}'
HUGE = b"9" * 5_000


@pytest.mark.parametrize(
    ("name", "data", "path"),
    [
        ("add-massage", b"{}", "type"),
        ("", b"{}", "type"),
        ("delete-session", b"", "$"),
        ("delete-session", b"hello", "$"),
        ("delete-session", b"[]", "$"),
        ("delete-session", b"null", "$"),
        ("delete-session", b'{"sessionId":"s"', "$"),
        ("delete-session", b'{"sessionId":"s"} {}', "$"),
        ("delete-session", b'\xef\xbb\xbf{"sessionId":"s"}', "$"),
        ("delete-session", b'{"sessionId":"\xff"}', "$"),
        ("delete-session", b'{"sessionId":"\xed\xa0\x80"}', "$"),
        ("delete-session", b'{"sessionId":"\\ud800"}', "$"),
        ("delete-session", b'{"sessionId":"\\ud800"                      }', "$"),
        ("delete-session", b"{}", "$"),
        ("delete-session", b'{"sessionId":null}', "$.sessionId"),
        ("delete-session", b'{"sessionId":7}', "$.sessionId"),
        ("delete-session", b'{"sessionId":"s","expectedVersion":1.5}', "$.expectedVersion"),
        ("delete-session", b'{"sessionId":"s","expectedVersion":' + HUGE + b"}", "$.expectedVersion"),
        ("create-session", CONFIG % b',"temperature":NaN', "$"),
        ("create-session", CONFIG % b',"temperature":1e400', "$.config.temperature"),
        ("create-session", CONFIG % (b',"maxTokens":' + HUGE), "$.config.maxTokens"),
        ("create-session", CONFIG % b',"maxTokens":"5"', "$.config.maxTokens"),
        ("create-session", CONFIG % (b',"providerOptions":{"seed":' + HUGE + b"}"), "$.config.providerOptions[...]"),
    ],
)
def test_an_unreadable_value_names_its_field(name: str, data: bytes, path: str) -> None:
    assert unread(name, data).path == path


@settings(unhurried, max_examples=200)
@for_all(st.sampled_from(sorted(COMMANDS)), st.binary(max_size=40) | json_values.map(msgspec.json.encode))
def test_no_bytes_bring_anything_but_a_command_or_a_refusal(name: str, data: bytes) -> None:
    try:
        command = decode_command(name, data, MAX_BYTES)
    except InvalidCommand:
        return
    assert decode_command(name, msgspec.json.encode(command), MAX_BYTES) == command


def test_the_name_of_an_unknown_type_is_shown_shortened() -> None:
    assert len(str(unread("x" * 10_000, b"{}"))) < 200
