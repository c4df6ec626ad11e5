"""Replies: a rejection is raised at the producer as it was decided at the worker."""

from typing import Any, cast

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from tests.unit.given import arbitrary, message, unhurried

from turnstream import errors
from turnstream.codec.records import (
    decode_output,
    decode_replies,
    encode_output,
    encode_replies,
    error_of,
    rejection_of,
)
from turnstream.domain.command_specs import COMMAND_SPECS, OutputSpec
from turnstream.domain.commands import DeleteSession, RemovedMessage, RemoveMessages
from turnstream.domain.models import ChatMessage
from turnstream.errors import Rejected
from turnstream.ports import Rejection, Reply

REMOVED, DELETED = (cast("OutputSpec", COMMAND_SPECS[command].output) for command in (RemoveMessages, DeleteSession))

REJECTIONS: list[Rejected] = [
    errors.InvalidCommand("$.message.role", "Invalid enum value 'robot'"),
    errors.SessionNotFound("s"),
    errors.SessionAlreadyExists("s"),
    errors.MessageNotFound("s", "m1"),
    errors.MessageAlreadyExists("s", "m1"),
    errors.VersionConflict("s", 2**70, 3),
    errors.DuplicateMismatch("c1"),
    errors.ParkedQueueFull("s", "10 commands"),
    errors.CommandDiscarded("s", "c1"),
    errors.CommandExpired("s", "c1", 5_000),
]


def test_every_rejection_is_tried_here() -> None:
    assert {type(error) for error in REJECTIONS} == set(Rejected.__subclasses__())


def test_every_rejection_has_its_own_code() -> None:
    assert len({error.code for error in REJECTIONS} | {Rejected.code}) == len(REJECTIONS) + 1


@pytest.mark.parametrize("error", REJECTIONS, ids=lambda error: error.code)
def test_a_rejection_comes_back_with_its_class_its_fields_and_its_message(error: Rejected) -> None:
    sent = msgspec.json.encode(rejection_of(error))
    again = error_of(msgspec.json.decode(sent, type=Rejection))
    assert (type(again), str(again), again.fields) == (type(error), str(error), error.fields)


def test_the_code_of_a_later_version_is_a_plain_rejection() -> None:
    error = error_of(Rejection("session-locked", "The session is locked", {"until": 5}))
    assert (type(error), str(error)) == (Rejected, "The session is locked")


@pytest.mark.parametrize("fields", [{"session_id": "s", "hint": "was deleted"}, {}])
def test_a_rejection_with_other_fields_than_this_versions_is_still_one(fields: dict[str, Any]) -> None:
    """Unknown fields on the wire are ignored (rolling upgrades, design §9)."""
    error = error_of(Rejection("session-not-found", "Session not found with ID: s", fields))
    assert isinstance(error, Rejected)
    assert str(error) == "Session not found with ID: s"


def test_replies_are_coalesced() -> None:
    replies = (
        Reply("c1", "ok", 7),
        Reply("c2", "rejected", 7, rejection_of(errors.SessionNotFound("s"))),
        Reply("c3", "ok", 8, output=msgspec.Raw(b"true")),
    )
    payload = encode_replies(replies)
    assert payload.startswith(b'[{"commandId":"c1","status":"ok","version":7},')
    assert encode_replies(decode_replies(payload)) == payload
    assert [(reply.command_id, reply.error) for reply in decode_replies(payload)] == [
        (reply.command_id, reply.error) for reply in replies
    ]


def test_fields_that_a_later_version_has_added_to_replies_are_ignored() -> None:
    assert decode_replies(b'[{"commandId":"c1","status":"ok","version":7,"shard":3}]') == (Reply("c1", "ok", 7),)


# ── what a command gives back besides the session ────────────────────────────────────────────────────────────────────


@unhurried
@for_all(st.lists(arbitrary(ChatMessage), max_size=3).map(tuple) | st.lists(arbitrary(RemovedMessage)).map(tuple))
def test_removed_messages_come_back_as_they_were(removed: tuple[ChatMessage | RemovedMessage, ...]) -> None:
    assert decode_output(encode_output(removed), REMOVED) == removed


@pytest.mark.parametrize("flag", [True, False])
def test_a_flag_comes_back_as_it_was(flag: bool) -> None:
    assert decode_output(encode_output(flag), DELETED) is flag


def test_nothing_given_back_is_nothing() -> None:
    assert encode_output(None) is msgspec.UNSET
    assert decode_output(msgspec.UNSET, REMOVED) == ()
    assert decode_output(msgspec.UNSET, DELETED) is False


def test_no_messages_are_not_nothing() -> None:
    assert encode_output(()) == msgspec.Raw(b"[]")
    assert decode_output(encode_output((message("m1"), message("m2"))), REMOVED) == (message("m1"), message("m2"))
