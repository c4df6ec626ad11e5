"""`evolve`: the effect of each event, and that the fold of the events is the session, whatever the commands were."""

from typing import Any

import msgspec
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.given import (
    AT,
    CATALOGUE,
    FRESH,
    LATER,
    SMALL,
    Happening,
    Story,
    added,
    commands_on_one_session,
    config_updated,
    created,
    critical,
    deleted,
    given,
    measured,
    message,
    message_updated,
    removed,
    unhurried,
    updated,
)

from turnstream.domain.command_specs import decide
from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    ChangingCommand,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    UpdateMessage,
    UpdateSession,
)
from turnstream.domain.content import TextContent
from turnstream.domain.evolution import evolve_header, fold
from turnstream.domain.handlers import Context, EventFactory
from turnstream.domain.models import ChatMessage, SessionConfig, SessionHeader
from turnstream.domain.patches import ChatMessagePatch, SessionConfigPatch, SessionPatch
from turnstream.errors import Rejected


def header(*happenings: Happening) -> SessionHeader:
    known = given(*happenings).header
    assert known is not None
    return known


# ── one event ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_creation_makes_the_header() -> None:
    assert header(created(messages=(message("m1"),), metadata={"a": 1})) == SessionHeader(
        id="s",
        incarnation="c1",
        version=1,
        config=SMALL,
        metrics=FRESH,
        message_count=1,
        next_position=1,
        created_at=AT,
        updated_at=AT,
        is_active=True,
        metadata={"a": 1},
    )


def test_counts_and_positions_follow_the_messages() -> None:
    happenings = [created(), added("m1"), added("m2"), removed("m1"), added("m3"), updated(messages=(message("m4"),))]
    steps = [header(*happenings[: count + 1]) for count in range(len(happenings))]
    assert [(step.message_count, step.next_position) for step in steps] == [
        *((0, 0), (1, 1), (2, 2), (1, 2), (2, 3), (1, 4))
    ]


def test_every_change_moves_the_version_and_the_time() -> None:
    changes = [added("m1"), message_updated("m1", ChatMessagePatch()), updated(), measured(FRESH), removed("m1")]
    before = header(created(), added("m1"))
    for change in changes:
        after = evolve_header(before, change(EventFactory("s", "c1", 7, LATER)))
        assert after is not None
        assert (after.version, after.updated_at, after.created_at) == (7, LATER, AT)


def test_informational_events_change_nothing() -> None:
    before = header(created())
    for telling in (config_updated(temperature=0.5), critical(0.9, 1_000, crossed=True)):
        assert evolve_header(before, telling(EventFactory("s", "c1", 2, LATER))) == before


def test_a_deletion_leaves_nothing() -> None:
    story = given(created(), added("m1"), deleted())
    assert (story.header, story.session) == (None, None)
    assert fold(story.past) is None


def test_a_session_that_is_created_again_has_none_of_the_old_messages() -> None:
    story = given(created(), added("m1"), deleted(), created(), added("m2"))
    assert fold(story.past) == story.session
    assert story.session is not None
    assert [each.id for each in story.session.messages] == ["m2"]
    assert (header(created(), deleted(), created()).incarnation, story.session.version) == ("c3", 2)


def test_the_fold_of_nothing_is_nothing() -> None:
    assert fold([]) is None


def test_events_are_not_changed_by_later_commands() -> None:
    story = given(created(messages=(message("m1"),)), message_updated("m1", ChatMessagePatch(metadata={"a": 1})))
    assert story.past == given(created(messages=(message("m1"),))).past + story.past[1:]


# ── any commands, against the contract's repository written down in the simplest way ──────────────────────────────────


