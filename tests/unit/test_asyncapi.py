"""The AsyncAPI document: checked in as the code has it, complete, and with examples that can be decoded."""

import re
from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec
import pytest
from tools.asyncapi.channels import PARAMETERS
from tools.asyncapi.document import SHIPPED, asyncapi_document, render
from tools.asyncapi.messages import HEADERS, name_of
from tools.asyncapi.recording import DEFAULTS, GENERATION, KEYS, PARTITION
from tools.asyncapi.schemas import FIELDS, OUTPUTS, JsonValue
from typer.testing import CliRunner

from turnstream.adapters.redis.function_library import library
from turnstream.adapters.redis.keys import Keys, PartitionKeys, tags
from turnstream.application.commands.decoder import CommandDecoder, DecodedCommand
from turnstream.codec.envelope import decode_command, encode_command, encode_entry
from turnstream.codec.events import decode_event
from turnstream.codec.records import REJECTIONS, decode_replies, encode_replies, error_of
from turnstream.domain.command_specs import COMMANDS, OPERATIONS, check_rules
from turnstream.domain.commands import QUERIES
from turnstream.domain.event_envelope import EventEnvelope
from turnstream.domain.events import EVENTS
from turnstream.domain.models import partition_of
from turnstream.errors import Rejected
from turnstream.ports import CommandEntry, RawEntry, Reply
from turnstream.settings import Settings, load_settings
from turnstream_cli.main import app

DOCUMENT = asyncapi_document()
GUIDE: str = DOCUMENT["info"]["description"]
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
ALL_COMMANDS = COMMANDS | OPERATIONS
ADDRESSES = {channel["address"] for channel in DOCUMENT["channels"].values()}


def test_the_shipped_document_is_current() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == render(), "run `make asyncapi`"


def test_the_command_line_prints_it() -> None:
    assert CliRunner().invoke(app, ["asyncapi"]).output == render()


def test_the_environment_of_the_builder_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNSTREAM_NAMESPACE", "other")
    assert load_settings().namespace == "other"
    assert Settings() == DEFAULTS


# ── complete ──


def test_every_command_and_event_is_a_message_with_examples() -> None:
    assert {message["name"] for message in MESSAGES.values()} == {*ALL_COMMANDS, *EVENTS, "replies"}
    assert [name for name, message in MESSAGES.items() if not message["examples"]] == []


def test_every_command_is_an_operation_that_is_answered() -> None:
    for command_type in ALL_COMMANDS:
        operation = DOCUMENT["operations"][name_of(command_type)]
        assert operation["messages"] == [{"$ref": f"#/channels/commandStream/messages/{name_of(command_type)}"}]
        assert operation["reply"]["channel"] == {"$ref": "#/channels/replies"}
        assert ("x-output" in operation) == (command_type in OUTPUTS)


def test_every_channel_has_the_address_that_the_adapter_builds() -> None:
    every, own = Keys("{namespace}", 1), PartitionKeys("{namespace}", "tag")
    assert {
        own.commands,
        own.events,
        own.live,
        own.reply_channel("{clientId}"),
        every.session_channel("{sessionId}"),
        *map(every.event_channel, EVENTS),
    } == ADDRESSES


def test_an_address_with_its_parameters_is_the_key() -> None:
    values = {"{namespace}": DEFAULTS.namespace, "{tag}": PARAMETERS["tag"]["examples"][0]}
    address: str = DOCUMENT["channels"]["commandStream"]["address"]
    for parameter, value in values.items():
        address = address.replace(parameter, value)
    assert address == KEYS.commands


def test_every_field_of_the_envelope_is_explained() -> None:
    properties = SCHEMAS["EventEnvelope"]["properties"]
    assert set(properties) == {field.encode_name for field in msgspec.structs.fields(EventEnvelope)}
    assert [name for name, schema in properties.items() if not schema.get("description")] == []


def test_every_field_of_an_entry_is_explained() -> None:
    words = encode_entry(CommandEntry("", "", b"", "", "", "", wants_position=True, apply_within_ms=0))
    assert {*HEADERS, "data"} == set(words[::2])


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field_of_a_reply_is_explained(kind: type[msgspec.Struct]) -> None:
    assert set(FIELDS[kind]) == {field.encode_name for field in msgspec.structs.fields(kind)}


def test_every_rejection_is_explained_and_shown() -> None:
    shown = {reply.error.code for reply in replies() if reply.error}
    assert shown == set(REJECTIONS) == set(re.findall(r"^\| `([\w-]+)` \|", GUIDE, re.MULTILINE))


def test_every_status_is_shown() -> None:
    assert {reply.status for reply in replies()} == set(SCHEMAS["Reply"]["properties"]["status"]["enum"])


