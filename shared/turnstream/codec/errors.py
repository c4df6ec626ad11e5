"""Errors as JSON, and the table of what each means for a program: a code, whether to try again, an HTTP status."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from turnstream import errors
from turnstream.errors import TurnstreamError


class ErrorInfo(NamedTuple):
    """The meaning of an error for another program.

    `code` is its name on the wire. `retryable`: the same call may succeed later; send a command again under the same
    id. `http_status` is for a response.
    """

    code: str
    retryable: bool
    http_status: int


ERRORS: Mapping[type[TurnstreamError], ErrorInfo] = {
    errors.TurnstreamError: ErrorInfo("turnstream-error", retryable=False, http_status=500),
    errors.Rejected: ErrorInfo("rejected", retryable=False, http_status=409),
    errors.InvalidCommand: ErrorInfo("invalid-command", retryable=False, http_status=422),
    errors.SessionNotFound: ErrorInfo("session-not-found", retryable=False, http_status=404),
    errors.SessionAlreadyExists: ErrorInfo("session-already-exists", retryable=False, http_status=409),
    errors.MessageNotFound: ErrorInfo("message-not-found", retryable=False, http_status=404),
    errors.MessageAlreadyExists: ErrorInfo("message-already-exists", retryable=False, http_status=409),
    errors.VersionConflict: ErrorInfo("version-conflict", retryable=False, http_status=409),
    errors.DuplicateMismatch: ErrorInfo("duplicate-mismatch", retryable=False, http_status=409),
    errors.ParkedQueueFull: ErrorInfo("parked-queue-full", retryable=False, http_status=409),
    errors.CommandDiscarded: ErrorInfo("command-discarded", retryable=False, http_status=409),
    errors.CommandExpired: ErrorInfo("command-expired", retryable=False, http_status=504),
    errors.CommandParked: ErrorInfo("command-parked", retryable=False, http_status=409),
    errors.SessionGone: ErrorInfo("session-gone", retryable=False, http_status=410),
    errors.Unavailable: ErrorInfo("unavailable", retryable=True, http_status=503),
    errors.Overloaded: ErrorInfo("overloaded", retryable=True, http_status=503),
    errors.ServerFull: ErrorInfo("server-full", retryable=True, http_status=503),
    errors.KeyUnusable: ErrorInfo("key-unusable", retryable=True, http_status=503),
    errors.CommandTimeout: ErrorInfo("command-timeout", retryable=True, http_status=504),
    errors.StoredDataInvalid: ErrorInfo("stored-data-invalid", retryable=False, http_status=500),
    errors.NotHandled: ErrorInfo("not-handled", retryable=False, http_status=500),
    errors.SubscriptionNotFound: ErrorInfo("subscription-not-found", retryable=False, http_status=404),
    errors.SubscriptionInUse: ErrorInfo("subscription-in-use", retryable=False, http_status=409),
    errors.SessionNotParked: ErrorInfo("session-not-parked", retryable=False, http_status=404),
    errors.OpenedElsewhere: ErrorInfo("opened-elsewhere", retryable=False, http_status=500),
    errors.ConfigurationError: ErrorInfo("configuration-error", retryable=False, http_status=500),
}
"""Every class of error, with its meaning."""


def error_info(error: TurnstreamError) -> ErrorInfo:
    """Return what an error means; of a class that is not in the table, what its nearest base class means."""
    return next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)


class ErrorLine(msgspec.Struct, frozen=True, kw_only=True):
    """An error: the name of its class, its code, whether to try again, its text, and its fields, in camel case."""

    error: str
    code: str
    retryable: bool
    message: str
    fields: dict[str, Any]


def encode_error(error: TurnstreamError) -> bytes:
    """Return an error as one line of JSON: `error`, `code`, `retryable`, `message` and `fields`."""
    info = error_info(error)
    line = ErrorLine(
        error=type(error).__name__,
        code=info.code,
        retryable=info.retryable,
        message=_encodable(str(error)),
        fields={_camel(name): _encodable(value) for name, value in vars(error).items() if not name.startswith("_")},
    )
    return msgspec.json.encode(line)


def _encodable(value: Any) -> Any:  # noqa: ANN401 - any field
    """Return a value that JSON can hold: typed text may not be Unicode."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
