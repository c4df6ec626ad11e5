"""Logs: JSON lines for machines, readable lines for people, and never what a message says."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from turnstream.logging import MOST_FRAMES, bound, configure_logging, get_logger, printable, printable_json, where_of


@pytest.fixture(autouse=True)
def own_root_logger() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    for handler in handlers:
        root.removeHandler(handler)  # else `force` closes them
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_json_line_holds_the_bound_values(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=True)
    with bound(partition=7):
        get_logger("turnstream.test").info("batch applied", command_id="c1", commands=3)
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "batch applied", "level": "info", "partition": 7, "command_id": "c1", "commands": 3}


def test_a_failure_is_one_line_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=True)
    fail_with("a secret")
    (line,) = lines(capsys)
    assert "RuntimeError: a bug" in line["exception"]
    assert line["level"] == "error"


def test_logs_of_other_libraries_look_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=True)
    logging.getLogger("other").warning("%d connections", 3)
    (line,) = lines(capsys)
    assert (line["event"], line["level"]) == ("3 connections", "warning")


def test_records_below_the_level_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", json=True)
    log = get_logger("turnstream.test")
    log.info("not this")
    log.warning("but this")
    assert [line["event"] for line in lines(capsys)] == ["but this"]


def test_configuring_twice_does_not_log_twice(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=True)
    configure_logging(json=True)
    get_logger("turnstream.test").info("once")
    assert len(lines(capsys)) == 1


def test_json_unless_standard_error_is_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logging()
    get_logger("turnstream.test").info("for machines")
    assert lines(capsys)[0]["event"] == "for machines"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    configure_logging()
    get_logger("turnstream.test").info("for people", command_id="c1")
    shown = capsys.readouterr().err
    assert "for people" in shown
    assert "c1" in shown
    assert not shown.startswith("{")


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_shows_no_values(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """A command that fails has its message's content in a variable: message contents are never logged."""
    configure_logging(json=as_json)
    fail_with("a " + "secret")
    shown = capsys.readouterr().err
    assert "a bug" in shown
    assert "a secret" not in shown


def fail_with(content: str) -> None:
    try:
        _handle(content)
    except RuntimeError:
        get_logger("turnstream.test").exception("command quarantined", command_id="c1")


def _handle(content: str) -> None:
    raise RuntimeError("a bug" if content else "")


def test_the_origin_of_a_failure_is_logged_without_its_text() -> None:
    """The innermost call of the innermost cause comes first."""
    with pytest.raises(ValueError, match="again") as failed:
        _wrap("a secret")
    where = where_of(failed.value)
    assert re.fullmatch(r"test_telemetry\.py:\d+ _handle < test_telemetry\.py:\d+ _wrap", where)
    assert "secret" not in where


def test_of_many_calls_the_innermost_are_named() -> None:
    def deep(calls: int) -> None:
        if calls:
            deep(calls - 1)
        _handle("")

    with pytest.raises(RuntimeError) as failed:
        deep(20)
    first, *others = where_of(failed.value).split(" < ")
    assert first.endswith(" _handle")
    assert [call.split()[1] for call in others] == ["deep"] * (MOST_FRAMES - 1)


def test_a_failure_that_was_never_raised_began_nowhere() -> None:
    cause = ValueError("a secret")
    cause.__cause__ = cause
    assert where_of(cause) == ""


def _wrap(content: str) -> None:
    try:
        _handle(content)
    except RuntimeError as error:
        raise ValueError(f"again {content}") from error


def test_a_program_that_configures_nothing_sees_the_library_through_its_own_logging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logging.getLogger().addHandler(caplog.handler)
    with caplog.at_level("INFO", "turnstream.test"):
        get_logger("turnstream.test").info("worker started", partitions=64)
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("turnstream.test", "worker started")]
    assert vars(caplog.records[0])["partitions"] == 64


# ── what shows as something else ─────────────────────────────────────────────────────────────────────────────────────

TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
STEERING = "\x00\x07\x1b\r\x7f\x9b"


@pytest.mark.parametrize("letter", TURNING + STEERING)
def test_a_control_is_shown_and_does_nothing(letter: str) -> None:
    escaped = f"\\x{ord(letter):02x}" if letter in STEERING else f"\\u{ord(letter):04x}"
    assert printable(f"a{letter}b") == f"a{escaped}b"
    shown = printable_json(msgspec.json.encode({letter: letter}))
    assert letter not in shown
    assert json.loads(shown) == {letter: letter}


def test_a_change_without_effect_leaves_the_value_as_it_is() -> None:
    for text in ("two lines\nand\ta tab", "日本語 عربى עברית", "👨\u200d👩\u200d👧 e\u0301 \ufeff"):
        assert printable(text) == text
        assert json.loads(printable_json(json.dumps(text, ensure_ascii=False).encode())) == text


def test_a_log_for_people_shows_controls(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=False)
    get_logger("turnstream.test").warning("session\u202e parked", session_id="a\u2066\x1b[2Jb")
    fail_with("\u202e")
    shown = capsys.readouterr().err
    assert "session\\u202e parked" in shown
    assert "a\\u2066\\x1b[2Jb" in shown
    assert not set(TURNING) & set(shown)
