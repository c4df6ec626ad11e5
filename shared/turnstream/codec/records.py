"""The stored form of sessions, messages and outcomes, and the replies to producers (design §2, §10)."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from turnstream import errors
from turnstream.domain.command_specs import OutputSpec
from turnstream.domain.commands import CommandOutput, QueueProgress
from turnstream.domain.models import ChatMessage, SessionConfig, SessionHeader, SessionInfo, TokenMetrics
from turnstream.domain.prices import PriceSource
from turnstream.ports import EPOCH, Outcome, ParkedSession, Rejection, Reply, StoredHeader

INFO_FIELDS = ("id", "provider", "model", "createdAt", "updatedAt", "messageCount", "isActive")
"""The fields of a header that a listing shows, in the order in which `decode_info` takes them."""

MILLISECOND = timedelta(milliseconds=1)

Field = str | bytes | int

_encode = msgspec.json.Encoder().encode
_message_decoder = msgspec.json.Decoder(ChatMessage)
_config_decoder = msgspec.json.Decoder(SessionConfig)
_metadata_decoder = msgspec.json.Decoder(dict[str, Any] | None)
_outcome_decoder = msgspec.json.Decoder(Outcome)

encode_message = _encode
decode_message = _message_decoder.decode
encode_outcome = _encode
encode_type_sequences = _encode
decode_type_sequences = msgspec.json.Decoder(dict[str, int]).decode
decode_outcome = _outcome_decoder.decode
encode_parked_session = _encode
decode_parked_session = msgspec.json.Decoder(ParkedSession).decode


def encode_changes(before: StoredHeader | None, after: StoredHeader) -> list[Field]:
    """Return the fields of a header that differ from what is stored, names and values one after the other."""
    header = after.header
    old = before.header if before else None
    fields: list[Field] = [
        *("version", header.version, "messageCount", header.message_count, "nextPosition", header.next_position),
        *("updatedAt", _time(header.updated_at), "lastSequence", after.last_sequence),
    ]
    if old is None or header.config is not old.config:
        config = header.config
        fields += ("provider", config.provider, "model", config.model, "config", _encode(config))
    if old is None or header.metrics is not old.metrics:
        fields += _metrics_fields(header.metrics)
    if old is None or header.is_active is not old.is_active:
        fields += ("isActive", int(header.is_active))
    if old is None or header.metadata is not old.metadata:
        fields += ("metadata", _encode(header.metadata))
    if old is None or header.incarnation != old.incarnation:
        fields += ("id", header.id, "incarnation", header.incarnation, "createdAt", _time(header.created_at))
    return fields


def copy_header(header: SessionHeader) -> SessionHeader:
    """Return a header of which nothing that can be changed is shared."""
    config, metadata = (
        _config_decoder.decode(_encode(header.config)),
        _metadata_decoder.decode(_encode(header.metadata)),
    )
    return replace(header, config=config, metadata=metadata)


def decode_header(pairs: Sequence[bytes]) -> StoredHeader:
    """Return the header of a hash, given its names and values one after the other."""
    record = dict(zip(pairs[::2], pairs[1::2], strict=True))
    header = SessionHeader(
        id=record[b"id"].decode(),
        incarnation=record[b"incarnation"].decode(),
        version=int(record[b"version"]),
        config=_config_decoder.decode(record[b"config"]),
        metrics=_metrics(record),
        message_count=int(record[b"messageCount"]),
        next_position=int(record[b"nextPosition"]),
        created_at=_parsed(record[b"createdAt"]),
        updated_at=_parsed(record[b"updatedAt"]),
        is_active=record[b"isActive"] == b"1",
        metadata=_metadata_decoder.decode(record[b"metadata"]),
    )
    return StoredHeader(header, int(record[b"lastSequence"]))


def decode_info(values: Sequence[bytes | None]) -> SessionInfo | None:
    """Return the summary of a header, given the values of `INFO_FIELDS`; `None` if there is no such session."""
    if None in values:
        return None
    session_id, provider, model, created, updated, count, active = (value or b"" for value in values)
    return SessionInfo(
        id=session_id.decode(),
        provider=provider.decode(),
        model=model.decode(),
        created_at=_parsed(created),
        updated_at=_parsed(updated),
        message_count=int(count),
        is_active=active == b"1",
    )


def _metrics_fields(metrics: TokenMetrics) -> tuple[Field, ...]:
    return (
        *("promptTokens", metrics.prompt_tokens, "completionTokens", metrics.completion_tokens),
        *("totalTokens", metrics.total_tokens, "estimatedCost", _encode(metrics.estimated_cost)),
        *("contextUtilization", _encode(metrics.context_utilization), "maxContextWindow", metrics.max_context_window),
        *("priceSource", metrics.price_source.value, "contextTokens", _encode(metrics.context_tokens)),
    )


def _metrics(record: Mapping[bytes, bytes]) -> TokenMetrics:
    context_tokens = record[b"contextTokens"]
    return TokenMetrics(
        prompt_tokens=int(record[b"promptTokens"]),
        completion_tokens=int(record[b"completionTokens"]),
        total_tokens=int(record[b"totalTokens"]),
        estimated_cost=float(record[b"estimatedCost"]),
        context_utilization=float(record[b"contextUtilization"]),
        max_context_window=int(record[b"maxContextWindow"]),
        price_source=PriceSource(record[b"priceSource"].decode()),
        context_tokens=None if context_tokens == b"null" else int(context_tokens),
    )


def _time(time: datetime) -> str:
    return time.isoformat()


def _parsed(text: bytes) -> datetime:
    return datetime.fromisoformat(text.decode()).astimezone(UTC)


def milliseconds(time: datetime) -> int:
    """Return a time as whole milliseconds since 1970."""
    # Not by way of a float, which rounds some of them down to the millisecond before.
    return (time - EPOCH) // MILLISECOND


_encode = msgspec.json.Encoder().encode
_replies_decoder = msgspec.json.Decoder(tuple[Reply, ...])
REJECTIONS = {
    error.code: error
    for error in (
        errors.InvalidCommand,
        errors.SessionNotFound,
        errors.SessionAlreadyExists,
        errors.MessageNotFound,
        errors.MessageAlreadyExists,
        errors.VersionConflict,
        errors.DuplicateMismatch,
        errors.ParkedQueueFull,
        errors.CommandDiscarded,
        errors.CommandExpired,
    )
}
"""Every class of rejection by its code on the wire."""


class Loss(msgspec.Struct, frozen=True):
    """The announcement to all clients of a partition that unapplied commands were removed from its stream."""

    partition: int
    lost: int


decode_replies = _replies_decoder.decode
decode_loss = msgspec.json.Decoder(Loss).decode


def encode_replies(replies: Sequence[Reply]) -> bytes:
    """Return replies, coalesced for one client, as a JSON array."""
    return _encode(replies)


def rejection_of(error: errors.Rejected) -> Rejection:
    """Return an error as outcomes and replies carry it."""
    return Rejection(error.code, str(error), error.fields)


def error_of(rejection: Rejection) -> errors.Rejected:
    """Return the error that a reply carries; a code that this version does not know is a plain `Rejected`."""
    kind = REJECTIONS.get(rejection.code, errors.Rejected)
    # Not by its constructor: a later version may send other fields.
    error = kind.__new__(kind, rejection.message)
    vars(error).update(rejection.fields)
    return error


def encode_output(output: CommandOutput | QueueProgress) -> msgspec.Raw | msgspec.UnsetType:
    """Return what a command gave back, besides the session, as JSON."""
    return msgspec.UNSET if output is None else msgspec.Raw(_encode(output))


def decode_output(output: msgspec.Raw | msgspec.UnsetType, spec: OutputSpec) -> Any:  # noqa: ANN401 - each command has its own
    """Return the output of a reply, as its command's spec describes it."""
    if output is msgspec.UNSET:
        return spec.absent
    *others, last = spec.types
    for each in others:
        with suppress(msgspec.ValidationError):
            return msgspec.json.decode(output, type=each)
    return msgspec.json.decode(output, type=last)
