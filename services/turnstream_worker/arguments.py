"""The command line of `turnstream-worker`; everything else is in the environment."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from turnstream_service.arguments import URL_VARIABLE, LogLevel, version_text

_DESCRIPTION: Final = """\
Apply the commands of chat sessions: take partitions, apply their commands in order, publish the events.
Start as many as you like, anywhere; they divide the partitions among themselves. Needs a Redis 7.0 or Valkey server.
"""

_EPILOG: Final = """\
signals:
  SIGTERM, SIGINT       finish the batch in hand, hand the partitions over, exit 0; after
                        ten seconds at most, also where the server hangs
  a second one          stop at once, exit 143 or 130; safe, but the others wait for the leases to run out

exit status:
  0 stopped when asked to    1 failed: a bug, started again it goes on
  2 the server or a setting does not fit, so that starting again would not help; one line on standard error says which
  A server that does not answer, or is full, is waited for.

environment:
  TURNSTREAM_REDIS_URL  where the server is; redis://localhost:6379 if not set
  TURNSTREAM_…          every other setting, such as TURNSTREAM_NAMESPACE and TURNSTREAM_LEASE

URLs:
  redis://user:password@host:6379/0, unix:///path/to.sock    one server
  redis+cluster://host:port,host:port                        a cluster
  redis+sentinel://host:port,host:port/service               what Sentinels watch
  rediss://, rediss+cluster://, rediss+sentinel://           the same, encrypted

examples:
  turnstream-worker --redis-url redis://10.0.0.5:6379/0
  TURNSTREAM_REDIS_URL=rediss://:password@redis.internal:6380 turnstream-worker --processes 4
"""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line, read."""

    redis_url: str | None
    processes: int
    log_level: str
    stop_at_eof: bool


def parse(arguments: Sequence[str] | None) -> Options:
    """Read the command line; exits with 2 if it cannot be read."""
    parser = argparse.ArgumentParser(
        prog="turnstream-worker",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=version_text())
    parser.add_argument("--redis-url", metavar="URL", help=f"where the server is; {URL_VARIABLE} if not given")
    parser.add_argument(
        "--processes",
        metavar="N",
        type=_at_least_one,
        default=1,
        help="worker processes, about one a core; a crashed one is started again (default: %(default)s)",
    )
    parser.add_argument(
        "--log-level",
        choices=[str(level) for level in LogLevel],
        default="info",
        help="least important messages to log (default: %(default)s)",
    )
    parser.add_argument(
        "--stop-at-eof",
        action="store_true",
        help="stop also when standard input ends: for programs that start a worker and may be killed themselves",
    )
    return Options(**vars(parser.parse_args(arguments)))


def _at_least_one(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return number
