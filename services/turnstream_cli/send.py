"""`turnstream send`: any command, by its wire type and JSON."""

import os
import sys
from typing import Any, Final, NamedTuple

from turnstream import Command, Turnstream
from turnstream.codec.envelope import decode_command
from turnstream.settings import load_settings
from turnstream_cli.output import print_json, print_result

STANDARD_INPUT: Final = "-"


class SendOptions(NamedTuple):
    """How a command is sent, as `Turnstream.execute` takes it."""

    command_id: str | None
    timeout: float | None
    apply_within: float | None


async def send_command(
    redis_url: str | None,
    kind: str,
    text: str,
    options: SendOptions,
    *,
    as_json: bool,
) -> None:
    """Send a command, wait for its outcome and print the result."""
    settings = load_settings(redis_url=redis_url)
    command: Command[Any] = decode_command(kind, _data(text), settings.max_message_bytes)
    async with Turnstream.connect(settings=settings) as ts:
        result = await ts.execute(command, **options._asdict())
    if as_json:
        print_json(result)
    else:
        print_result(result)


def _data(text: str) -> bytes:
    # The bytes as they were typed: the decoder reports invalid UTF-8, as for every other program.
    return sys.stdin.buffer.read() if text == STANDARD_INPUT else os.fsencode(text)
