"""Replies and rejections: how a producer learns what became of its command (design §10)."""

from collections.abc import Sequence

import msgspec

from turnstream import errors
from turnstream.domain.commands import QueueProgress, RemovedMessage
from turnstream.domain.decision import CommandOutput
from turnstream.domain.models import ChatMessage
from turnstream.ports import Rejection, Reply

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
    """What a worker tells all clients of a partition: so many commands were taken from its stream by others."""

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


def decode_removed(output: msgspec.Raw | msgspec.UnsetType) -> tuple[ChatMessage | RemovedMessage, ...]:
    """Return the messages that a `remove-messages` took away, whole or by their ids."""
    if output is msgspec.UNSET:
        return ()
    try:
        return msgspec.json.decode(output, type=tuple[ChatMessage, ...])
    except msgspec.ValidationError:
        return msgspec.json.decode(output, type=tuple[RemovedMessage, ...])


def decode_flag(output: msgspec.Raw | msgspec.UnsetType) -> bool:
    """Return whether a `delete-session` deleted something."""
    return output is not msgspec.UNSET and msgspec.json.decode(output, type=bool)


def decode_progress(output: msgspec.Raw | msgspec.UnsetType) -> QueueProgress:
    """Return what a redrive or a discarding has done."""
    return QueueProgress(0, 0) if output is msgspec.UNSET else msgspec.json.decode(output, type=QueueProgress)
