"""The command line of the commands that write, read and check sessions."""
# ruff: noqa: PLC0415 - `import turnstream` takes half a second

from typing import Annotated, Final

import typer

from turnstream_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_PROVIDER,
    CommandId,
    MessageRole,
    RedisUrl,
    SessionId,
    Timeout,
    Yes,
    complete_command_type,
    complete_event_type,
)
from turnstream_service.arguments import LogLevel
from turnstream_service.options import AsJson, Log, check_finite

SESSIONS: Final = "Sessions"
"""The heading under which the help lists these commands."""

sessions = typer.Typer()


@sessions.command(rich_help_panel=SESSIONS)
def say(  # noqa: PLR0913 - what to say, and how
    session_id: SessionId,
    role: Annotated[MessageRole, typer.Argument(metavar="ROLE", help="system, user, assistant or summary.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The message's text; - reads it from standard input.")],
    *,
    create: Annotated[bool, typer.Option("--create", help="Create the session first, if it does not exist.")] = False,
    provider: Annotated[str, typer.Option(help="The provider of a session that is created.")] = DEFAULT_PROVIDER,
    model: Annotated[str, typer.Option(help="The model of a session that is created.")] = DEFAULT_MODEL,
    command_id: CommandId = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Add a message of text to a session.

    The message gets the id and the time of its command. If no outcome comes in time, repeat the line with the
    [bold]--command-id[/bold] that was printed: the message is added once.

    Examples:
      turnstream say chat-1 user "What is a monad?" --create
      turnstream say chat-1 assistant "A monoid of endofunctors."
      echo "In plain words, please." | turnstream say chat-1 user -
    """
    from turnstream import SessionConfig
    from turnstream_cli.say import SaidMessage
    from turnstream_cli.say import say as say_message
    from turnstream_cli.send import send_options
    from turnstream_service.program import run

    said = SaidMessage(session_id, role, text, SessionConfig(provider=provider, model=model) if create else None)
    options = send_options(command_id, timeout)
    run(say_message(redis_url, said, options, as_json=as_json), log_level, as_json=as_json)


@sessions.command(rich_help_panel=SESSIONS)
def send(  # noqa: PLR0913 - how to send
    kind: Annotated[
        str,
        typer.Argument(
            metavar="TYPE", help="The command's type on the wire, as add-message.", autocompletion=complete_command_type
        ),
    ],
    text: Annotated[
        str, typer.Argument(metavar="JSON", help="The command's fields; - reads them from standard input.")
    ] = "{}",
    *,
    command_id: CommandId = None,
    timeout: Timeout = None,
    apply_within: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", callback=check_finite, help="The command is not applied after this time."),
    ] = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    r"""Send any command, wait until a worker has applied it, and print the result.

    Types: create-session, update-session, delete-session, add-message, add-messages, update-message, remove-messages,
    update-token-metrics, get-session, list-sessions. Field names are camelCase; unknown ones are ignored, with a
    warning.

    These can be left out: a new session's id and config (openai / gpt-4); a message's id and createdAt, which follow
    from the command's id. The content of a message can be plain text.

    If no outcome comes in time, repeat the line with the [bold]--command-id[/bold] that was printed: the command is
    applied once.

    Examples:
      turnstream send create-session '{"metadata": {"customer": 7}}'
      turnstream send add-message \
        '{"sessionId": "chat-1", "message": {"role": "user", "content": "Hi"}}'
      turnstream send update-token-metrics \
        '{"sessionId": "chat-1", "promptTokens": 50, "completionTokens": 80}'
      echo '{"limit": 2}' | turnstream send list-sessions - --json
    """
    from turnstream_cli.send import send_command, send_options
    from turnstream_service.program import run

    options = send_options(command_id, timeout, apply_within)
    run(send_command(redis_url, kind, text, options, as_json=as_json), log_level, as_json=as_json)


@sessions.command(rich_help_panel=SESSIONS)
def get(
    session_id: SessionId,
    *,
    last: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the last N messages.")] = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Show a session with its messages.

    Examples:
      turnstream get chat-1 --last 2
      turnstream get chat-1 --json | jq .metrics
    """
    from turnstream_cli.show import get_session
    from turnstream_service.program import run

    run(get_session(redis_url, session_id, last, as_json=as_json), log_level, as_json=as_json)


@sessions.command("list", rich_help_panel=SESSIONS)
def list_sessions(  # noqa: PLR0913 - the options of a query
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Sessions of a page.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Continue where the page before ended.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only sessions of this provider.")] = None,
    model: Annotated[str | None, typer.Option(help="Only sessions of this model.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Only such sessions.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All pages; the least recently updated first.")] = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """List sessions, the most recently updated first.

    A session that is updated while you page moves to the front; [bold]--all[/bold] shows every session exactly once.

    Examples:
      turnstream list --model gpt-4 --active --limit 20
      turnstream list --all --json | jq -r .id
    """
    if everything and cursor is not None:
        raise typer.BadParameter("cannot be used with --all, which lists every page", param_hint="--cursor")

    from turnstream.commands import ListSessions
    from turnstream_cli.show import list_all, list_page
    from turnstream_service.program import run

    query = ListSessions(limit=limit, cursor=cursor, provider=provider, model=model, is_active=active)
    show = list_all if everything else list_page
    run(show(redis_url, query, as_json=as_json), log_level, as_json=as_json)


@sessions.command(rich_help_panel=SESSIONS)
def delete(
    session_id: SessionId,
    *,
    yes: Yes = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Delete a session with all its messages. This cannot be undone.

    Example:
      turnstream delete chat-2 --yes
    """
    from turnstream_cli.show import delete_session
    from turnstream_service.confirmation import confirm
    from turnstream_service.program import reported, run

    with reported(as_json=as_json):
        confirm(f"Delete session {session_id} with all its messages?", confirmed=yes)
    run(delete_session(redis_url, session_id, timeout, as_json=as_json), log_level, as_json=as_json)


@sessions.command(rich_help_panel=SESSIONS)
def verify(
    session_id: SessionId,
    *,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Compare a stored session with its events.

    If retention has trimmed the first events, the rest is compared. Lists the fields that differ, never their contents,
    and exits with 1 if there are any.

    Examples:
      turnstream verify chat-1
      turnstream verify chat-1 --json | jq .differences
    """
    from turnstream_cli.verify import verify_session
    from turnstream_service.program import run

    run(verify_session(redis_url, session_id, as_json=as_json), log_level, as_json=as_json)


@sessions.command(rich_help_panel=SESSIONS)
def tail(  # noqa: PLR0913 - what to show
    *,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only events of this type; can be repeated.", autocompletion=complete_event_type),
    ] = None,
    session: Annotated[str | None, typer.Option(metavar="ID", help="Only events of this session.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="AGE", help="Also events of the last 30s, 10m, 2h or 1d.")
    ] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Also the events that are kept.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Wait for new events, or end after the past ones.")
    ] = True,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="End after N events.")] = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Show events as they happen, until Ctrl-C, and past ones first if requested.

    No event is skipped while the server is down or fails over; lost events are reported. With
    [bold]--log-level info[/bold] you see when the connection is lost and restored.

    [bold]--no-follow[/bold] shows the events that are kept, or those since an age, up to now, and ends.

    Types: session-created, session-updated, session-deleted, message-added, message-updated, message-removed,
    token-metrics-updated, session-config-updated, context-window-critical.

    Examples:
      turnstream tail --type message-added --type context-window-critical --json
      turnstream tail --session chat-1 --since 1h --no-follow
      turnstream tail --no-follow --limit 10
    """
    if since is not None and from_beginning:
        raise typer.BadParameter("cannot be used with --from-beginning, another start", param_hint="--since")

    from turnstream_cli.tail import TailOptions, event_classes, start_of
    from turnstream_cli.tail import tail as show_events
    from turnstream_service.program import run

    start = start_of(since, past=from_beginning or not follow)
    options = TailOptions(event_classes(kinds or []), session, start, limit, follow)
    run(show_events(redis_url, options, as_json=as_json), log_level, until_stopped=True, as_json=as_json)
