"""The meaning of an endpoint's answer for the delivery."""

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from http import HTTPStatus
from typing import Final, NamedTuple

LONGEST_WAIT: Final = 3600.0
"""Seconds that an endpoint may ask for by Retry-After; more are taken for so many."""

_RETRIED_STATUSES: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY)
"""Answers that look like refusals, and say nothing about what was sent."""


class Outcome(Enum):
    """The result of an attempt."""

    DELIVERED = auto()
    """The endpoint has it."""
    REFUSED = auto()
    """The endpoint does not want what was sent."""
    FAILED = auto()
    """It was answered otherwise, or not at all; that may be the event's fault."""
    BUSY = auto()
    """The endpoint asks to wait, so that it is not the event's fault."""
    UNREACHABLE = auto()
    """No connection was made, so that it is not the event's fault."""
    GONE = auto()
    """The endpoint wants nothing more, ever."""


class Answer(NamedTuple):
    """An outcome, why in a few words, the seconds that the endpoint asked to wait, and the status if there was one."""

    outcome: Outcome
    reason: str
    wait: float | None = None
    status: int | None = None


def answer_of(status: int, headers: Mapping[str, str], now: datetime) -> Answer:
    """Return what a response means that has come now."""
    wait = None
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        wait = _seconds(headers.get("retry-after"), now)
    return Answer(_outcome(status, wait), f"HTTP {status}", wait, status)


def _outcome(status: int, wait: float | None) -> Outcome:
    match status // 100:
        case 2:
            return Outcome.DELIVERED
        case 4 if status == HTTPStatus.GONE:
            return Outcome.GONE
        case _ if status == HTTPStatus.TOO_MANY_REQUESTS or wait is not None:
            return Outcome.BUSY
        case 4 if status not in _RETRIED_STATUSES:
            return Outcome.REFUSED
        case _:
            return Outcome.FAILED


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Return the seconds of a Retry-After: a number of them or a date; `None` for none, or for what is neither."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    try:
        seconds = float(int(text)) if text.isdecimal() else (parsedate_to_datetime(text) - now).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT)
