"""`turnstream send`: any command, by its wire type and JSON."""

import os
import sys
from typing import Any, NamedTuple

from turnstream import Turnstream
from turnstream.commands import Command
from turnstream.domain.commands import QUERIES
from turnstream.messages import new_id
from turnstream.settings import load_settings
from turnstream_cli.notes import print_command_id, warn_of_unknown
from turnstream_cli.options import STANDARD_INPUT
from turnstream_cli.output import print_result
from turnstream_cli.typed_command import check_type, parse_command
from turnstream_service.output import print_json


class SendOptions(NamedTuple):
    """How a command is sent, as `Turnstream.execute` takes it."""

    command_id: str
    timeout: float | None
    apply_within: float | None = None


def send_options(command_id: str | None, timeout: float | None, apply_within: float | None = None) -> SendOptions:
    """Return how a command is sent; without an id it gets a new one."""
    return SendOptions(new_id() if command_id is None else command_id, timeout, apply_within)


async def send_command(redis_url: str | None, name: str, text: str, options: SendOptions, *, as_json: bool) -> None:
    """Send a command, wait for its outcome and print the result."""
    check_type(name)
    settings = load_settings(redis_url=redis_url)
    typed = parse_command(name, _data(text), options.command_id, settings.max_message_bytes)
    for field in typed.unknown:
        warn_of_unknown(field, as_json=as_json)
    async with Turnstream.connect(settings=settings) as ts:
        result = await _execute(ts, typed.command, options, as_json=as_json)
    if as_json:
        print_json(result)
    else:
        print_result(result)


async def _execute(ts: Turnstream, command: Command[Any], options: SendOptions, *, as_json: bool) -> object:
    if isinstance(command, QUERIES):
        return await ts.execute(command, timeout=options.timeout)
    print_command_id(options.command_id, as_json=as_json)
    return await ts.execute(command, **options._asdict())


def _data(text: str) -> bytes:
    # The bytes as they were typed: the decoder reports invalid UTF-8, as for every other program.
    return sys.stdin.buffer.read() if text == STANDARD_INPUT else os.fsencode(text)
