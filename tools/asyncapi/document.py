"""The document: its parts put together, and as text."""

import json
from pathlib import Path
from typing import Final

import turnstream
from tools.asyncapi.channels import CLUSTER, STANDALONE, channels, operations
from tools.asyncapi.guide import guide
from tools.asyncapi.messages import Json, messages
from tools.asyncapi.recording import DEFAULTS
from tools.asyncapi.schemas import components
from tools.asyncapi.story import SESSION
from turnstream.adapters.redis.keys import LAYOUT, Keys
from turnstream.domain.models import partition_of

VERSION = "3.0.0"
"""Of AsyncAPI."""

SHIPPED: Final = Path(turnstream.__file__).with_name("asyncapi.json")
"""The document in the package; `turnstream asyncapi` prints it."""

SAMPLES = (SESSION, "123456789", "019d3f7e-8000-7000-8000-000000000001", "Sitzung-ä")
"""Session ids with their partitions in the document."""


def asyncapi_document() -> Json:
    """Return the document."""
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Turnstream",
            "version": f"{LAYOUT}.0.0",
            "description": guide(),
            "license": {"name": "Apache-2.0"},
            "x-test-vectors": _vectors(),
        },
        "defaultContentType": "application/json",
        "servers": {
            STANDALONE: _server("localhost:6379", "One server, or the primary that Sentinels name."),
            CLUSTER: _server("localhost:7000", "Any node of a cluster."),
        },
        "channels": channels(),
        "operations": operations(),
        "components": {"messages": messages(), "schemas": components()},
    }


def render() -> str:
    """Return the document as JSON for people and programs."""
    return json.dumps(asyncapi_document(), indent=2, ensure_ascii=False) + "\n"


def _server(host: str, summary: str) -> Json:
    return {
        "host": host,
        "protocol": "redis",
        "description": f"{summary} Valkey 8 or later, or Redis 7.0 or later.",
        "bindings": {"redis": {}},
    }


def _vectors() -> Json:
    partitions = DEFAULTS.partitions
    keys = Keys(DEFAULTS.namespace, partitions).partitions
    return {
        "partitions": partitions,
        "tags": [each.tag for each in keys],
        "partitionOf": {session_id: partition_of(session_id, partitions) for session_id in SAMPLES},
    }
