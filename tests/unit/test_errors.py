"""The tree of errors: drawn as it is, with the messages of the contract, and a type that says whether to try again."""

import inspect
import re
from types import ModuleType

import pytest

import turnstream
from turnstream import errors, signals
from turnstream.errors import (
    CommandDiscarded,
    CommandExpired,
    CommandParked,
    CommandTimeout,
    ConfigurationError,
    DuplicateMismatch,
    InvalidCommand,
    KeyUnusable,
    MessageAlreadyExists,
    MessageNotFound,
    OpenedElsewhere,
    Overloaded,
    ParkedQueueFull,
    Rejected,
    ServerFull,
    SessionAlreadyExists,
    SessionGone,
    SessionNotFound,
    StoredDataInvalid,
    SubscriptionInUse,
    SubscriptionNotFound,
    TurnstreamError,
    Unavailable,
    VersionConflict,
)
from turnstream.signals import BatchRefused, Collision, Fenced, PartitionRefused, TooLate, WorkerDied

EVERY_ERROR: list[TurnstreamError] = [
    InvalidCommand("$.message.role", "Invalid enum value 'robot'"),
    SessionNotFound("s"),
    SessionAlreadyExists("s"),
    MessageNotFound("s", "m1"),
    MessageAlreadyExists("s", "m1"),
    VersionConflict("s", 3, 4),
    DuplicateMismatch("c1"),
    ParkedQueueFull("s", "10 commands"),
    CommandDiscarded("s", "c1"),
    CommandExpired("s", "c1", 5_000),
    CommandParked("s", "c1"),
    SessionGone("s", 3, "c1"),
    Overloaded(100_001, 100_000),
    KeyUnusable("ts:commands:{p0}", "it is a string, expected a stream"),
    CommandTimeout("c1", 30.0),
    Fenced(7, "token"),
    TooLate(7, 1_700_000_000_000),
    Collision(7),
    WorkerDied(3),
    BatchRefused(7, "a key is a string"),
    PartitionRefused(7, "a key is a string"),
    StoredDataInvalid("ts:session:{1}:s", "it is a string, expected a hash", "s"),
    SubscriptionInUse("billing", 2),
    SubscriptionNotFound("billing", ["a"]),
    OpenedElsewhere("process 1", "process 2"),
    ConfigurationError("TURNSTREAM_PARTITIONS: a power of two"),
    Unavailable("No server answers"),
    ServerFull(),
]


def real_tree(
    module: ModuleType, error: type[Exception] = TurnstreamError, level: int = 0
) -> set[tuple[int, str, str]]:
    own = [child for child in error.__subclasses__() if child.__module__ == module.__name__]
    children = {entry for child in own for entry in real_tree(module, child, level + 1)}
    parent = error.__base__
    return {(level, error.__name__, parent.__name__ if level and parent else "")} | children


def drawn_tree(module: ModuleType) -> set[tuple[int, str, str]]:
    """Read the drawing at the top of the module: four columns a level."""
    above: list[str] = []
    drawn: set[tuple[int, str, str]] = set()
    for line in (module.__doc__ or "").splitlines():
        match = re.match(r" {4}([│├└─ ]*)([A-Z]\w+)", line)
        if match:
            level = len(match[1]) // 4
            above[level:] = [match[2]]
            drawn.add((level, match[2], above[level - 1] if level else ""))
    return drawn


@pytest.mark.parametrize("module", [errors, signals], ids=["errors", "signals"])
def test_the_drawn_tree_is_the_real_one(module: ModuleType) -> None:
    assert drawn_tree(module) == real_tree(module)


@pytest.mark.parametrize("module", [errors, signals], ids=["errors", "signals"])
def test_every_error_of_a_module_is_in_its_tree(module: ModuleType) -> None:
    defined = {name for name, _ in inspect.getmembers(module, inspect.isclass)} - {"ClassVar"}
    assert defined == {name for _, name, _ in real_tree(module)}


def test_no_signal_is_a_public_name() -> None:
    internal = {name for _, name, _ in real_tree(signals)} - {"TurnstreamError"}
    assert internal
    assert not internal & {*turnstream.__all__, *vars(errors)}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SessionNotFound("s1"), "Session not found with ID: s1"),
        (SessionAlreadyExists("s1"), "Session already exists with ID: s1"),
        (MessageNotFound("s1", "m1"), "Message not found with ID: m1"),
    ],
)
def test_should_have_the_messages_of_the_spec(error: Rejected, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: type(error).__name__)
def test_a_message_names_all_of_the_fields(error: TurnstreamError) -> None:
    fields = vars(error).copy()
    if "message_id" in fields:
        del fields["session_id"]  # as the contract has it
    for value in fields.values():
        # A command id is there only where one is known.
        assert value is None or (f"{value:g}" if isinstance(value, float) else str(value)) in str(error)


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: type(error).__name__)
def test_no_error_is_both_refused_and_worth_another_try(error: TurnstreamError) -> None:
    assert not (isinstance(error, Rejected) and isinstance(error, Unavailable))
    assert isinstance(error, TurnstreamError)


def test_whether_to_try_again_is_a_type() -> None:
    again = {type(error) for error in EVERY_ERROR if isinstance(error, Unavailable)}
    assert again == {Unavailable, Overloaded, ServerFull, KeyUnusable, CommandTimeout}


def test_a_rejection_carries_its_fields() -> None:
    assert VersionConflict("s", 3, 4).fields == {"session_id": "s", "expected_version": 3, "actual_version": 4}


def test_the_fields_of_a_rejection_are_a_copy() -> None:
    error = SessionNotFound("s")
    error.fields["session_id"] = "other"
    assert error.session_id == "s"
