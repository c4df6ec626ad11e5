"""Examples of replies: those of the recording, and those that would take an accident to record."""

from functools import cache
from itertools import chain

import msgspec

from tools.asyncapi.recording import recording
from tools.asyncapi.story import SESSION, command_id
from turnstream.codec.records import decode_replies, encode_replies, rejection_of
from turnstream.errors import CommandDiscarded, CommandExpired, InvalidCommand, ParkedQueueFull, Rejected
from turnstream.ports import Rejection, Reply

_PARKED = command_id(21)


class ReplyExample(msgspec.Struct, frozen=True):
    """One message on a reply channel, and what it shows."""

    name: str
    tells: str
    payload: bytes


def _rejected(name: str, tells: str, error: Rejected) -> ReplyExample:
    reply = Reply(_PARKED, "rejected", error=rejection_of(error))
    return ReplyExample(name, tells, encode_replies([reply]))


_RARE = (
    _rejected(
        InvalidCommand.code,
        "The command cannot be read or breaks a rule; `path` says where.",
        InvalidCommand("$.promptTokens", "Expected a number of at least 0, got -1"),
    ),
    ReplyExample("parked", "The session waits for an operator.", encode_replies([Reply(_PARKED, "parked", 0)])),
    _rejected(ParkedQueueFull.code, "Too much waits there already.", ParkedQueueFull(SESSION, "10,000 commands")),
    _rejected(
        CommandDiscarded.code,
        "The second outcome of a parked command, when an operator has taken it away.",
        CommandDiscarded(SESSION, _PARKED),
    ),
    _rejected(
        CommandExpired.code,
        "No worker came to the command within the time that its field `applyWithin` gave it.",
        CommandExpired(SESSION, _PARKED, 5_000),
    ),
)


def reply_examples() -> list[ReplyExample]:
    """Return all examples."""
    recorded = (
        ReplyExample(
            " and ".join(step.name for step in told.steps),
            " ".join(step.tells for step in told.steps),
            told.payload,
        )
        for told in recording().replies
    )
    return [*recorded, *_RARE]


@cache
def rejections() -> dict[str, Rejection]:
    """Return one rejection of each code."""
    replies = chain.from_iterable(decode_replies(example.payload) for example in reply_examples())
    return {reply.error.code: reply.error for reply in replies if reply.error}
