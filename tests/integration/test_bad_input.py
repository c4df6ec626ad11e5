"""Bad input: the client refuses it before sending; in the stream it is quarantined, and the worker continues."""

import asyncio
import logging
import math
import random
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from tests.contract.chats import CONFIG, a_session, id_in, texts_of
from tests.contract.deployments import Malformed, client_of
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.waiting import SOON, wait_until

from turnstream import (
    AddMessage,
    AddMessages,
    ChatMessage,
    ChatMessageRole,
    CreateSession,
    DeleteSession,
    ImageContent,
    InvalidCommand,
    RemoveMessages,
    SessionConfig,
    TextContent,
    ToolCallContent,
    Trace,
    Turnstream,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
    user_message,
)
from turnstream.codec.envelope import encode_entry
from turnstream.codec.records import decode_replies, error_of
from turnstream.commands import (
    ChatMessagePatch,
    Command,
    CommandResult,
    GetSession,
    ListSessions,
    SessionConfigPatch,
    SessionPatch,
    TokenMetricsPatch,
)
from turnstream.ports import Backend, CommandEntry, Reply

MIB = 1024 * 1024
NOW = datetime(2026, 11, 1, tzinfo=UTC)
CLIENT = "somebody-else"

# ── from the client ──────────────────────────────────────────────────────────────────────────────────────────────────


def nested(depth: int) -> Any:  # noqa: ANN401 - a free-form value
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


def said(**fields: Any) -> ChatMessage:  # noqa: ANN401 - what no type checker would let pass
    """A message with some fields that no message may have."""
    whole: dict[str, Any] = {"id": "m", "role": ChatMessageRole.USER, "content": (), "created_at": NOW}
    return ChatMessage(**(whole | fields))


def create(**fields: Any) -> CreateSession:  # noqa: ANN401 - as above
    whole: dict[str, Any] = {"provider": "openai", "model": "gpt-4"}
    return CreateSession(SessionConfig(**(whole | fields)))


def with_metadata(value: Any) -> AddMessage:  # noqa: ANN401 - a free-form value
    return AddMessage("s", said(metadata={"a": value}))


def wrong(value: Any) -> Any:  # noqa: ANN401 - what no type checker would let pass
    return value


