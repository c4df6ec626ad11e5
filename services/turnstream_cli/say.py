"""`turnstream say`: a message of text, with as little typing as possible."""

import sys
from typing import NamedTuple

import typer

from turnstream import (
    AddMessage,
    ChatMessage,
    ChatMessageRole,
    CreateSession,
    SessionAlreadyExists,
    SessionConfig,
    TextContent,
    Turnstream,
)
from turnstream.logging import printable
from turnstream_cli.notes import print_command_id
from turnstream_cli.options import STANDARD_INPUT, MessageRole
from turnstream_cli.send import SendOptions
from turnstream_cli.typed_command import time_in
from turnstream_service.output import print_json


class SaidMessage(NamedTuple):
    """A message to add, and the configuration of the session if it may be created first."""

    session_id: str
    role: MessageRole
    text: str
    create: SessionConfig | None


async def say(redis_url: str | None, said: SaidMessage, options: SendOptions, *, as_json: bool) -> None:
    """Add a message of text to a session and print what happened."""
    message = _message(said, options.command_id)
    async with Turnstream.connect(redis_url) as ts:
        print_command_id(options.command_id, as_json=as_json)
        created = said.create is not None and await _create(ts, said.session_id, said.create, options)
        ticket = await ts.send(AddMessage(said.session_id, message), **options._asdict())
        version = (await ticket).version
    if as_json:
        ids = {"sessionId": said.session_id, "messageId": message.id}
        print_json({**ids, "version": version, "created": created})
        return
    session_id = printable(said.session_id)
    if created:
        typer.echo(f"created session {session_id}")
    typer.echo(f"added {said.role} message {printable(message.id)} to session {session_id}, now version {version}")


def _message(said: SaidMessage, command_id: str) -> ChatMessage:
    text = sys.stdin.read() if said.text == STANDARD_INPUT else said.text
    return ChatMessage(
        id=command_id,
        role=ChatMessageRole(said.role),
        content=(TextContent(text),),
        created_at=time_in(command_id, "createdAt"),
    )


async def _create(ts: Turnstream, session_id: str, config: SessionConfig, options: SendOptions) -> bool:
    """Create the session unless it exists; return whether this did."""
    if await ts.sessions.exists(session_id):
        return False
    try:
        await ts.execute(CreateSession(config, session_id), timeout=options.timeout)
    except SessionAlreadyExists:
        return False
    return True
