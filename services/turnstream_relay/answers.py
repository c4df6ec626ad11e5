"""What an endpoint's answer means for the delivery."""

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from http import HTTPStatus
from typing import Final, NamedTuple

LONGEST_WAIT: Final = 3600.0
"""Seconds that an endpoint may ask for by Retry-After; more are taken for so many."""

_WAITING: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Outcome(Enum):
    """What came of an attempt."""

    DELIVERED = auto()
    """The endpoint has it."""
    FAILED = auto()
    """It was answered otherwise, or not at all; that may be the event's fault."""
    BUSY = auto()
    """The endpoint asks to wait, so that it is not the event's fault."""
    UNREACHABLE = auto()
    """No connection was made, so that it is not the event's fault."""
    GONE = auto()
    """The endpoint wants nothing more, ever."""


class Answer(NamedTuple):
    """An outcome, why in a few words, and the seconds that the endpoint asked to wait."""

    outcome: Outcome
    reason: str
    wait: float | None = None


def answer_of(status: int, headers: Mapping[str, str], now: datetime) -> Answer:
    """Return what a response means."""
    reason = f"HTTP {status}"
    if HTTPStatus(200) <= status < HTTPStatus(300):
        return Answer(Outcome.DELIVERED, reason)
    if status == HTTPStatus.GONE:
        return Answer(Outcome.GONE, reason)
    wait = _seconds(headers.get("retry-after"), now)
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status in _WAITING and wait is not None):
        return Answer(Outcome.BUSY, reason, wait)
    return Answer(Outcome.FAILED, reason, wait)


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
