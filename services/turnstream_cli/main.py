"""The command line of `turnstream`. Each command is imported when it runs, so that `--help` is quick."""
# ruff: noqa: PLC0415 - `import turnstream` takes half a second

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from turnstream_cli.dead_letter_commands import malformed, parked
from turnstream_cli.options import DEFAULT_DIRECTORY, Processes, RedisUrl, RoleName, Yes
from turnstream_cli.session_commands import sessions
from turnstream_cli.subscriptions import subscriptions
from turnstream_service.arguments import LogLevel
from turnstream_service.help_text import reflow, reflow_help
from turnstream_service.options import HELP_SETTINGS, AsJson, Log, Version
from turnstream_service.program import end_with_output

EPILOG: Final = """\
Every setting of a client or a worker can be given in the environment, as TURNSTREAM_REDIS_URL or TURNSTREAM_NAMESPACE.

A server's URL is redis://host:port, unix:///path, redis+cluster://host:port,… or redis+sentinel://host:port,…/service;
encrypted it is rediss://, rediss+cluster:// or rediss+sentinel://.

Exit status: 0 done; 1 the command was refused, or what is stored cannot be read or differs; 2 the server does not
answer, it or a setting does not fit, or the line was mistyped; 130 and 143 ended by Ctrl-C and SIGTERM.

With --json each line of standard output is a JSON value. An error is the last line of standard error, as JSON: its
class as error, its text as message, and its fields. Before it there may be a line with the commandId, and lines with a
warning. A mistyped line is explained in text.
"""

PROGRAMS: Final = "Programs"
OPERATIONS: Final = "Operations"
"""The headings under which the help lists commands; those of sessions have their own."""

app = typer.Typer(
    name="turnstream",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=reflow(EPILOG),
    context_settings=HELP_SETTINGS,
)
app.add_typer(sessions)
app.add_typer(parked, name="parked", rich_help_panel=OPERATIONS)
app.add_typer(malformed, name="malformed", rich_help_panel=OPERATIONS)
app.add_typer(subscriptions, name="subscriptions", rich_help_panel=OPERATIONS)


def main() -> None:
    """Run what was typed."""
    end_with_output(lambda: app(prog_name="turnstream"))


@app.callback()
def turnstream(*, version: Version = False) -> None:
    """The state of LLM chat sessions, kept as a stream of commands and events on Redis or Valkey.

    Examples:
      turnstream demo
      turnstream dev
      turnstream say chat-1 user "What is a monad?" --create
    """


@app.command(rich_help_panel=PROGRAMS)
def demo(
    sessions: Annotated[int, typer.Option(min=1, help="Chats that are written while a worker is killed.")] = 400,
    messages: Annotated[int, typer.Option(min=1, help="Messages of each.")] = 24,
) -> None:
    """Show in about 20 seconds what Turnstream promises, on a throw-away server with two worker processes.

    A chat that fills its context window; two programs that write to one chat; a worker that is killed in the middle of
    10,000 commands; a consumer that is killed. Each is checked: what is stored, and the events, against what was sent.

    It leaves nothing on the machine, and exits 1 if a check fails. Needs the extra `embedded`.

    Example:
      turnstream demo --sessions 100
    """
    from turnstream_cli.demo.tour import show
    from turnstream_cli.demo.worker_failure import Load
    from turnstream_cli.worker_processes import forget_credentials
    from turnstream_service.program import run

    forget_credentials()
    run(show(Load(sessions, messages)), LogLevel.ERROR)


