"""The envelope of events: the fields that all have on the wire (docs/contract.md, Event envelope)."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta


class EventEnvelope(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", omit_defaults=True):
    """An event as it is published and kept: the common fields, and `data` with the fields of its type."""

    id: Annotated[
        str,
        Meta(
            description="The event's id: the id of the command that caused it, a colon, and its number among that "
            "command's events, from 0. The same when the command is applied a second time after a failure. Unique "
            "as long as command ids are: a producer that uses one again, once it is forgotten, uses its events' again."
        ),
    ]
    type: Annotated[str, Meta(description="The type of the event; it determines the fields of `data`.")]
    session_id: Annotated[str, Meta(description="The session that it happened to.")]
    session_version: Annotated[
        int,
        Meta(
            description="The session's version behind the command that caused the event. A command that changes "
            "something raises it by one, and all events of one command share it."
        ),
    ]
    incarnation: Annotated[
        str,
        Meta(
            description="Tells apart two sessions that had the same id one after the other: another text for each "
            "creation."
        ),
    ]
    partition: Annotated[int, Meta(description="The partition of the session, and so of this event, from 0.")]
    generation: Annotated[
        str,
        Meta(
            description="The history that the sequence belongs to: random, and another one when the server resumed "
            "from an earlier state. Numbers of different generations cannot be compared."
        ),
    ]
    sequence: Annotated[
        int,
        Meta(description="The event's number in its partition: from 1, without gaps, whatever its type and session."),
    ]
    previous_of_type: Annotated[
        int,
        Meta(description="The sequence of the event of the same type before it in this partition; 0: it is the first."),
    ]
    previous_of_session: Annotated[
        int,
        Meta(
            description="The sequence of the event of the same session before it; 0: it is the first since the "
            "session was created."
        ),
    ]
    timestamp: Annotated[
        datetime,
        Meta(
            description="When the command was queued, by the server's clock, but never before the session's last "
            "update: within a session times do not run backwards."
        ),
    ]
    command_id: Annotated[str, Meta(description="The id of the command that caused it.")]
    correlation_id: Annotated[
        str | None, Meta(description="The `correlationId` of that command's stream entry; absent where it had none.")
    ] = None
    traceparent: Annotated[
        str | None, Meta(description="The W3C trace context of that command's stream entry; absent where it had none.")
    ] = None
    data: Annotated[Any, Meta(description="The fields of the type.")]
