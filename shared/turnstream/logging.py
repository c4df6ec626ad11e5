"""Logs: text for people on a terminal, JSON lines otherwise, both by structlog.

The library logs through the standard `logging` module, so that a program that uses it decides what is shown; only
entry points call `configure_logging`. Bound are the worker and the partition. Commands pass in batches, too many to
bind anything for each, so a line about one names it and its session itself; none ever shows a message's content.
"""

import logging
import sys
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.stdlib import ProcessorFormatter
    from structlog.typing import EventDict, Processor

MOST_FRAMES = 8
"""The number of calls of a failure in the log, from its origin outwards."""

_UNSEEN = (*range(0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
"""Controls of a terminal, of the direction of text, and separators of lines: they can forge the output."""

_BYTES = 256
_ESCAPED = {
    code: f"\\x{code:02x}" if code < _BYTES else f"\\u{code:04x}" for code in _UNSEEN if chr(code) not in "\n\t"
}
_ESCAPED_JSON = {code: f"\\u{code:04x}" for code in _ESCAPED}

_bound_fields: ContextVar[Mapping[str, object]] = ContextVar("bound_fields", default={})  # noqa: B039 - never changed


class Logger:
    """The logger of a module; key-value pairs become `extra` fields of the standard record."""

    def __init__(self, name: str) -> None:
        """Log under this name of the standard module."""
        self._standard = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        """Log a detail, for engineers."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log an expected event."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log an event that may need attention."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log a failure."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """Log a failure with the traceback of the exception that is being handled."""
        self._log(logging.ERROR, event, fields, exc_info=True)

    def log(self, level: int, event: str, **fields: object) -> None:
        """Log an event at a level of the standard module."""
        self._log(level, event, fields)

    def _log(self, level: int, event: str, fields: Mapping[str, object], *, exc_info: bool = False) -> None:
        if self._standard.isEnabledFor(level):
            self._standard.log(level, event, exc_info=exc_info, extra={**_bound_fields.get(), **fields})


def get_logger(name: str) -> Logger:
    """Return the logger of a module."""
    return Logger(name)


@contextmanager
def bound(**fields: object) -> Generator[None]:
    """Add fields to each line that is logged in the block, also by the tasks that start there."""
    token = _bound_fields.set({**_bound_fields.get(), **fields})
    try:
        yield
    finally:
        _bound_fields.reset(token)


def where_of(failure: BaseException) -> str:
    """Say where a failure began, as `metrics.py:12 price < deciding.py:96 _decide_all`: the innermost call first.

    In place of a traceback, whose last line is the failure's text: errors of other code may quote a message's content.
    """
    chain = [failure]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(chain[-1].__traceback__)]
    calls = (f"{Path(code.co_filename).name}:{line} {code.co_name}" for code, line in reversed(frames[-MOST_FRAMES:]))
    return " < ".join(calls)


def printable(text: str) -> str:
    """Return text that is displayed as it is: its author can neither control a terminal nor reverse lines."""
    return text.translate(_ESCAPED)


def printable_json(encoded: bytes) -> str:
    """Return JSON that shows as it is, and means the same."""
    return encoded.decode().translate(_ESCAPED_JSON)


def configure_logging(level: str = "info", *, json: bool | None = None) -> None:
    """Send logs to standard error.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        json: JSON lines; by default unless standard error is a terminal.

    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter(as_json=not sys.stderr.isatty() if json is None else json))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _LineFormatter(logging.Formatter):
    """Formats by structlog, which is imported for the first line: most commands log nothing."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        return self._formatter.format(record)

    @cached_property
    def _formatter(self) -> "ProcessorFormatter":
        import structlog  # noqa: PLC0415 - takes 0.1 s

        log_time = structlog.processors.TimeStamper(fmt="iso")
        pre_chain: list[Processor] = [structlog.stdlib.add_log_level, log_time, structlog.stdlib.ExtraAdder()]
        # The renderer's own tracebacks show local variables, and in them the content of messages.
        plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        for_people: list[Processor] = [structlog.processors.format_exc_info, _show_controls, plain]
        for_machines: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        processors: list[Processor] = [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *(for_machines if self._as_json else for_people),
        ]
        return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=pre_chain, processors=processors)


def _show_controls(_logger: object, _method: str, event: "EventDict") -> "EventDict":
    return {printable(name): printable(value) if isinstance(value, str) else value for name, value in event.items()}
