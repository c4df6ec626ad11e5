"""The channels and operations of the document; their addresses come from where all keys are built."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tools.asyncapi.messages import REPLIES, Json, name_of
from tools.asyncapi.recording import DEFAULTS, KEYS
from tools.asyncapi.schemas import OUTPUTS, reference, words_of
from tools.asyncapi.story import CLIENT, SESSION
from turnstream.adapters.redis.function_library import library
from turnstream.adapters.redis.keys import CLIENT_ID, Keys, PartitionKeys
from turnstream.domain.command_specs import COMMANDS, OPERATIONS
from turnstream.domain.events import EVENTS

STANDALONE, CLUSTER = "standalone", "cluster"
COMMAND_STREAM, EVENT_STREAM = "commandStream", "eventStream"
LIVE, SESSION_EVENTS = "liveEvents", "sessionEvents"

# A key's tag stands in braces, as a parameter of an address does: so the parameter's value has the braces, too.
_OF_ALL = Keys("{namespace}", 1)
_OF_PARTITION = PartitionKeys("{namespace}", "tag")

PARAMETERS: Mapping[str, Json] = {
    "namespace": {
        "description": "The deployment's namespace.",
        "default": DEFAULTS.namespace,
    },
    "tag": {
        "description": "The tag of the partition, in its braces: see Partitions.",
        "examples": [KEYS.tag],
    },
    "clientId": {"description": f"The id of a client: {CLIENT_ID}", "examples": [CLIENT]},
    "sessionId": {"description": "The id of a session.", "examples": [SESSION]},
}

_EVENT_NAMES = [name_of(event_type) for event_type in EVENTS]
_COMMAND_NAMES = [name_of(command_type) for command_type in COMMANDS | OPERATIONS]

PUBLISH = {"publish": "PUBLISH", "subscribe": "SUBSCRIBE"}
SHARDED = {"publish": "SPUBLISH", "subscribe": "SSUBSCRIBE"}


def channels() -> Json:
    """Return all channels by name."""
    return {
        COMMAND_STREAM: _channel(
            _OF_PARTITION.commands,
            "The waiting commands of a partition. What is applied is trimmed, so XLEN is the backlog.",
            _COMMAND_NAMES,
            {"type": "stream", "append": "XADD", "headers": "a field each", "payload": "data"},
        )
        | {"x-enqueue": _enqueue()},
        REPLIES: _channel(
            _OF_PARTITION.reply_channel("{clientId}"),
            "The replies to one client's commands in a partition. In a cluster the channel is sharded.",
            [REPLIES],
            {STANDALONE: PUBLISH, CLUSTER: SHARDED},
        ),
        EVENT_STREAM: _channel(
            _OF_PARTITION.events,
            "All events of a partition, complete and in order, under the ids `<sequence>-0`.",
            _EVENT_NAMES,
            {"type": "stream", "read": ["XRANGE", "XREAD"], "id": "<sequence>-0", "payload": "event"},
        ),
        **{
            f"{name_of(event_type)}Events": _channel(
                _OF_ALL.event_channel(event_type),
                f"Events of the type {event_type}, of all sessions, as they happen.",
                [name_of(event_type)],
                PUBLISH,
                STANDALONE,
            )
            for event_type in EVENTS
        },
        SESSION_EVENTS: _channel(
            _OF_ALL.session_channel("{sessionId}"),
            "The events of one session as they happen.",
            _EVENT_NAMES,
            PUBLISH,
            STANDALONE,
        ),
        LIVE: _channel(
            _OF_PARTITION.live,
            "All events of a partition as they happen, on a sharded channel.",
            _EVENT_NAMES,
            SHARDED,
            CLUSTER,
        ),
    }


def operations() -> Json:
    """Return what Turnstream does with the channels: it receives commands, and sends replies and events."""
    received = {
        name_of(name): _operation("receive", COMMAND_STREAM, words_of(kind), [name_of(name)])
        | {"reply": {"channel": _to(REPLIES), "messages": [_message_of(REPLIES, REPLIES)]}}
        | ({"x-output": reference(*OUTPUTS[name])} if name in OUTPUTS else {})
        for name, kind in (COMMANDS | OPERATIONS).items()
    }
    sent = {
        f"announce{name[0].upper()}{name[1:]}": _operation("send", name, channel["summary"], channel["messages"])
        for name, channel in channels().items()
        if name not in {COMMAND_STREAM, REPLIES}
    }
    return {**received, **sent}


def _channel(address: str, summary: str, message_names: Sequence[str], redis: Mapping[str, Any], *servers: str) -> Json:
    return {
        "address": address,
        "summary": summary,
        "servers": [{"$ref": f"#/servers/{server}"} for server in servers or (STANDALONE, CLUSTER)],
        "parameters": {name: schema for name, schema in PARAMETERS.items() if f"{{{name}}}" in address},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in message_names},
        "bindings": {"redis": {}},
        "x-redis": redis,
    }


def _enqueue() -> Json:
    return {
        "call": "FCALL",
        "function": library().function("enqueue"),
        "keys": ["the command stream"],
        "arguments": "the largest backlog that you allow; then of each command its id, its type, its data, the number "
        "of the words that follow of it, and these: names and values of the other fields",
        "returns": "-1, or the number of waiting commands for which it was refused",
    }


def _operation(action: str, channel: str, summary: str, message_names: Iterable[str]) -> Json:
    return {
        "action": action,
        "channel": _to(channel),
        "summary": summary,
        "messages": [_message_of(channel, name) for name in message_names],
        "bindings": {"redis": {}},
    }


def _to(channel: str) -> Json:
    return {"$ref": f"#/channels/{channel}"}


def _message_of(channel: str, name: str) -> Json:
    return {"$ref": f"#/channels/{channel}/messages/{name}"}
