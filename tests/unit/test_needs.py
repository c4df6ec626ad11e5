"""The reads that commands need to be decided: uncached headers, some messages, the tail; outcomes only in doubt."""

import pytest
from tests.unit.given import SMALL, message

from turnstream.application.commands.batch_decider import has_reads, needs_of
from turnstream.domain.commands import (
    AddMessage,
    AddMessages,
    ChangingCommand,
    CreateSession,
    DeleteSession,
    RemoveMessages,
    UpdateMessage,
    UpdateSession,
    UpdateTokenMetrics,
)
from turnstream.domain.patches import ChatMessagePatch, SessionPatch
from turnstream.ports import Needs, SessionNeeds

ADDS: list[ChangingCommand] = [AddMessage("s", message("m1")), AddMessages("s", (message("m2"), message("m3")))]
HEADER_ONLY: list[ChangingCommand] = [
    *(CreateSession(SMALL, "s"), UpdateSession("s", SessionPatch()), DeleteSession("s"), UpdateTokenMetrics("s")),
]


def needs(*commands: ChangingCommand, cached: tuple[str, ...] = (), thorough: bool = False) -> Needs:
    numbered = [(f"c{number}", 1_000 + number, command) for number, command in enumerate(commands, start=1)]
    return needs_of(numbered, cached, thorough=thorough)


@pytest.mark.parametrize("command", HEADER_ONLY, ids=lambda command: command.type)
@pytest.mark.parametrize("thorough", [False, True])
def test_some_commands_need_the_header_only(command: ChangingCommand, thorough: bool) -> None:
    assert needs(command, thorough=thorough).sessions == {"s": SessionNeeds()}


def test_a_header_that_is_cached_is_not_needed() -> None:
    both = needs(DeleteSession("s"), DeleteSession("t"), cached=("s",)).sessions
    assert {session_id: each.header for session_id, each in both.items()} == {"s": False, "t": True}


def test_messages_that_are_updated_are_needed() -> None:
    assert needs(UpdateMessage("s", "m1", updates=ChatMessagePatch())).sessions["s"].message_ids == {"m1"}


def test_new_messages_are_looked_for_only_when_it_is_in_doubt() -> None:
    assert needs(*ADDS).sessions["s"].message_ids == set()
    assert needs(*ADDS, thorough=True).sessions["s"].message_ids == {"m1", "m2", "m3"}


def test_outcomes_are_looked_for_only_when_it_is_in_doubt() -> None:
    assert needs(*ADDS).commands == {}
    assert needs(*ADDS, thorough=True).commands == {"c1": 1_001, "c2": 1_002}


def test_an_outcome_is_looked_for_at_the_time_of_its_first_entry() -> None:
    twice = [("c1", 1_000, DeleteSession("s")), ("c1", 2_000, DeleteSession("s"))]
    assert needs_of(twice, (), thorough=True).commands == {"c1": 1_000}


@pytest.mark.parametrize("thorough", [False, True])
def test_removals_shorten_the_tail_of_later_ones(thorough: bool) -> None:
    commands = RemoveMessages("s", last=2), RemoveMessages("s", message_ids=("m7", "m8")), RemoveMessages("s", last=1)
    wanted = needs(*commands, thorough=thorough).sessions["s"]
    assert (wanted.tail, wanted.message_ids) == (5, {"m7", "m8"})


def test_each_session_has_separate_needs() -> None:
    wanted = needs(RemoveMessages("s", last=2), UpdateMessage("t", "m1", updates=ChatMessagePatch())).sessions
    assert (wanted["s"].message_ids, wanted["t"].tail) == (set(), 0)


def test_appends_to_known_sessions_read_nothing() -> None:
    assert not has_reads(needs(*ADDS, UpdateTokenMetrics("s"), cached=("s",)))
    assert has_reads(needs(*ADDS))
    assert has_reads(needs(*ADDS, cached=("s",), thorough=True))
    assert has_reads(needs(RemoveMessages("s", last=1), cached=("s",)))
    assert has_reads(needs(UpdateMessage("s", "m1", updates=ChatMessagePatch()), cached=("s",)))
