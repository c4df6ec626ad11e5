"""The fields of a stream entry: a producer's, and any that another program may have written."""

import asyncio
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from tests.unit.given import ids, texts, unhurried
from tests.waiting import SOON

from turnstream import Trace, Turnstream
from turnstream.codec.envelope import MAX_APPLY_WITHIN_MS, decode_entry, encode_entry
from turnstream.domain.commands import GetSession
from turnstream.errors import InvalidCommand
from turnstream.ports import CommandEntry

entries = st.builds(
    CommandEntry,
    command_id=ids,
    type=ids,
    data=st.binary(min_size=1),
    reply_to=st.none() | texts,
    correlation_id=st.none() | texts,
    traceparent=st.none() | texts,
    wants_position=st.booleans(),
    apply_within_ms=st.none() | st.integers(0, MAX_APPLY_WITHIN_MS),
)


def written(entry: CommandEntry) -> dict[bytes, bytes]:
    words = [word if isinstance(word, bytes) else word.encode() for word in encode_entry(entry)]
    return dict(zip(words[::2], words[1::2], strict=True))


@unhurried
@for_all(entries)
def test_an_entry_comes_back_as_it_was(entry: CommandEntry) -> None:
    assert decode_entry(written(entry)) == entry


def test_the_names_of_the_fields() -> None:
    optional = ("ts:0:reply:c", "request-1", "00-1-2-01")
    whole = CommandEntry("c1", "add-message", b"{}", *optional, wants_position=True, apply_within_ms=5)
    names = {b"id", b"type", b"data", b"replyTo", b"correlationId", b"traceparent", b"place", b"applyWithin"}
    assert written(whole).keys() == names
    assert written(CommandEntry("c1", "add-message", b"{}")).keys() == {b"id", b"type", b"data"}


def test_unknown_fields_are_ignored() -> None:
    assert decode_entry({b"id": b"c1", b"type": b"t", b"data": b"{}", b"priority": b"1"}) == CommandEntry(
        "c1", "t", b"{}"
    )


@pytest.mark.parametrize("fields", [{}, {b"data": b""}])
def test_no_data_is_an_empty_object(fields: dict[bytes, bytes]) -> None:
    assert decode_entry({b"id": b"c1", b"type": b"list-sessions", **fields}).data == b"{}"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "id"),
        ({b"type": b"t"}, "id"),
        ({b"id": b"", b"type": b"t"}, "id"),
        ({b"id": b"c1"}, "type"),
        ({b"id": b"c1", b"type": b""}, "type"),
        ({b"id": b"\xff", b"type": b"t"}, "id"),
        ({b"id": b"x" * 257, b"type": b"t"}, "id"),
        ({b"id": b"c1", b"type": b"x" * 257}, "type"),
        ({b"id": b"c1", b"type": b"t", b"replyTo": b"x" * 257}, "replyTo"),
        ({b"id": b"c1", b"type": b"t", b"correlationId": b"\xed\xa0\x80"}, "correlationId"),
        ({b"id": b"c1", b"type": b"t", b"traceparent": b"x" * 257}, "traceparent"),
    ],
)
def test_a_field_that_cannot_be_read_is_named(fields: dict[bytes, bytes], path: str) -> None:
    with pytest.raises(InvalidCommand) as caught:
        decode_entry(fields)
    assert caught.value.path == path


def test_256_bytes_are_not_too_long() -> None:
    entry = CommandEntry("c" * 256, "t" * 256, b"{}", "r" * 256, "i" * 256, "p" * 256)
    assert decode_entry(written(entry)) == entry


# ── the client refuses an envelope that a worker could not read: it would never be answered ──────────────────────────


UNREADABLE = pytest.mark.parametrize(
    "text", ["x" * 257, "\u00e9" * 129, "\ud800"], ids=["too long", "too many bytes", "surrogate"]
)


async def refused(**envelope: Any) -> None:  # noqa: ANN401 - arguments of `send`
    async with asyncio.timeout(SOON), Turnstream.in_memory() as ts:
        with pytest.raises(InvalidCommand):
            await ts.send(GetSession("s"), **envelope)


@UNREADABLE
async def test_the_client_refuses_a_command_id(text: str) -> None:
    await refused(command_id=text)


async def test_the_client_refuses_an_empty_command_id() -> None:
    await refused(command_id="")


@UNREADABLE
@pytest.mark.parametrize("field", ["correlation_id", "traceparent"])
async def test_the_client_refuses_a_trace(field: str, text: str) -> None:
    await refused(trace=Trace(**{field: text}))
