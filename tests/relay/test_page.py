"""docs/relay.md is true: its files load, its receiver takes deliveries, its messages are sent as documented."""

import json
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from tests.contract.chats import CONFIG
from tests.contract.hearing import take_one
from tests.integration.test_readme import ROOT, blocks
from tests.relay.conftest import MakeEndpoint, relaying
from tests.relay.receiver import Received, Receiver
from tests.waiting import wait_until

from turnstream import AddMessage, CreateSession, DeleteSession, ResyncRequired, Turnstream, user_message
from turnstream.domain.position import LogPosition, Position
from turnstream.events import SessionDeleted
from turnstream_relay.configuration import Endpoint, load_configuration
from turnstream_relay.messages import message_of, ping
from turnstream_relay.poster import GZIP_ABOVE
from turnstream_relay.signatures import new_secret

PAGE = ROOT / "docs" / "relay.md"


def examples() -> Iterator[Any]:
    return (json.loads(block.text) for block in blocks(PAGE, "json"))


# ── the file ──


@pytest.mark.parametrize("text", [block.text for block in blocks(PAGE, "toml")])
def test_the_files_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for name in re.findall(r'file = "(.+?)"', text):
        (tmp_path / name).write_text(new_secret())
    for name in re.findall(r'env = "(.+?)"', text):
        monkeypatch.setenv(name, new_secret())
    (tmp_path / "relay.toml").write_text(text)
    assert load_configuration(tmp_path / "relay.toml").endpoints


def test_the_settings_are_listed_with_their_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\|", PAGE.read_text(), re.MULTILINE)
    fields = Endpoint.model_fields.items()
    told = {name: default.strip("`") for name, default in rows}
    assert told == {name: "" if field.is_required() else shown(field.default) for name, field in fields}


def shown(default: object) -> str:
    return "none" if default in (None, ()) else msgspec.json.encode(default).decode()


# ── the receiver ──


class Documented(Receiver):
    """Takes what the example on the page takes."""

    def __init__(self, secret: str, names: Mapping[str, Any]) -> None:
        super().__init__(secret=secret)
        self.names = names

    def _verified(self, headers: Mapping[str, str], content: bytes) -> Received | None:
        taken = self.names["receive"](headers, content) == HTTPStatus.NO_CONTENT
        return Received(headers, {}, 1) if taken else None


@pytest.fixture
def documented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Documented]:
    names: dict[str, Any] = {}
    secret = new_secret()
    monkeypatch.setenv("BILLING_SECRET", secret)
    monkeypatch.chdir(tmp_path)
    for block in blocks(PAGE, "python"):
        exec(compile("\n" * block.line + block.text, block.page, "exec"), names)  # noqa: S102 - our own examples
    yield Documented(secret, names)
    names["db"].close()


async def test_the_receiver_takes_each_event_once(
    ts: Turnstream, endpoint: MakeEndpoint, documented: Documented
) -> None:
    inbox = documented.names["db"]
    async with documented.serving():
        hooks = endpoint(documented)
        await ts.execute(CreateSession(CONFIG, "a"))
        await ts.execute(AddMessage("a", user_message("long" * GZIP_ABOVE)))
        async with relaying(ts, hooks=hooks) as relay:
            (delivery,) = relay
            await wait_until(lambda: delivery.delivered == 2)
            await ts.admin.consumers.reset("relay.hooks", "beginning")
            await wait_until(lambda: delivery.delivered == 4)
    events = [json.loads(event) for (event,) in inbox.execute("SELECT event FROM inbox")]
    assert [event["type"] for event in events] == ["session-created", "message-added"]
    assert documented.names["is_newer"](events[1], events[0])
    assert not documented.names["is_newer"](events[0], events[0])


async def test_the_receiver_takes_nothing_from_others(
    ts: Turnstream, endpoint: MakeEndpoint, documented: Documented
) -> None:
    async with documented.serving():
        documented.secret = new_secret()
        await ts.execute(CreateSession(CONFIG, "a"))
        async with relaying(ts, hooks=endpoint(documented)) as relay:
            (delivery,) = relay
            await wait_until(lambda: delivery.retried > 0)
    assert delivery.delivered == 0
    assert list(documented.names["db"].execute("SELECT * FROM inbox")) == []


# ── the messages ──


async def test_an_event_is_as_documented(ts: Turnstream) -> None:
    async with ts.subscribe(SessionDeleted) as events:
        await ts.execute(CreateSession(CONFIG, "a"))
        await ts.execute(DeleteSession("a"))
        sent = json.loads(message_of(await take_one(events)).body)
    example, _, _ = examples()
    assert example["type"] == sent["type"]
    assert shape(example) == shape(sent)


def test_a_gap_is_reported_as_documented() -> None:
    _, example, _ = examples()
    data = example["data"]
    seen, resumed = (LogPosition(data[name]["generation"], data[name]["sequence"]) for name in ("seen", "resumed"))
    gap = ResyncRequired(
        partition=29, reason="retention", lost=38, seen=seen, resumed=resumed, position=Position((resumed,))
    )
    assert json.loads(message_of(gap).body) == example


def test_a_ping_is_as_documented() -> None:
    *_, example = examples()
    sent = json.loads(ping().body)
    assert shape(example) == shape(sent)
    assert (example["type"], example["data"], example["id"][:5]) == (sent["type"], sent["data"], sent["id"][:5])


def shape(value: object) -> object:
    """Return what is left of JSON without its values."""
    if not isinstance(value, dict):
        return type(value).__name__
    return {name: shape(each) for name, each in cast("dict[str, object]", value).items()}


# ── the log ──


def test_log_messages_to_watch_for_are_logged() -> None:
    watched = re.search(r"Worth an alarm each time:(.+?)\n\n", PAGE.read_text(), re.DOTALL)
    assert watched
    messages = [" ".join(message.split()) for message in re.findall(r"`([^`]+)`", watched[1])]
    source = "".join(path.read_text() for folder in ("shared", "services") for path in (ROOT / folder).rglob("*.py"))
    assert [message for message in messages if f'"{message}"' not in source] == []
