"""The command line of `turnstream`. Each command is imported when it runs, so that `--help` is quick."""
# ruff: noqa: PLC0415 - `import turnstream` takes half a second

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from turnstream_cli.aside import malformed, parked
from turnstream_cli.options import (
    DEFAULT_DIRECTORY,
    AsJson,
    Log,
    LogLevel,
    Processes,
    RedisUrl,
    RoleName,
    Version,
    check_finite,
)
from turnstream_cli.subscriptions import subscriptions

EPILOG: Final = """\
Every setting of a client or a worker can be given in the environment, as TURNSTREAM_REDIS_URL or TURNSTREAM_NAMESPACE.

A server's URL is redis://host:port, unix:///path, redis+cluster://host:port,… or redis+sentinel://host:port,…/service;
encrypted it is rediss://, rediss+cluster:// or rediss+sentinel://.

Exit status: 0 done; 1 the command was refused, or what is stored cannot be read or differs; 2 the server does not
answer, it or a setting does not fit, or the line was mistyped; 130 and 143 ended by Ctrl-C and SIGTERM.

With --json an error is one line of JSON on standard error: its class as error, its text as message, and its fields.
What is wrong with the line itself is told as text.
"""

app = typer.Typer(
    name="turnstream",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(parked, name="parked")
app.add_typer(malformed, name="malformed")
app.add_typer(subscriptions, name="subscriptions")


def main() -> None:
    """Run what was typed."""
    app(prog_name="turnstream")


@app.callback()
def turnstream(*, version: Version = False) -> None:
    """The state of LLM chat sessions, kept as a stream of commands and events on Redis or Valkey.

    Try it, with nothing else installed:  [bold]turnstream demo[/bold]

    Have a server and workers to play with:  [bold]turnstream dev[/bold]
    """


@app.command()
def demo(
    sessions: Annotated[int, typer.Option(min=1, help="Conversations of the second act.")] = 400,
    messages: Annotated[int, typer.Option(min=1, help="Messages of each.")] = 25,
) -> None:
    """Show what Turnstream does, on a throw-away server with two worker processes.

    First one conversation that fills its context window, step by step with its events; then several hundred at the same
    time, from several producers, with a check that every session holds exactly its messages, in order.

    It takes a few seconds and leaves nothing behind. Needs the extra `embedded`.
    """
    from turnstream_cli.demo.crowd import Crowd
    from turnstream_cli.demo.play import play
    from turnstream_cli.launching import forget_credentials
    from turnstream_cli.running import run

    forget_credentials()
    run(play(Crowd(sessions, messages)), LogLevel.ERROR)


@app.command()
def worker(redis_url: RedisUrl = None, processes: Processes = 1, log_level: Log = LogLevel.INFO) -> None:
    """Apply commands, until stopped: the same as [bold]turnstream-worker[/bold].

    Start as many as you like, anywhere; they divide the partitions among themselves. SIGTERM and Ctrl-C finish the
    batch in flight, hand the partitions over and exit 0; a second one stops immediately, which is safe.

    Example:  turnstream worker --redis-url redis://10.0.0.5:6379/0 --processes 4
    """
    from turnstream_cli.launching import worker_command, worker_environment

    command = worker_command("--processes", str(processes), "--log-level", log_level)
    # This process becomes the worker: signals, standard streams and exit status are its own.
    os.execve(command[0], command, worker_environment(redis_url))  # noqa: S606 - no shell is wanted


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def relay(context: typer.Context) -> None:
    """Deliver events to HTTP endpoints: the same as [bold]turnstream-relay[/bold]. Needs the extra `relay`.

    It has subcommands: [bold]turnstream relay --help[/bold] lists them.
    """
    from turnstream_cli.launching import service_command

    command = service_command("turnstream_relay", *context.args)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


@app.command()
def dev(
    directory: Annotated[Path, typer.Option(help="Where the data is kept.")] = DEFAULT_DIRECTORY,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="The server's port; a free one if not given.")
    ] = None,
    processes: Processes = 1,
    log_level: Log = LogLevel.INFO,
) -> None:
    """Run a server and workers while you develop; prints the URL to connect to. Ctrl-C ends both.

    The data stays in the directory, for the next time. Needs the extra `embedded`.

    Example:  turnstream dev --directory ~/sessions --port 6380
    """
    from turnstream_cli.dev import serve
    from turnstream_cli.launching import forget_credentials
    from turnstream_cli.running import run

    forget_credentials()
    run(serve(directory, port, processes, log_level), log_level, until_stopped=True)


@app.command()
def send(  # noqa: PLR0913 - how to send
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="The command's type on the wire, as add-message.")],
    text: Annotated[
        str, typer.Argument(metavar="JSON", help="The command's fields; - reads them from standard input.")
    ],
    *,
    command_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The command's id; sent again under it, it is applied once.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0, callback=check_finite, help="Seconds to wait for the outcome; TURNSTREAM_TIMEOUT if not given."
        ),
    ] = None,
    apply_within: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", callback=check_finite, help="When so many have passed, it is not applied any more."
        ),
    ] = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Send any command, wait until a worker has applied it, and print the result.

    Types: create-session, update-session, delete-session, add-message, add-messages, update-message, remove-messages,
    update-token-metrics, get-session, list-sessions. Field names are camelCase; a session id is made if none is given.

    If no outcome comes in time, send it again with the [bold]--command-id[/bold] of the error: it is applied once.

    Examples:
      turnstream send create-session '{"config": {"provider": "openai", "model": "gpt-4"}}'

      turnstream send update-token-metrics '{"sessionId": "…", "promptTokens": 50, "completionTokens": 80}'

      turnstream send add-message - --command-id order-17 < message.json
    """
    from turnstream_cli.running import run
    from turnstream_cli.send import SendOptions, send_command

    sending = SendOptions(command_id, timeout, apply_within)
    run(send_command(redis_url, kind, text, sending, as_json=as_json), log_level, as_json=as_json)


@app.command()
def get(
    session_id: Annotated[str, typer.Argument(metavar="ID", help="The session's id.")],
    *,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Show a session with all its messages.

    Example:  turnstream get 0199… --json | jq .metrics
    """
    from turnstream_cli.running import run
    from turnstream_cli.show import get_session

    run(get_session(redis_url, session_id, as_json=as_json), log_level, as_json=as_json)


