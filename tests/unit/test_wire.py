"""`turnstream.wire`: what services and bridges need of the wire format, and the meaning of each error."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.given import message
from tests.unit.test_codec_events import ADDED

from turnstream import errors, wire
from turnstream.domain.commands import AddMessage, DeleteSession, RedriveParked
from turnstream.errors import InvalidCommand, Rejected, SessionNotFound, TurnstreamError, Unavailable
from turnstream.ports import Rejection, Reply

SERVICES = Path(__file__).parents[2] / "services"
PUBLIC = {
    *("turnstream.admin", "turnstream.commands", "turnstream.errors", "turnstream.events", "turnstream.logging"),
    *("turnstream.messages", "turnstream.process", "turnstream.settings", "turnstream.sync", "turnstream.testing"),
    *("turnstream.wire", "turnstream.backoff"),
}
"""The modules of the library that a service may import, besides the package itself."""
EXCEPTIONS = {
    "turnstream.adapters.embedded": "the embedded server of `turnstream dev` and `demo`",
    "turnstream.adapters.redis.backend": "the worker process counts its connections itself",
    "turnstream.adapters.redis.deployment.migration": "`turnstream migrate`",
    "turnstream.adapters.redis.deployment.roles": "`turnstream acl`",
    "turnstream.adapters.redis.deployment.setup": "`turnstream setup`",
    "turnstream.catalogue": "the worker process loads the catalogue as a client does",
    "turnstream.client.consumers.handler_calls": "the relay asks whether a delivery is a retry",
    "turnstream.client.subscriptions.start": "times of the command line, such as 1h",
    "turnstream.client.subscriptions.tasks": "the relay ends its tasks",
    "turnstream.domain.commands": "the command line asks whether a command is a query",
    "turnstream.worker.worker": "the worker process",
}
"""What services import besides, and for what."""


def kinds(root: type[TurnstreamError]) -> Iterator[type[TurnstreamError]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def test_every_public_error_has_a_meaning() -> None:
    assert set(wire.ERRORS) == {kind for kind in kinds(TurnstreamError) if kind.__module__.startswith(errors.__name__)}


@pytest.mark.parametrize("kind", wire.ERRORS, ids=lambda kind: kind.__name__)
def test_codes_and_retries_agree_with_the_class(kind: type[TurnstreamError]) -> None:
    info = wire.ERRORS[kind]
    assert info.retryable == issubclass(kind, Unavailable)
    assert 400 <= info.http_status < 600
    assert (info.http_status >= 500) or not info.retryable
    if issubclass(kind, Rejected):
        assert info.code == kind.code


def test_codes_are_unique() -> None:
    assert len({info.code for info in wire.ERRORS.values()}) == len(wire.ERRORS)


def test_a_later_class_means_what_its_base_class_does() -> None:
    class Newer(SessionNotFound):
        """Of a later version."""

    assert wire.error_info(Newer("s")) == wire.ERRORS[SessionNotFound]
    line = json.loads(wire.encode_error(Newer("s")))
    assert (line["error"], line["code"], line["retryable"]) == ("Newer", "session-not-found", False)


def test_a_command_comes_back_by_its_type() -> None:
    for command in (AddMessage("s", message("m1")), RedriveParked(session_id="s")):
        data = wire.encode_command(command)
        assert "type" not in json.loads(data)
        assert wire.decode_command(command.type, data) == command


def test_a_command_is_checked_as_by_a_worker() -> None:
    with pytest.raises(InvalidCommand, match="sessionId"):
        wire.encode_command(DeleteSession(""))
    with pytest.raises(InvalidCommand, match="at most 5 bytes"):
        wire.decode_command("delete-session", b'{"sessionId":"s"}', max_bytes=5)


def test_an_event_comes_back_and_a_later_type_is_none() -> None:
    payload = wire.encode_event(ADDED)
    assert wire.decode_event(payload) == ADDED
    assert wire.decode_event(payload.replace(b"message-added", b"message-eaten")) is None


def test_a_reply_comes_back_with_its_error() -> None:
    reply = Reply("c1", "rejected", error=Rejection("session-not-found", "No session", {"session_id": "s"}))
    (again,) = wire.decode_replies(wire.encode_replies([reply]))
    assert again == reply
    assert again.error
    assert isinstance(wire.error_of(again.error), SessionNotFound)


def test_services_import_public_modules() -> None:
    imported = {
        node.module
        for path in SERVICES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("turnstream.")
    }
    assert imported - PUBLIC == EXCEPTIONS.keys()
