"""docs/contract.md and the code have the same commands, results, events, errors, entities and fields."""

import inspect
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import msgspec
import pytest

from turnstream import (
    ChatMessage,
    ResyncRequired,
    Session,
    SessionConfig,
    SessionInfo,
    SessionPage,
    TokenMetrics,
    TurnstreamError,
    errors,
)
from turnstream.client.results import CommandResult
from turnstream.client.sessions import Sessions
from turnstream.codec.envelope import encode_entry
from turnstream.codec.records import REJECTIONS
from turnstream.commands import ChatMessagePatch, SessionConfigPatch, SessionPatch, TokenMetricsPatch
from turnstream.domain.command_specs import COMMANDS, OPERATIONS
from turnstream.domain.commands import QueueProgress, SessionCommand
from turnstream.domain.content import MessageContent
from turnstream.domain.event_envelope import EventEnvelope
from turnstream.domain.events import DATA_TYPES, EVENTS
from turnstream.errors import Rejected
from turnstream.ports import CommandEntry, Rejection, Reply, SessionPosition

PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text()
COMMON = "expectedVersion"
ENTITIES = (Session, SessionConfig, TokenMetrics, ChatMessage, SessionInfo, SessionPage, ResyncRequired)
PATCHES = (SessionPatch, SessionConfigPatch, TokenMetricsPatch, ChatMessagePatch)

Row = Mapping[str, str]