@app.command(rich_help_panel=PROGRAMS)
def worker(redis_url: RedisUrl = None, processes: Processes = 1, log_level: Log = LogLevel.INFO) -> None:
    """Apply commands, until stopped: the same as [bold]turnstream-worker[/bold].

    Start as many as you like, anywhere; they divide the partitions among themselves. SIGTERM and Ctrl-C finish the
    batch in flight, hand the partitions over and exit 0; a second one stops immediately, which is safe.

    Example:
      turnstream worker --redis-url redis://10.0.0.5:6379/0 --processes 4
    """
    from turnstream_cli.worker_processes import worker_command, worker_environment

    command = worker_command("--processes", str(processes), "--log-level", log_level)
    # This process becomes the worker: signals, standard streams and exit status are its own.
    os.execve(command[0], command, worker_environment(redis_url))  # noqa: S606 - no shell is wanted


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
    rich_help_panel=PROGRAMS,
)
def relay(context: typer.Context) -> None:
    """Deliver events to HTTP endpoints: the same as [bold]turnstream-relay[/bold]. Needs the extra `relay`.

    It has subcommands: [bold]turnstream relay --help[/bold] lists them.

    Example:
      turnstream relay run --config relay.toml
    """
    from turnstream_cli.worker_processes import service_command

    command = service_command("turnstream_relay", *context.args)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


@app.command(rich_help_panel=PROGRAMS)
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

    Example:
      turnstream dev --directory ~/sessions --port 6380
    """
    from turnstream_cli.dev import serve
    from turnstream_cli.worker_processes import forget_credentials
    from turnstream_service.program import run

    forget_credentials()
    run(serve(directory, port, processes, log_level), log_level, until_stopped=True)


@app.command(rich_help_panel=OPERATIONS)
def workers(*, as_json: AsJson = False, redis_url: RedisUrl = None, log_level: Log = LogLevel.ERROR) -> None:
    """List the live workers, and how many partitions each owns.

    Example:
      turnstream workers
    """
    from turnstream_cli.workers import print_workers
    from turnstream_service.program import run

    run(print_workers(redis_url, as_json=as_json), log_level, as_json=as_json)


@app.command(rich_help_panel=OPERATIONS)
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

    Example:
      turnstream setup
    """
    from turnstream_cli.deployment import set_up_deployment
    from turnstream_service.program import run

    run(set_up_deployment(redis_url, remove_old=remove_old, as_json=as_json), log_level, as_json=as_json)


@app.command(rich_help_panel=OPERATIONS)
def migrate(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the keys, and write nothing.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Rename the keys of a deployment of layout 1 to those of layout 2.

    Stop all workers, consumers and producers first; it refuses while a worker or a consumer is alive. After an
    interruption, run it again to continue; until then no program starts. Waiting commands are applied afterwards.

    Examples:
      turnstream migrate --dry-run
      turnstream migrate --yes
    """
    from turnstream_cli.deployment import migrate_deployment
    from turnstream_service.confirmation import confirm
    from turnstream_service.program import reported, run

    with reported(as_json=as_json):
        confirm("Rename the keys, so that earlier versions cannot use them?", confirmed=yes or dry_run)
    run(migrate_deployment(redis_url, dry_run=dry_run, as_json=as_json), log_level, as_json=as_json)


@app.command(rich_help_panel=OPERATIONS)
def acl(
    *,
    role: Annotated[
        RoleName | None,
        typer.Option(help="Only the user of this role, instead of all."),
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="TURNSTREAM_NAMESPACE if not given.")] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="The user's name; the role's if not given.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Holds the password; only its hash is printed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the rules of the server's access control list: a user for each role, with the permissions that it needs.

    Without a password there is a placeholder, which begins with [bold]>change-me[/bold]: replace it.

    Examples:
      turnstream acl --namespace ts > users.acl
      turnstream acl --role producer --user web --password-file web.password
    """
    from turnstream_cli.acl import print_rules
    from turnstream_service.program import reported

    with reported(as_json=as_json):
        print_rules(role, namespace, user, password_file, as_json=as_json)


@app.command(rich_help_panel=OPERATIONS)
def asyncapi() -> None:
    """Print the wire format as an AsyncAPI document: for producers and subscribers in other languages.

    It describes how to find the partition of a session, the entries of the streams and the messages of the channels,
    with schemas and examples of every command, reply and event. It needs no server.

    Example:
      turnstream asyncapi > asyncapi.json
    """
    from importlib.resources import files

    typer.echo(files("turnstream").joinpath("asyncapi.json").read_text(encoding="utf-8"), nl=False)


reflow_help(app)
