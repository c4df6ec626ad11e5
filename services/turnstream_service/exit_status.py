"""The exit statuses of the services."""

from typing import Final

DONE: Final = 0

REFUSED: Final = 1
"""The command was understood and refused, or it found an error in stored data."""

UNUSABLE: Final = 2
"""The server, a setting or the command line is wrong: another start would not help."""


def of_signal(number: int) -> int:
    """Return the exit status of a program that a signal ended, as a shell reports it."""
    return 128 + number


def of_error(error: Exception) -> int:
    """Return the exit status of a program that an error of the library ended."""
    from turnstream.errors import ConfigurationError, Unavailable  # noqa: PLC0415 - imports the library

    return UNUSABLE if isinstance(error, ConfigurationError | Unavailable) else REFUSED