REFUSED: dict[str, tuple[Command[Any], str]] = {
    "a message of another type": (AddMessage("s", wrong("Hello")), "$.message"),
    "no message": (AddMessage("s", wrong(None)), "$.message"),
    "a session id of another type": (DeleteSession(wrong(5)), "$.sessionId"),
    "no session id": (DeleteSession(wrong(None)), "$.sessionId"),
    "an empty session id": (DeleteSession(""), "$.sessionId"),
    "a long session id": (DeleteSession("x" * 257), "$.sessionId"),
    "a lone surrogate in a session id": (DeleteSession("\udc80"), "$.sessionId"),
    "an empty message id": (UpdateMessage("s", "", updates=ChatMessagePatch()), "$.messageId"),
    "an empty id of a message": (AddMessage("s", said(id="")), "$.message.id"),
    "an unknown role": (AddMessage("s", said(role="robot")), "$.message.role"),
    "text for content": (AddMessage("s", said(content="Hello")), "$.message.content"),
    "a part of no type": (AddMessage("s", said(content=[{"text": "x"}])), "$.message.content[0]"),
    "a part of another type": (AddMessage("s", said(content=[wrong(7)])), "$.message.content[0]"),
    "a number for text": (AddMessage("s", said(content=[TextContent(wrong(7))])), "$.message.content[0].text"),
    "a time without zone": (AddMessage("s", said(created_at=datetime(2026, 1, 1))), "$.message.createdAt"),  # noqa: DTZ001
    "10,000 parts": (AddMessage("s", said(content=[TextContent("x")] * 10_000)), "$.message.content"),
    "10,000 messages": (AddMessages("s", tuple(said(id=str(n)) for n in range(10_000))), "$.messages"),
    "10,000 ids": (RemoveMessages("s", message_ids=tuple(map(str, range(10_000)))), "$.messageIds"),
    "a message twice": (AddMessages("s", (said(), said())), "$.messages[1].id"),
    "over 1 MiB": (AddMessage("s", said(content=[TextContent("x" * MIB)])), "$"),
    "NaN": (with_metadata(math.nan), "$.message.metadata.a"),
    "infinity": (with_metadata([1, math.inf]), "$.message.metadata.a[1]"),
    "minus infinity": (with_metadata({"b": -math.inf}), "$.message.metadata.a.b"),
    "a temperature of NaN": (create(temperature=math.nan), "$.config.temperature"),
    "an infinite temperature": (create(temperature=math.inf), "$.config.temperature"),
    "a negative temperature": (create(temperature=-0.1), "$.config.temperature"),
    "a temperature of another type": (create(temperature="hot"), "$.config.temperature"),
    "an unknown strategy": (create(context_strategy="forget"), "$.config.contextStrategy"),
    "a lone surrogate": (AddMessage("s", said(content=[TextContent("\ud800")])), "$.message.content[0].text"),
    "a lone surrogate in a name": (with_metadata({"\udfff": 1}), "$.message.metadata.a"),
    "a lone surrogate in a prompt": (create(system_prompt="x\udc00"), "$.config.systemPrompt"),
    "nested too deep": (with_metadata(nested(65)), "$.message.metadata.a"),
    "nested far too deep": (with_metadata(nested(100_000)), "$.message.metadata.a"),
    "nested in itself": (with_metadata(cyclic()), "$.message.metadata.a"),
    "an object": (with_metadata(object()), "$.message.metadata.a"),
    "bytes": (with_metadata(b"x"), "$.message.metadata.a"),
    "a set": (with_metadata({"b": {1, 2}}), "$.message.metadata.a.b"),
    "numbers for names": (with_metadata({1: 2}), "$.message.metadata.a"),
    "metadata of another type": (CreateSession(CONFIG, metadata=wrong([1])), "$.metadata"),
    "a negative version": (DeleteSession("s", expected_version=-1), "$.expectedVersion"),
    "negative tokens": (UpdateTokenMetrics("s", prompt_tokens=-1), "$.promptTokens"),
    "negative tokens of an answer": (UpdateTokenMetrics("s", completion_tokens=-1), "$.completionTokens"),
    "half a token": (UpdateTokenMetrics("s", prompt_tokens=wrong(0.5)), "$.promptTokens"),
    "too many tokens": (UpdateTokenMetrics("s", prompt_tokens=10**16), "$.promptTokens"),
    "more cached than sent": (UpdateTokenMetrics("s", prompt_tokens=1, cache_read_tokens=2), "$.promptTokens"),
    "neither ids nor last": (RemoveMessages("s"), "$"),
    "both ids and last": (RemoveMessages("s", message_ids=("m",), last=1), "$"),
    "the last none": (RemoveMessages("s", last=0), "$.last"),
    "a patched temperature": (
        UpdateSession("s", SessionPatch(config=SessionConfigPatch(temperature=math.inf))),
        "$.updates.config.temperature",
    ),
    "a patched window": (
        UpdateSession("s", SessionPatch(metrics=TokenMetricsPatch(max_context_window=0))),
        "$.updates.metrics.maxContextWindow",
    ),
    "a patched role": (UpdateMessage("s", "m", updates=ChatMessagePatch(role=wrong("robot"))), "$.updates.role"),
    "a patch of another type": (UpdateSession("s", wrong({"isActive": "yes"})), "$.updates.isActive"),
    "a limit of none": (ListSessions(limit=0), "$.limit"),
    "a query for nobody": (GetSession(""), "$.sessionId"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_the_client_refuses_it_before_sending(real: EmbeddedDeployment, what: str) -> None:
    client = await client_of(real, worker=False)
    command, path = REFUSED[what]
    before = await real.dump()
    with pytest.raises(InvalidCommand) as invalid:
        await client.execute(command)
    assert names(invalid.value.path, path), invalid.value.path
    assert invalid.value.reason
    for call in (client.send(command), client.send_many([CreateSession(CONFIG), command])):
        with pytest.raises(InvalidCommand, match=re.escape(str(invalid.value))):
            await call
    assert await client.dispatch(command) == CommandResult(success=False, error=str(invalid.value))
    assert await real.dump() == before


def names(path: str, expected: str) -> bool:
    """A value nested too deeply, or in a free-form value, may be named by a part below or by `[...]`."""
    return path == expected or path.startswith((f"{expected}.", f"{expected}[", expected.removesuffix(".a") + "[..."))


ENVELOPES: dict[str, tuple[str, dict[str, Any]]] = {
    "an empty id": ("id", {"command_id": ""}),
    "a long id": ("id", {"command_id": "x" * 257}),
    "an id of many bytes": ("id", {"command_id": "ü" * 200}),
    "an id that is no text": ("id", {"command_id": "\ud800"}),
    "an id of another type": ("id", {"command_id": 7}),
    "a long correlation id": ("correlationId", {"trace": Trace("x" * 257)}),
    "a correlation id that is no text": ("correlationId", {"trace": Trace("\udfff")}),
    "a long trace": ("traceparent", {"trace": Trace(None, "x" * 257)}),
}


@pytest.mark.parametrize("what", ENVELOPES)
async def test_the_client_refuses_bad_envelopes(real: EmbeddedDeployment, what: str) -> None:
    client = await client_of(real, worker=False)
    path, arguments = ENVELOPES[what]
    before = await real.dump()
    with pytest.raises(InvalidCommand) as invalid:
        await client.send(DeleteSession("s"), **arguments)
    assert invalid.value.path == path
    assert await real.dump() == before


async def test_values_at_the_limit_are_accepted(real: EmbeddedDeployment) -> None:
    ts = await client_of(real)
    session = await ts.execute(CreateSession(SessionConfig("p", "m", temperature=1e9), "x" * 256))
    # The command, the message and its metadata are separate levels.
    deep = nested(61)
    right: list[Command[Any]] = [
        AddMessage(session.id, said(metadata={"a": deep}, id="m" * 256)),
        AddMessage(session.id, said(id="n", content=[TextContent("")] * 5_000)),
        AddMessage(session.id, said(id="o", content=[TextContent("x" * (MIB - 1_000))])),
        AddMessage(session.id, said(id="p", metadata={"big": 10**400, "tiny": 5e-324, "": None, "\U0001f600": "\x00"})),
        UpdateTokenMetrics(
            session.id,
            prompt_tokens=10**15,
            completion_tokens=10**15,
            cache_read_tokens=10**14,
            cache_write_tokens=10**14,
            context_tokens=10**15,
        ),
    ]
    for command in right:
        await ts.execute(command, command_id="ü" * 128 if command is right[0] else None)
    messages = await ts.sessions.messages(session.id)
    assert messages[0].metadata == {"a": deep}
    assert messages[3].metadata == {"big": 10**400, "tiny": 5e-324, "": None, "\U0001f600": "\x00"}
    assert await anything_malformed(real) == []


# ── written straight to the stream ───────────────────────────────────────────────────────────────────────────────────

Fields = Mapping[bytes, bytes]
TARGET = id_in(0, 4)
ELSEWHERE = id_in(1, 4)


def entry(kind: bytes = b"add-message", data: bytes = b"{}", **others: bytes) -> Fields:
    whole = {"id": b"bad", "type": kind, "data": data, "replyTo": b"(reply)", **others}
    return {name.encode(): value for name, value in whole.items()}


def without(name: bytes, fields: Fields) -> Fields:
    return {key: value for key, value in fields.items() if key != name}


def addition(message: bytes) -> Fields:
    return entry(data=b'{"sessionId":"%s","message":%s}' % (TARGET.encode(), message))


def a_message(**fields: bytes) -> bytes:
    whole = {"id": b'"m"', "role": b'"user"', "content": b"[]", "createdAt": b'"2026-11-01T00:00:00Z"', **fields}
    return b"{%s}" % b",".join(b'"%s":%s' % (name.encode(), value) for name, value in whole.items())


def noted(value: bytes) -> Fields:
    return addition(a_message(metadata=b'{"a":%s}' % value))


GOOD = addition(a_message())
MALFORMED: dict[str, tuple[Fields, str]] = {
    "not JSON": (entry(data=b"not json"), "Not JSON"),
    "half of it": (entry(data=b'{"sessionId":'), "Not JSON"),
    "two of them": ({**GOOD, b"data": GOOD[b"data"] * 2}, "Not JSON"),
    "an array": (entry(data=b"[]"), "Expected `object`"),
    "a string": (entry(data=b'"x"'), "Expected `object`"),
    "null": (entry(data=b"null"), "Expected `object`"),
    "no UTF-8": (entry(data=b'{"sessionId":"\xff\xfe"}'), "Not JSON"),
    "UTF-16": (entry(data='{"sessionId":"s"}'.encode("utf-16")), "Not JSON"),
    "binary garbage": (entry(data=bytes(range(256)) * 8), "Not JSON"),
    "a NUL": (entry(data=b'{"sessionId":"\x00"}'), "Not JSON"),
    "an unknown type": (entry(kind=b"explode"), "explode"),
    "a type of another case": (entry(kind=b"Add-Message"), "Add-Message"),
    "a binary type": (entry(kind=b"\xff\x00"), "`type`"),
    "an empty type": (entry(kind=b""), "`type`"),
    "a long type": (entry(kind=b"x" * 300), "`type`"),
    "no type": (without(b"type", GOOD), "`type`"),
    "no id": (without(b"id", GOOD), "`id`"),
    "an empty id": ({**GOOD, b"id": b""}, "`id`"),
    "a long id": ({**GOOD, b"id": b"x" * 257}, "`id`"),
    "a binary id": ({**GOOD, b"id": b"\xff"}, "`id`"),
    "a long correlation id": ({**GOOD, b"correlationId": b"x" * 257}, "`correlationId`"),
    "a binary trace": ({**GOOD, b"traceparent": b"\x80"}, "`traceparent`"),
    "no data": (without(b"data", GOOD), "sessionId"),
    "a missing field": (entry(data=b'{"sessionId":"s"}'), "message"),
    "a missing field of a message": (addition(b'{"id":"m"}'), "$.message"),
    "a number for a session id": (entry(data=b'{"sessionId":5,"message":{}}'), "$.sessionId"),
    "text for a message": (addition(b'"Hello"'), "$.message"),
    "an unknown role": (addition(a_message(role=b'"robot"')), "$.message.role"),
    "an unknown part": (addition(a_message(content=b'[{"type":"video"}]')), "$.message.content[0]"),
    "no time": (addition(a_message(createdAt=b'"yesterday"')), "$.message.createdAt"),
    "a time without zone": (addition(a_message(createdAt=b'"2026-11-01T00:00:00"')), "$.message.createdAt"),
    "10,000 parts": (
        addition(a_message(content=b"[%s]" % b",".join([b'{"type":"text","text":""}'] * 10_000))),
        "$.message.content",
    ),
    "over 1 MiB": (noted(b'"%s"' % (b"x" * MIB)), "1048576"),
    "over 1 MiB of space": (entry(data=b" " * (MIB + 1)), "1048576"),
    "NaN": (noted(b"NaN"), "Not JSON"),
    "Infinity": (noted(b"Infinity"), "Not JSON"),
    "minus Infinity": (noted(b"-Infinity"), "Not JSON"),
    "a huge float": (noted(b"1e999"), "out of range"),
    "an endless integer": (noted(b"9" * 100_000), "out of range"),
    "half a token": (entry(b"update-token-metrics", b'{"sessionId":"s","promptTokens":0.5}'), "$.promptTokens"),
    "a lone surrogate": (noted(rb'"\ud800"'), "Not JSON: a lone surrogate"),
    "an encoded lone surrogate": (noted(b'"\xed\xa0\x80"'), "Not JSON"),
    "nested too deep": (noted(b"[" * 65 + b"]" * 65), "deeper"),
    "nested 100,000 deep": (noted(b"[" * 100_000 + b"]" * 100_000), "deeper"),
    "objects 100,000 deep": (noted(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "deeper"),
    "100,000 brackets that never close": (entry(data=b"[" * 100_000), "deeper"),
    "a string that never closes": (entry(data=b'"' + b"\\" * 100_001), "Not JSON"),
    "another partition": (entry(b"delete-session", b'{"sessionId":"%s"}' % ELSEWHERE.encode()), "partition 1"),
    "a channel of events": ({**GOOD, b"replyTo": b"(events)"}, "replyTo"),
    "a channel of another partition": ({**GOOD, b"replyTo": b"(other)"}, "replyTo"),
    "a channel with a wild card": ({**GOOD, b"replyTo": b"(reply)*"}, "replyTo"),
    "a long channel": ({**GOOD, b"replyTo": b"(reply)" + b"x" * 300}, "replyTo"),
    "a binary channel": ({**GOOD, b"replyTo": b"\xff"}, "replyTo"),
    "an empty channel": ({**GOOD, b"replyTo": b""}, "replyTo"),
    "nothing that is known": ({b"hello": b"world"}, "`id`"),
    "binary names": ({b"\xff\x00": b"\x00\xff", b"": b""}, "`id`"),
    "5,000 unknown fields": ({b"f%d" % number: b"x" for number in range(5_000)}, "`id`"),
    "a very long unknown field": ({b"x" * 100_000: b"y" * 2 * MIB}, "`id`"),
}
UNANSWERED = ("`id`", "replyTo")
"""Errors that leave no way to a producer."""


class Stream:
    """The command stream of the target's partition, and a channel on which a client waits for replies."""

    def __init__(self, real: EmbeddedDeployment, backend: Backend, ts: Turnstream) -> None:
        self._real = real
        self._channels = {
            b"(reply)": backend.channels.reply_channel(0, CLIENT),
            b"(other)": backend.channels.reply_channel(1, CLIENT),
            b"(events)": backend.channels.event_channels(["session-created"], None)[0],
        }
        self._backend = backend
        self.reply_channel = self._channels[b"(reply)"]
        self.ts = ts

    async def write(self, fields: Fields) -> str:
        """Write an entry, with the names of channels put in."""
        reply_to = fields.get(b"replyTo")
        for name, channel in self._channels.items():
            reply_to = None if reply_to is None else reply_to.replace(name, channel.encode())
        return await self._real.append(0, fields if reply_to is None else {**fields, b"replyTo": reply_to})

    async def write_between_others(self, fields: Fields) -> str:
        """Write an entry between two valid commands; both must be applied."""
        await self.ts.send(AddMessage(TARGET, user_message("before")))
        entry_id = await self.write(fields)
        after = await self.ts.send(AddMessage(TARGET, user_message("after")), timeout=SOON)
        await after
        return entry_id

    async def replies(self, fields: Fields, *, ask: bool = False) -> list[Reply]:
        """Return the replies to an entry; the last is that to the query after it."""
        listener = await self._backend.channels.subscribe([self._channels[b"(reply)"]])
        await self.write_between_others(fields)
        query = b'{"sessionId":"%s"}' % TARGET.encode()
        await self.write({**entry(b"get-session", query), b"id": b"last"})
        found: list[Reply] = []
        async with asyncio.timeout(SOON):
            async for _, payload in listener:
                found += decode_replies(payload)
                if found[-1].command_id == "last":
                    break
        await listener.aclose()
        return found[:-1]


@pytest.fixture
async def stream(real: EmbeddedDeployment) -> Stream:
    ts = await client_of(real)
    await a_session(ts, session_id=TARGET)
    backend = await real.open()
    real.resources.push_async_callback(backend.aclose)
    return Stream(real, backend, ts)


async def anything_malformed(real: EmbeddedDeployment) -> list[Malformed]:
    return [entry for partition in range(4) for entry in await real.malformed(partition)]


@pytest.mark.parametrize("what", MALFORMED)
async def test_it_is_quarantined_and_the_worker_continues(real: EmbeddedDeployment, stream: Stream, what: str) -> None:
    fields, reason = MALFORMED[what]
    entry_id = await stream.write_between_others(fields)
    (malformed,) = await anything_malformed(real)
    assert malformed.entry_id == entry_id
    assert reason in malformed.error
    assert 0 < len(malformed.fields) <= 50
    assert texts_of(await stream.ts.sessions.messages(TARGET)) == ["before", "after"]
    assert await stream.ts.sessions.count() == 1
    assert await real.backlog(0) == 0


@pytest.mark.parametrize("what", MALFORMED)
async def test_its_producer_is_notified_if_it_has_a_reply_channel(
    real: EmbeddedDeployment, stream: Stream, what: str
) -> None:
    fields, reason = MALFORMED[what]
    replies = await stream.replies(fields)
    if any(name in reason for name in UNANSWERED):
        assert replies == []
        return
    (reply,) = replies
    assert (reply.command_id, reply.status) == ("bad", "rejected")
    assert reply.error is not None
    error = error_of(reply.error)
    assert isinstance(error, InvalidCommand)
    assert str(error) == (await anything_malformed(real))[0].error


async def test_a_forged_channel_receives_nothing(real: EmbeddedDeployment, stream: Stream) -> None:
    async with stream.ts.subscribe() as events:
        for what in ("a channel of events", "a channel of another partition"):
            await stream.write_between_others(MALFORMED[what][0])
        async with asyncio.timeout(SOON):
            assert [(await anext(events)).type for _ in range(4)] == ["message-added"] * 4


RULES: dict[str, tuple[Fields, str]] = {
    "negative tokens": (entry(b"update-token-metrics", b'{"sessionId":"(id)","promptTokens":-1}'), "$.promptTokens"),
    "too many tokens": (
        entry(b"update-token-metrics", b'{"sessionId":"(id)","promptTokens":%d}' % 10**30),
        "$.promptTokens",
    ),
    "an empty session id": (entry(b"delete-session", b'{"sessionId":""}'), "$.sessionId"),
    "an empty session id for a message": (entry(data=b'{"sessionId":"","message":%s}' % a_message()), "$.sessionId"),
    "no session id for a new session": (
        entry(b"create-session", b'{"config":{"provider":"p","model":"m"}}'),
        "$.sessionId",
    ),
    "a negative temperature": (
        entry(b"update-session", b'{"sessionId":"(id)","updates":{"config":{"temperature":-1}}}'),
        "$.updates.config.temperature",
    ),
    "a negative version": (entry(b"delete-session", b'{"sessionId":"(id)","expectedVersion":-1}'), "$.expectedVersion"),
    "an empty message id": (addition(a_message(id=b'""')), "$.message.id"),
    "neither ids nor last": (entry(b"remove-messages", b'{"sessionId":"(id)"}'), "$"),
    "a limit of none": (entry(b"list-sessions", b'{"limit":0}'), "$.limit"),
    "a cursor of nobody's": (entry(b"list-sessions", b'{"cursor":"x"}'), "$.cursor"),
}


@pytest.mark.parametrize("what", RULES)
async def test_a_command_that_breaks_a_rule_is_rejected_not_quarantined(
    real: EmbeddedDeployment, stream: Stream, what: str
) -> None:
    fields, path = RULES[what]
    (reply,) = await stream.replies({**fields, b"data": fields[b"data"].replace(b"(id)", TARGET.encode())})
    assert (reply.command_id, reply.status) == ("bad", "rejected")
    assert reply.error is not None
    error = error_of(reply.error)
    assert isinstance(error, InvalidCommand)
    assert error.path == path
    assert await anything_malformed(real) == []
    assert texts_of(await stream.ts.sessions.messages(TARGET)) == ["before", "after"]


def cursor(updated_ms: str) -> bytes:
    return urlsafe_b64encode(f"{updated_ms}:s".encode())


ODD: dict[str, Fields] = {
    "a huge number in metadata": noted(b"%d" % 10**400),
    "a huge limit of tokens": entry(
        b"update-session", b'{"sessionId":"(id)","updates":{"config":{"maxTokens":%d}}}' % 10**300
    ),
    "a huge version": entry(b"delete-session", b'{"sessionId":"(id)","expectedVersion":%d}' % 10**300),
    "a huge cost": entry(b"update-session", b'{"sessionId":"(id)","updates":{"metrics":{"estimatedCost":1.7e308}}}'),
    "a name twice": addition(a_message(role=b'"robot","role":"user"')),
    "unknown fields": {**GOOD, b"later": b"\xff", b"data": GOOD[b"data"].replace(b"{", b'{"later":[{}],', 1)},
    "5,000 fields": {**{b"f%d" % number: b"x" for number in range(5_000)}, **GOOD},
    "a time long ago": addition(a_message(createdAt=b'"0001-01-01T00:00:00+23:59"')),
    "a time far ahead": addition(a_message(createdAt=b'"9999-12-31T23:59:59.999999-23:59"')),
    "a cursor of another time": entry(b"list-sessions", b'{"cursor":"%s"}' % cursor("-1")),
    "a cursor beyond all numbers": entry(b"list-sessions", b'{"cursor":"%s"}' % cursor("9" * 400)),
    "a query": entry(b"get-session", b'{"sessionId":"(id)","expectedVersion":7}'),
}


@pytest.mark.parametrize("what", ODD)
async def test_odd_requests_are_answered(real: EmbeddedDeployment, stream: Stream, what: str) -> None:
    fields = ODD[what]
    replies = await stream.replies({**fields, b"data": fields[b"data"].replace(b"(id)", TARGET.encode())})
    assert [reply.command_id for reply in replies] == ["bad"]
    assert await real.backlog(0) == 0
    # Whatever was stored can be read, and changed.
    session = await stream.ts.execute(AddMessage(TARGET, user_message("last")))
    assert [text for text in texts_of(session.messages) if text] == ["before", "after", "last"]
    assert await stream.ts.sessions.get(TARGET) == session


# ── queries over the stream ──────────────────────────────────────────────────────────────────────────────────────────


async def test_queries_over_the_stream_are_answered(stream: Stream) -> None:
    (reply,) = await stream.replies(entry(b"get-session", b'{"sessionId":"%s"}' % TARGET.encode()))
    answer: Any = msgspec.json.decode(msgspec.json.encode(reply.output))
    # It comes after the first of the two messages around it.
    assert (reply.status, answer["id"], len(answer["messages"]), answer["version"]) == ("ok", TARGET, 1, 2)
    (reply,) = await stream.replies(entry(b"get-session", b'{"sessionId":"%s"}' % id_in(0, 4).encode()))
    assert (reply.status, msgspec.json.encode(reply.output)) == ("ok", b"null")
    (reply,) = await stream.replies(entry(b"list-sessions", b"{}"))
    answer = msgspec.json.decode(msgspec.json.encode(reply.output))
    assert [info["id"] for info in answer["sessions"]] == [TARGET]


async def test_a_query_for_too_much_names_the_other_way(stream: Stream) -> None:
    for _ in range(3):
        await stream.ts.execute(AddMessage(TARGET, user_message("x" * 400_000)))
    listener = await stream._backend.channels.subscribe([stream._channels[b"(reply)"]])
    await stream.write(entry(b"get-session", b'{"sessionId":"%s"}' % TARGET.encode()))
    async with asyncio.timeout(SOON):
        _, payload = await anext(aiter(listener))
    (reply,) = decode_replies(payload)
    assert reply.error is not None
    assert "ts.sessions.messages" in reply.error.message
    await listener.aclose()


# ── all of it at once ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_many_bad_entries_in_a_row(real: EmbeddedDeployment, stream: Stream) -> None:
    for _ in range(3):
        for fields, _ in MALFORMED.values():
            if sum(map(len, fields.values())) < 10_000:
                await stream.write(fields)
    await (await stream.ts.send(AddMessage(TARGET, user_message("last"))))
    assert texts_of(await stream.ts.sessions.messages(TARGET)) == ["last"]
    await wait_until(lambda: _is_empty(real))


async def _is_empty(real: EmbeddedDeployment) -> bool:
    return await real.backlog(0) == 0


# ── damaged entries ──────────────────────────────────────────────────────────────────────────────────────────────────

Random = random.Random
TOKENS = (
    b"null",
    b"true",
    b"-1",
    b"1e308",
    b"1e999",
    b"9" * 30,
    b"[]",
    b"{}",
    b'""',
    rb'"\ud800"',
    b"[[[[",
    b'"',
    b",",
)


def damaged_bytes(chance: Random, value: bytes) -> bytes:
    """Flip a bit, remove bytes, double some, put a token in, or put it in place of some."""
    start, end = sorted(chance.randrange(len(value) + 1) for _ in range(2))
    end = min(end, start + 20)
    if start < len(value) and chance.random() < 0.2:
        return value[:start] + bytes([value[start] ^ 1 << chance.randrange(8)]) + value[start + 1 :]
    middle = chance.choice([b"", value[start:end] * 2, chance.choice(TOKENS), chance.randbytes(4), b"\x00"])
    return value[:start] + middle + value[end if chance.random() < 0.7 else start :]


def damaged(chance: Random, originals: list[dict[bytes, bytes]]) -> dict[bytes, bytes]:
    fields = dict(chance.choice(originals))
    name, other = chance.choice(list(fields)), chance.choice(list(fields))
    match chance.randrange(10):
        case 0:
            del fields[name]
        case 1:
            fields[name], fields[other] = fields[other], fields[name]
        case 2:
            fields[name] = chance.choice(originals)[b"type"]
        case 3:
            fields[damaged_bytes(chance, name)] = fields.pop(name)
        case 4:
            fields[name] = damaged_bytes(chance, fields[name])
        case _:
            for _ in range(chance.randrange(1, 4)):
                fields[b"data"] = damaged_bytes(chance, fields[b"data"])
    return fields


def originals(session_id: str, reply_to: str) -> list[dict[bytes, bytes]]:
    """The fields that a client writes for every command."""
    parts = [
        TextContent("ü"),
        ImageContent(url="https://example.org"),
        ToolCallContent(tool_call_id="t", name="n", args={"a": [1, None]}),
    ]
    config = SessionConfig(
        "openai",
        "gpt-4",
        system_prompt="Be brief.",
        temperature=0.5,
        max_tokens=7,
        context_strategy="truncate",
        tools=("a",),
        provider_options={"b": None},
    )
    patch = SessionPatch(
        config=SessionConfigPatch(provider="a", model="b"),
        metrics=TokenMetricsPatch(prompt_tokens=1),
        messages=(said(),),
        is_active=False,
    )
    commands: list[Command[Any]] = [
        CreateSession(config, session_id, metadata={"user": "me"}),
        AddMessage(session_id, said(content=parts)),
        AddMessages(session_id, (said(id="n"), said(id="o", metadata={"deep": nested(40)}))),
        AddMessage(session_id, said(id="p"), expected_version=2),
        UpdateMessage(session_id, "m", updates=ChatMessagePatch(content=(TextContent("x"),), metadata=None)),
        UpdateSession(session_id, patch),
        RemoveMessages(session_id, message_ids=("n", "o")),
        RemoveMessages(session_id, last=3),
        UpdateTokenMetrics(
            session_id,
            prompt_tokens=1_000,
            completion_tokens=2_000,
            cache_read_tokens=3,
            cache_write_tokens=4,
            context_tokens=5,
        ),
        DeleteSession(session_id),
        GetSession(session_id),
        ListSessions(limit=10, cursor=None, provider="openai", model="gpt-4", is_active=True),
    ]
    return [written(f"original-{number}", command, reply_to) for number, command in enumerate(commands)]


def written(command_id: str, command: Command[Any], reply_to: str | None = None) -> dict[bytes, bytes]:
    data = msgspec.json.encode(command)
    words = encode_entry(CommandEntry(command_id, command.type, data, reply_to, "correlation", "00-1-2-03"))
    raw = [word if isinstance(word, bytes) else word.encode() for word in words]
    return dict(zip(raw[::2], raw[1::2], strict=True))


@pytest.mark.parametrize("seed", range(4))
async def test_damaged_entries_stop_nothing(
    real: EmbeddedDeployment, stream: Stream, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    """Between them are valid commands, all of which must be applied in their order."""
    chance = Random(seed)
    victim = id_in(0, 4)
    sources = originals(victim, stream.reply_channel)
    entries: list[dict[bytes, bytes]] = []
    for number in range(1_000):
        fields = damaged(chance, sources)
        if fields.get(b"id", b"").startswith(b"original"):
            fields[b"id"] = b"damaged-%d" % number
        entries += (fields, written(f"valid-{number}", AddMessage(TARGET, user_message(str(number)))))
    await write_all(real, entries)
    await (await stream.ts.send(AddMessage(TARGET, user_message("last")), timeout=SOON))
    expected = [*map(str, range(1_000)), "last"]
    assert texts_of(await stream.ts.sessions.messages(TARGET)) == expected
    # A worker that met a bug would say so.
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert len(await real.malformed(0)) > 300


async def write_all(real: EmbeddedDeployment, entries: list[dict[bytes, bytes]]) -> None:
    writing = real.raw.pipeline(transaction=False)
    for fields in entries:
        words = [word for pair in fields.items() for word in pair]
        writing.execute_command("XADD", real.keys.partitions[0].commands, "*", *words)
    await writing.execute()