class Repository:
    """The contract's repository, in memory (docs/contract.md, Repository); a refusal is a ValueError."""

    def __init__(self) -> None:
        self.session: dict[str, Any] | None = None

    def handle(self, command: ChangingCommand) -> None:
        version = self.session["version"] if self.session else 0
        match command:
            case CreateSession():
                self._refuse(self.session is not None or command.expected_version not in (None, version))
                self.session = self._created(command.config, command.metadata)
            case DeleteSession():
                self._refuse(command.expected_version not in (None, version))
                self.session = None
            case _:
                self._refuse(self.session is None or command.expected_version not in (None, version))
                if self._changed(self.session or {}, command):
                    self.session = {**(self.session or {}), "version": version + 1}

    def _created(self, config: SessionConfig, metadata: dict[str, Any] | None) -> dict[str, Any]:
        prompt = config.system_prompt
        messages = [("prompt", prompt, None)] if prompt else []
        return {"version": 1, "config": config, "active": True, "metadata": metadata, "messages": messages}

    def _changed(self, session: dict[str, Any], command: ChangingCommand) -> bool:
        messages: list[tuple[str, str, Any]] = session["messages"]
        ids = [message_id for message_id, _, _ in messages]
        match command:
            case UpdateSession(updates=updates):
                self._update(session, updates)
            case AddMessage(message=new):
                return self._add(session, [new])
            case AddMessages(messages=new):
                return self._add(session, list(new))
            case UpdateMessage(message_id=message_id, updates=updates):
                self._refuse(message_id not in ids)
                at = ids.index(message_id)
                kept = messages[at]
                metadata = kept[2] if updates.metadata is msgspec.UNSET else updates.metadata
                session["messages"] = [*messages[:at], (kept[0], kept[1], metadata), *messages[at + 1 :]]
            case RemoveMessages():
                gone = ids[-command.last :] if command.last else list(command.message_ids or ())
                self._refuse(not set(gone) <= set(ids))
                session["messages"] = [each for each in messages if each[0] not in gone]
                return bool(gone)
            case _:
                pass
        return True

    def _add(self, session: dict[str, Any], new: list[ChatMessage]) -> bool:
        self._refuse(bool({each.id for each in new} & {message_id for message_id, _, _ in session["messages"]}))
        session["messages"] = [*session["messages"], *map(_plain, new)]
        return bool(new)

    def _update(self, session: dict[str, Any], updates: SessionPatch) -> None:
        if isinstance(updates.config, SessionConfigPatch):
            wanted = {name: getattr(updates.config, name) for name in ("model", "temperature")}
            config = {name: value for name, value in wanted.items() if value is not msgspec.UNSET}
            session["config"] = replace(session["config"], **config)
        if updates.messages is not msgspec.UNSET:
            session["messages"] = list(map(_plain, updates.messages))
        if updates.is_active is not msgspec.UNSET:
            session["active"] = updates.is_active
        if updates.metadata is not msgspec.UNSET:
            session["metadata"] = updates.metadata

    def _refuse(self, refused: bool) -> None:
        if refused:
            raise ValueError


def _plain(body: ChatMessage) -> tuple[str, str, Any]:
    part = body.content[0]
    assert isinstance(part, TextContent)
    return ("prompt" if body.role == "system" else body.id), part.text, body.metadata


def _seen(story: Story) -> dict[str, Any] | None:
    session = story.session
    if session is None:
        return None
    return {
        "version": session.version,
        "config": session.config,
        "active": session.is_active,
        "metadata": session.metadata,
        "messages": list(map(_plain, session.messages)),
    }


@unhurried
@for_all(st.lists(commands_on_one_session, max_size=12))
def test_any_commands_lead_where_the_repository_of_the_spec_would(commands: list[ChangingCommand]) -> None:
    story, repository = Story(), Repository()
    for number, command in enumerate([CreateSession(SMALL, "s"), *commands]):
        refused = False
        try:
            repository.handle(command)
        except ValueError:
            refused = True
        try:
            for event in decide(story, command, Context(f"c{number}", LATER, CATALOGUE)).events:
                story.happen(event)
            assert not refused
        except Rejected:
            assert refused
        assert _seen(story) == repository.session
    assert fold(story.past) == story.session


@unhurried
@for_all(st.lists(commands_on_one_session, max_size=12))
def test_versions_are_contiguous_and_shared_by_the_events_of_a_command(commands: list[ChangingCommand]) -> None:
    story = Story()
    for number, command in enumerate(commands):
        before = story.header.version if story.header else 0
        try:
            events = decide(story, command, Context(f"c{number}", LATER, CATALOGUE)).events
        except Rejected:
            continue
        assert {event.version for event in events} <= {before + 1}
        for event in events:
            story.happen(event)
