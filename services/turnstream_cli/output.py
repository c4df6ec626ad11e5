"""Sessions, messages and results, as commands print them."""

from collections.abc import Iterable
from textwrap import indent
from typing import Any, Final

import msgspec
import typer

from turnstream import (
    ChatMessage,
    ImageContent,
    MessageContent,
    Session,
    SessionInfo,
    SessionPage,
    TextContent,
    TokenMetrics,
    ToolCallContent,
)
from turnstream.catalogue import PriceSource
from turnstream.logging import printable, printable_json
from turnstream_service.output import print_fields, print_styled, print_table, time_text

PRICES: Final = {
    PriceSource.OVERRIDE: "by your own price table",
    PriceSource.SPEC: "by the built-in price table",
    PriceSource.CATALOGUE: "by the price catalogue",
    PriceSource.UNKNOWN: "the price of this model is unknown",
}


def print_result(result: Any) -> None:  # noqa: ANN401 - each command has a result of its own
    """Print what a command gave back, for people."""
    if isinstance(result, Session):
        print_session(result)
    elif isinstance(result, SessionPage):
        print_infos(result.sessions)
    elif isinstance(result, bool):
        typer.echo("deleted" if result else "there was no such session")
    elif result is None:
        typer.echo("there is no such session")
    else:
        typer.echo(printable_json(msgspec.json.format(msgspec.json.encode(result), indent=2)))


def print_session(session: Session, last: int | None = None) -> None:
    """Print what a session is, without its messages; `last` is the number of messages that were asked for."""
    config, metrics = session.config, session.metrics
    rows = (
        ("session", session.id),
        ("model", f"{config.provider} / {config.model}"),
        ("state", f"{_state(session)}, version {session.version}"),
        ("messages", str(len(session.messages)) if last is None else f"the last {len(session.messages)}"),
        ("tokens", _tokens(metrics)),
        ("cost", f"${metrics.estimated_cost:.6f}, {PRICES[metrics.price_source]}"),
        ("created", time_text(session.created_at)),
        ("updated", time_text(session.updated_at)),
        ("metadata", "" if session.metadata is None else msgspec.json.encode(session.metadata).decode()),
    )
    print_fields(rows)


def print_messages(messages: Iterable[ChatMessage]) -> None:
    """Print messages with all their content; as blocks, for a column would be as wide as the longest of them."""
    for message in messages:
        head = f"{time_text(message.created_at)}  {printable(message.id)}"
        content = "\n".join(part_text(part) for part in message.content)
        print_styled()
        print_styled((message.role, "bold cyan"), "  ", (head, "dim"))
        print_styled(indent(content, "  "))


def print_infos(infos: Iterable[SessionInfo]) -> None:
    """Print sessions, a line each."""
    rows = (
        (info.id, str(info.message_count), time_text(info.updated_at), f"{info.provider} / {info.model}", _state(info))
        for info in infos
    )
    print_table(("session", "messages", "updated", "model", "state"), rows)


def part_text(part: MessageContent) -> str:
    """Return a part of a message as text."""
    match part:
        case TextContent():
            text = part.text
        case ImageContent():
            text = f"[image {part.url}]"
        case ToolCallContent():
            text = f"[call {part.tool_call_id}: {part.name}({msgspec.json.encode(part.args).decode()})]"
        case _:
            text = f"[result of {part.tool_call_id}: {part.content}]"
    return printable(text)


def _state(session: Session | SessionInfo) -> str:
    return "active" if session.is_active else "inactive"


def _tokens(metrics: TokenMetrics) -> str:
    used = f"{metrics.context_utilization:.1%} of a window of {metrics.max_context_window}"
    return f"{metrics.total_tokens} ({metrics.prompt_tokens} prompt, {metrics.completion_tokens} completion), {used}"