def section(heading: str) -> str:
    """The text under a heading, up to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/contract.md has no heading {heading!r}"
    return found[1]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def tables(heading: str) -> list[list[Row]]:
    """The tables under a heading, row by row; a row maps the header of a column to its cell."""
    blocks = re.findall(r"(?:^\|.*\n)+", section(heading), re.MULTILINE)
    split = [[cells(line) for line in block.splitlines()] for block in blocks]
    return [[dict(zip(header, row, strict=True)) for row in rows] for header, _, *rows in split]


def columns(rows: Iterable[Row], key: str, value: str) -> dict[str, str]:
    """The cells of one column, by the code names in another column."""
    return {name: row[value] for row in rows for name in names(row[key])}


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def wire_names(kind: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind)]


def classes_in(kind: Any) -> set[type]:  # noqa: ANN401 - any type
    """The classes in a type annotation."""
    inner = [arg for arg in get_args(kind) if arg is not Ellipsis]
    return {found for arg in inner for found in classes_in(arg)} if inner else {kind}


# ── fields ──


def required(kind: type[msgspec.Struct], *, without: str = "") -> dict[str, str]:
    """Whether each field of a struct is required: the text that the page shows."""
    fields = [field for field in msgspec.structs.fields(kind) if field.encode_name != without]
    return {field.encode_name: "yes" if field.required else "no" for field in fields}


@pytest.mark.parametrize("kind", ENTITIES)
def test_an_entity_has_its_fields(kind: type[msgspec.Struct]) -> None:
    assert columns(tables(f"`{kind.__name__}`")[0], "field", "required") == required(kind)


@pytest.mark.parametrize("kind", COMMANDS.values())
def test_a_command_has_its_fields(kind: type[msgspec.Struct]) -> None:
    assert columns(tables(f"`{kind.__name__}`")[0], "field", "required") == required(kind, without=COMMON)


def test_the_shared_field_of_commands_is_listed() -> None:
    assert columns(tables("Commands")[1], "field", "required") == {COMMON: "no"}
    assert {kind.type for kind in COMMANDS.values() if not issubclass(kind, SessionCommand)} == {"list-sessions"}


def test_envelopes_have_their_fields() -> None:
    result, reply = tables("Results")
    assert columns(tables("Event envelope")[0], "field", "required") == required(EventEnvelope)
    assert list(columns(result, "field", "meaning")) == wire_names(CommandResult)
    assert columns(reply, "field", "required") == required(Reply)


def test_the_parts_of_a_reply_are_named() -> None:
    meanings = columns(tables("Results")[1], "field", "meaning")
    assert names(meanings["error"]) == wire_names(Rejection)
    assert names(meanings["place"])[:4] == wire_names(SessionPosition)


def test_the_entry_of_a_command_has_its_fields() -> None:
    entry = CommandEntry("id", "type", b"{}", "reply", "correlation", "trace", wants_position=True, apply_within_ms=1)
    assert list(columns(tables("Stream entry")[0], "field", "required")) == encode_entry(entry)[::2]


def test_patches_have_their_fields() -> None:
    shown = {patch: names(fields) for patch, fields in columns(tables("Patches")[0], "patch", "fields").items()}
    assert shown == {kind.__name__: wire_names(kind) for kind in PATCHES}


def test_content_parts_have_their_fields() -> None:
    rows = tables("Content parts")[0]
    parts = get_args(MessageContent)
    assert columns(rows, "`type`", "class") == {kind.type: f"`{kind.__name__}`" for kind in parts}
    fields = columns(rows, "`type`", "fields")
    without_values = {tag: re.sub(r" \(.*?\)", "", text) for tag, text in fields.items()}
    assert {tag: names(text) for tag, text in without_values.items()} == {kind.type: wire_names(kind) for kind in parts}


# ── commands, results, events ──


def test_every_command_is_listed_with_its_result() -> None:
    rows = tables("Commands")[0]
    assert columns(rows, "wire type", "class") == {name: f"`{kind.__name__}`" for name, kind in COMMANDS.items()}
    words = {bool: "boolean", NoneType: "null"}
    for name, shown in columns(rows, "wire type", "result of `execute`").items():
        bases = next(vars(kind)["__orig_bases__"] for kind in COMMANDS[name].__mro__ if "__orig_bases__" in vars(kind))
        (result,) = get_args(bases[0])
        expected = {words.get(part, f"`{part.__name__}`") for part in classes_in(result)}
        assert set(re.findall(r"`\w+`|boolean|null", shown)) == expected, name


def test_the_events_and_rejections_of_commands_exist() -> None:
    rows = tables("Commands")[0]
    assert {name for row in rows for name in names(row["events"])} == set(EVENTS)
    assert {name for row in rows for name in names(row["specific rejections"])} <= set(REJECTIONS)


def test_every_operator_command_is_listed() -> None:
    shown = columns(tables("Operator commands")[0], "wire type", "class")
    assert shown == {name: f"`{kind.__name__}`" for name, kind in OPERATIONS.items()}
    fields = {name for kind in (*OPERATIONS.values(), QueueProgress) for name in wire_names(kind)}
    text = re.sub(r"^\|.*\n", "", section("Operator commands"), flags=re.MULTILINE)
    assert set(names(text)) == {*fields, QueueProgress.__name__}


def test_every_event_is_listed_with_its_data() -> None:
    rows = tables("Events")[0]
    assert columns(rows, "wire type", "class") == {name: f"`{kind.__name__}`" for name, kind in EVENTS.items()}
    data = {name: names(fields) for name, fields in columns(rows, "wire type", "fields of its data").items()}
    assert data == {name: wire_names(kind) for name, kind in DATA_TYPES.items()}


def test_every_repository_method_is_listed() -> None:
    public = {name for name, value in vars(Sessions).items() if callable(value) and not name.startswith("_")}
    assert set(columns(tables("Repository")[0], "method", "returns")) == public


# ── errors ──


def test_every_rejection_is_listed_with_its_fields() -> None:
    rows = tables("Errors")[0]
    assert columns(rows, "code", "class") == {code: f"`{kind.__name__}`" for code, kind in REJECTIONS.items()}
    reasons = columns(rows, "code", "reason")
    for code, fields in columns(rows, "code", "fields").items():
        kind: Any = REJECTIONS[code]
        parameters = list(inspect.signature(kind).parameters)
        assert names(fields) == parameters
        if reasons[code].startswith("Message: "):
            assert names(reasons[code]) == [str(kind(*(f"{{{name}}}" for name in parameters)))]


def test_every_other_public_error_is_listed() -> None:
    public = [getattr(errors, name) for name in errors.__all__]
    others = {kind.__name__ for kind in public if not issubclass(kind, Rejected)}
    assert set(columns(tables("Errors")[1], "class", "meaning")) == others - {TurnstreamError.__name__}


# ── windows and prices ──


def test_fixed_windows_and_prices_match_the_table() -> None:
    shown = {
        names(row["model"])[0]: {name: float(text.replace(",", "")) for name, text in row.items() if text[:1].isdigit()}
        for row in tables("Windows and prices")[1]
    }
    assert shown == tomllib.loads((files("turnstream.catalogue") / "spec.toml").read_text())["models"]
