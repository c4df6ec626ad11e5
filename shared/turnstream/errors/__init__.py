"""Every error that Turnstream raises.

    TurnstreamError
    ├── Rejected                  the command was understood and refused; sending it again changes nothing
    │   ├── InvalidCommand        a field has the wrong type or breaks a rule (`path`, `reason`)
    │   ├── SessionNotFound
    │   ├── SessionAlreadyExists
    │   ├── MessageNotFound
    │   ├── MessageAlreadyExists
    │   ├── VersionConflict       `expected_version` was not the session's version
    │   ├── DuplicateMismatch     the command id was used before, with another payload
    │   ├── ParkedQueueFull       the session is parked, and no more of its commands may wait
    │   ├── CommandDiscarded      an operator took it out of the queue of its parked session
    │   └── CommandExpired        no worker came to it within its `apply_within`
    ├── CommandParked             the session is parked; the command waits for a redrive
    ├── SessionGone               the command was applied; before its result was read, the session was gone
    ├── Unavailable               nothing is wrong with the command; try again
    │   ├── Overloaded            the partition's backlog is over its limit
    │   ├── ServerFull            the server's memory has reached its limit; nothing was written
    │   ├── KeyUnusable           an unexpected value is stored at a key (`key`); an operator has to remove it
    │   └── CommandTimeout        no answer in time; the command may still be applied (`command_id`)
    ├── StoredDataInvalid         a key holds a value of another type, or undecodable data (`key`, `session_id`)
    ├── NotHandled                a consumer's handler raises it to have an event redelivered, with a reason
    ├── SubscriptionNotFound      no durable subscription of this name ever had a member
    ├── SubscriptionInUse         a subscription has live members, so it cannot be forgotten
    ├── SessionNotParked          a subscription has no parked events of this session
    ├── OpenedElsewhere           a client is used in another event loop or process than the one that opened it
    └── ConfigurationError        settings, server or deployment do not fit together

Source: design §4 and §10; docs/contract.md, Errors.
"""

from turnstream.errors.base import TurnstreamError
from turnstream.errors.conditions import (
    CommandParked,
    ConfigurationError,
    NotHandled,
    OpenedElsewhere,
    SessionGone,
    SessionNotParked,
    StoredDataInvalid,
    SubscriptionInUse,
    SubscriptionNotFound,
)
from turnstream.errors.rejections import (
    CommandDiscarded,
    CommandExpired,
    DuplicateMismatch,
    InvalidCommand,
    MessageAlreadyExists,
    MessageNotFound,
    ParkedQueueFull,
    Rejected,
    SessionAlreadyExists,
    SessionNotFound,
    VersionConflict,
)
from turnstream.errors.unavailability import CommandTimeout, KeyUnusable, Overloaded, ServerFull, Unavailable

__all__ = [
    "CommandDiscarded",
    "CommandExpired",
    "CommandParked",
    "CommandTimeout",
    "ConfigurationError",
    "DuplicateMismatch",
    "InvalidCommand",
    "KeyUnusable",
    "MessageAlreadyExists",
    "MessageNotFound",
    "NotHandled",
    "OpenedElsewhere",
    "Overloaded",
    "ParkedQueueFull",
    "Rejected",
    "ServerFull",
    "SessionAlreadyExists",
    "SessionGone",
    "SessionNotFound",
    "SessionNotParked",
    "StoredDataInvalid",
    "SubscriptionInUse",
    "SubscriptionNotFound",
    "TurnstreamError",
    "Unavailable",
    "VersionConflict",
]

for _name in __all__:
    # Tracebacks and pickles name this module, whichever file defines the class.
    globals()[_name].__module__ = __name__