def test_the_channels_and_keys_in_the_text_exist() -> None:
    of = PartitionKeys("{namespace}", "tag")
    known = ADDRESSES | {Keys("{namespace}", 1).layout, of.partition, of.lost}
    named = set(re.findall(r"\{namespace\}:[\w:{}]+", GUIDE))
    assert named
    assert named <= known


def test_references_lead_somewhere() -> None:
    references = {text for text in strings(DOCUMENT) if text.startswith("#/")}
    assert references
    for reference in references:
        found: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_no_schema_speaks_of_python() -> None:
    foreign = re.compile(r"`(?:None|True|False)`|design §|contract\.md|`[a-z]+_[a-z_]+`")
    texts = [text for text in strings(DOCUMENT["components"]["schemas"]) if foreign.search(text)]
    assert texts == []


# ── examples ──


@pytest.mark.parametrize("command_type", ALL_COMMANDS)
def test_a_worker_accepts_the_examples_of_a_command(command_type: str) -> None:
    intake = CommandDecoder(PARTITION, DEFAULTS.partitions, DEFAULTS.max_message_bytes, KEYS.is_reply_channel)
    for example in MESSAGES[name_of(command_type)]["examples"]:
        data = msgspec.json.encode(example["payload"])
        fields = {name.encode(): value.encode() for name, value in example["headers"].items()}
        assert isinstance(intake.read(RawEntry("1-0", {**fields, b"data": data})), DecodedCommand)
        command = decode_command(example["headers"]["type"], data, DEFAULTS.max_message_bytes)
        assert type(command) is ALL_COMMANDS[command_type]
        check_rules(command)
        assert msgspec.json.decode(encode_command(command, DEFAULTS.max_message_bytes)) == example["payload"]


@pytest.mark.parametrize("event_type", EVENTS)
def test_the_examples_of_an_event_come_back_as_they_are(event_type: str) -> None:
    for example in MESSAGES[name_of(event_type)]["examples"]:
        event = decode_event(msgspec.json.encode(example["payload"]))
        assert isinstance(event, EVENTS[event_type])
        assert msgspec.json.decode(event.to_json()) == example["payload"]


def test_the_examples_of_events_are_one_chain() -> None:
    chain = sorted(
        (example["payload"] for event_type in EVENTS for example in MESSAGES[name_of(event_type)]["examples"]),
        key=lambda payload: payload["sequence"],
    )
    assert [event["sequence"] for event in chain] == list(range(1, len(chain) + 1))
    assert [event["previousOfSession"] for event in chain] == list(range(len(chain)))
    assert {(event["generation"], event["partition"]) for event in chain} == {(GENERATION, PARTITION)}


def test_the_examples_of_replies_come_back_as_they_are() -> None:
    for example in MESSAGES["replies"]["examples"]:
        decoded = decode_replies(msgspec.json.encode(example["payload"]))
        assert msgspec.json.decode(encode_replies(decoded)) == example["payload"]


def test_a_rejection_is_the_error_that_it_names() -> None:
    for reply in replies():
        if reply.error:
            error = error_of(reply.error)
            assert type(error) is REJECTIONS[reply.error.code] is not Rejected
            assert error.fields == reply.error.fields


def test_the_payload_hash_is_as_documented() -> None:
    told = {reply.command_id: reply.payload_hash for reply in replies()}
    for command_type in (name for name, kind in COMMANDS.items() if kind not in QUERIES):
        for example in MESSAGES[name_of(command_type)]["examples"]:
            digest = blake2b(msgspec.json.encode(example["payload"]) + command_type.encode(), digest_size=8)
            if command_type != "remove-messages":  # the id of this example is used for another payload as well
                assert told[example["headers"]["id"]] == digest.hexdigest()


def test_replies_are_shown_together_once() -> None:
    assert max(len(example["payload"]) for example in MESSAGES["replies"]["examples"]) == 2


def test_commands_are_queued_by_the_library_s_own_function() -> None:
    enqueue = DOCUMENT["channels"]["commandStream"]["x-enqueue"]
    assert enqueue["function"] == library().function("enqueue")
    assert f"function_name = '{enqueue['function']}'" in library().text


def test_the_vectors_are_the_code_s_own() -> None:
    vectors = DOCUMENT["info"]["x-test-vectors"]
    assert vectors["tags"] == [f"{{{tag}}}" for tag in tags(vectors["partitions"])]
    partition = partial(partition_of, partitions=vectors["partitions"])
    assert vectors["partitionOf"] == {session_id: partition(session_id) for session_id in vectors["partitionOf"]}


def replies() -> list[Reply]:
    examples = MESSAGES["replies"]["examples"]
    return [reply for example in examples for reply in decode_replies(msgspec.json.encode(example["payload"]))]


def strings(value: JsonValue) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict() | list():
            for child in value.values() if isinstance(value, dict) else value:
                yield from strings(child)
        case _:
            pass
