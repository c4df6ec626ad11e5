"""Logs by structlog: for people on a terminal, JSON lines otherwise.

The library logs through the standard `logging` module, so that a program that uses it decides what is shown; only
entry points call `configure_logging`. Bound are the worker and the partition. Commands pass in batches, too many to
bind anything for each, so a line about one names it and its session itself; none ever shows a message's content.
"""

import logging
import sys
import traceback
from pathlib import Path

import structlog
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

log_time = structlog.processors.TimeStamper(fmt="iso")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module; its key-value pairs become `extra` fields of the standard record."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.render_to_log_kwargs,
        ],
    )
    return logger


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


def _show_controls(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {printable(name): printable(value) if isinstance(value, str) else value for name, value in event.items()}


def configure_logging(level: str = "info", *, json: bool | None = None) -> None:
    """Send logs to standard error.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        json: JSON lines; by default unless standard error is a terminal.

    """
    as_json = not sys.stderr.isatty() if json is None else json
    pre_chain: list[Processor] = [structlog.stdlib.add_log_level, log_time, structlog.stdlib.ExtraAdder()]
    # The renderer's own tracebacks show local variables, and in them the content of messages.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    for_people: list[Processor] = [structlog.processors.format_exc_info, _show_controls, plain]
    for_machines: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    processors: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        *(for_machines if as_json else for_people),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=pre_chain, processors=processors))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