@app.command()
def verify(
    session_id: Annotated[str, typer.Argument(metavar="ID", help="The session's id.")],
    *,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Compare a stored session with its events.

    If retention has trimmed the first events, the rest is compared. Lists the fields that differ, never their contents,
    and exits with 1 if there are any.

    Example:  turnstream verify 0199… --json | jq .differences
    """
    from turnstream_cli.running import run
    from turnstream_cli.verify import verify_session

    run(verify_session(redis_url, session_id, as_json=as_json), log_level, as_json=as_json)


@app.command("list")
def list_sessions(  # noqa: PLR0913 - the options of a query
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Sessions of a page.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Go on where the page before ended.")] = None,
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

    Example:  turnstream list --model gpt-4 --active --limit 20
    """
    if everything and cursor is not None:
        raise typer.BadParameter("is for pages, and --all shows all of them", param_hint="--cursor")

    from turnstream import ListSessions
    from turnstream_cli.running import run
    from turnstream_cli.show import list_all, list_page

    query = ListSessions(limit=limit, cursor=cursor, provider=provider, model=model, is_active=active)
    show = list_all if everything else list_page
    run(show(redis_url, query, as_json=as_json), log_level, as_json=as_json)


@app.command()
def tail(  # noqa: PLR0913 - what to show
    *,
    kinds: Annotated[
        list[str] | None, typer.Option("--type", help="Only events of this type; can be repeated.")
    ] = None,
    session: Annotated[str | None, typer.Option(metavar="ID", help="Only events of this session.")] = None,
    since: Annotated[str | None, typer.Option(metavar="AGE", help="Also those of the last 30s, 10m, 2h or 1d.")] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Also all that are kept.")] = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Show events as they happen, until Ctrl-C, and past ones first if requested.

    No event is skipped while the server is down or fails over; lost events are reported. With
    [bold]--log-level info[/bold] you see when the connection is lost and restored.

    Types: session-created, session-updated, session-deleted, message-added, message-updated, message-removed,
    token-metrics-updated, session-config-updated, context-window-critical.

    Example:  turnstream tail --type message-added --type context-window-critical --json
    """
    if since is not None and from_beginning:
        raise typer.BadParameter("is one start, --from-beginning another", param_hint="--since")

    from turnstream_cli.running import run
    from turnstream_cli.tail import event_classes, follow, since_moment

    types = event_classes(kinds or [])
    start = None if since is None else since_moment(since)
    following = follow(redis_url, types, session, start or ("beginning" if from_beginning else "now"), as_json=as_json)
    run(following, log_level, until_stopped=True, as_json=as_json)


@app.command()
def setup(
    *,
    remove_old: Annotated[
        bool, typer.Option("--remove-old", help="Remove the functions of other versions, once no program runs these.")
    ] = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Create the deployment if there is none, and load the functions that clients call onto every primary.

    Workers do both on start-up. Run it if they may not, or if clients start first; a second run changes nothing.

    Example:  turnstream setup --redis-url redis://10.0.0.5:6379/0
    """
    from turnstream_cli.deploying import set_up_deployment
    from turnstream_cli.running import run

    run(set_up_deployment(redis_url, remove_old=remove_old, as_json=as_json), log_level, as_json=as_json)


@app.command()
def migrate(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the keys, and write nothing.")] = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Rename the keys of a deployment of layout 1 to those of layout 2.

    Stop all workers, consumers and producers first; it refuses while a worker or a consumer is alive. After an
    interruption, run it again to continue; until then no program starts. Waiting commands are applied afterwards.

    Example:  turnstream migrate --dry-run
    """
    from turnstream_cli.deploying import migrate_deployment
    from turnstream_cli.running import run

    run(migrate_deployment(redis_url, dry_run=dry_run, as_json=as_json), log_level, as_json=as_json)


@app.command()
def acl(
    *,
    role: Annotated[
        RoleName | None,
        typer.Option(help="What the user is for; all of them if not given."),
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="The deployment's; TURNSTREAM_NAMESPACE if not given.")] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="The user's name; the role's if not given.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Holds the password; only its hash is printed.")
    ] = None,
) -> None:
    """Print the rules of the server's access control list: a user for each role, with the permissions that it needs.

    Without a password there is a placeholder, which begins with [bold]>change-me[/bold]: replace it.

    Examples:
      turnstream acl --namespace ts > users.acl

      turnstream acl --role producer --user web --password-file web.password >> users.acl
    """
    from turnstream_cli.acl import print_rules
    from turnstream_cli.running import reported

    with reported():
        print_rules(role, namespace, user, password_file)


@app.command()
def asyncapi() -> None:
    """Print the wire format as an AsyncAPI document: for producers and subscribers in other languages.

    It describes how to find the partition of a session, the entries of the streams and the messages of the channels,
    with schemas and examples of every command, reply and event. It needs no server.

    Example:  turnstream asyncapi > asyncapi.json
    """
    from turnstream.asyncapi import render

    typer.echo(render(), nl=False)
