"""The meaning of an endpoint's answer."""

from datetime import UTC, datetime

import pytest

from turnstream_relay.response import LONGEST_WAIT, Outcome, answer_of

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.DELIVERED),
        (204, Outcome.DELIVERED),
        (301, Outcome.FAILED),
        (308, Outcome.FAILED),
        (400, Outcome.REFUSED),
        (404, Outcome.REFUSED),
        (408, Outcome.FAILED),
        (422, Outcome.REFUSED),
        (425, Outcome.FAILED),
        (410, Outcome.GONE),
        (429, Outcome.BUSY),
        (500, Outcome.FAILED),
        (503, Outcome.FAILED),
    ],
)
def test_a_status_alone(status: int, outcome: Outcome) -> None:
    assert answer_of(status, {}, NOW) == (outcome, f"HTTP {status}", None, status)


def test_unavailable_with_retry_after_is_busy() -> None:
    assert answer_of(503, {"retry-after": "7"}, NOW) == (Outcome.BUSY, "HTTP 503", 7.0, 503)


@pytest.mark.parametrize("status", [200, 400, 410, 500])
def test_of_other_answers_the_time_is_not_read(status: int) -> None:
    assert answer_of(status, {"retry-after": "3600"}, NOW).wait is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 12 ", 12.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("99999999999", LONGEST_WAIT),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("Thu, 01 Jan 2026 12:00:30", None),
        ("", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert answer_of(429, {"retry-after": text}, NOW).wait == seconds
