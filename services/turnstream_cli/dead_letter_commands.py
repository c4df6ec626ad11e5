"""The command line of `turnstream parked …` and `turnstream malformed …`: commands that could not be applied."""
# ruff: noqa: PLC0415 - `import turnstream` takes half a second

from typing import Annotated

import typer

from turnstream_cli.options import RedisUrl, SessionId, Yes
from turnstream_service.arguments import LogLevel
from turnstream_service.options import HELP_SETTINGS, AsJson, Log

EntryId = Annotated[str, typer.Argument(metavar="ID", help="The entry's id, as the listing shows it.")]

parked = typer.Typer(no_args_is_help=True, context_settings=HELP_SETTINGS)
malformed = typer.Typer(no_args_is_help=True, context_settings=HELP_SETTINGS)


@parked.callback()
def of_parked() -> None:
    """Look at sessions whose commands cannot be applied; apply them later, or remove them.

    A command that meets a bug, or crashes workers, is parked with its session:
    the commands after it wait, in order, until you redrive them. All other sessions continue.

    [bold]list[/bold] shows the parked sessions and why, [bold]show[/bold] the waiting commands. After a fix,
    [bold]redrive[/bold]; if a command can never be applied, [bold]discard[/bold] it and redrive the rest.

    Example:
      turnstream parked list
    """


@parked.command("list")
def list_parked(*, as_json: AsJson = False, redis_url: RedisUrl = None, log_level: Log = LogLevel.ERROR) -> None:
    """List parked sessions, the one that waits for longest first; nothing of their contents.

    Examples:
      turnstream parked list
      turnstream parked list --json | jq -r .sessionId
    """
    from turnstream_cli.parked import print_parked
    from turnstream_service.program import run

    run(print_parked(redis_url, as_json=as_json), log_level, as_json=as_json)


@parked.command("show")
def show_parked(
    session_id: SessionId, *, as_json: AsJson = False, redis_url: RedisUrl = None, log_level: Log = LogLevel.ERROR
) -> None:
    """Show the commands that wait in a parked session, in their order, with their contents.

    The first one is the one that could not be applied.

    Example:
      turnstream parked show chat-1
    """
    from turnstream_cli.parked import print_queue
    from turnstream_service.program import run

    run(print_queue(redis_url, session_id, as_json=as_json), log_level, as_json=as_json)


@parked.command("redrive")
def redrive_parked(
    session_id: SessionId, *, as_json: AsJson = False, redis_url: RedisUrl = None, log_level: Log = LogLevel.ERROR
) -> None:
    """Apply the waiting commands of a session, in order; after the last one the session is not parked.

    It stops at the first that fails again, says why, and exits with 1: the rest keeps waiting. Needs a running worker.

    Example:
      turnstream parked redrive chat-1
    """
    from turnstream_cli.parked import redrive
    from turnstream_service.program import run

    run(redrive(redis_url, session_id, as_json=as_json), log_level, as_json=as_json)


@parked.command("discard")
def discard_parked(
    session_id: SessionId,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every waiting command, not only the first.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Remove the first waiting command of a session, the one that failed: it will never be applied.

    The rest stays parked: redrive it then. This cannot be undone. Needs a running worker.

    Examples:
      turnstream parked discard chat-1
      turnstream parked discard chat-1 --all --yes
    """
    from turnstream_cli.parked import discard
    from turnstream_service.confirmation import confirm
    from turnstream_service.program import reported, run

    commands = "all waiting commands" if everything else "the first waiting command"
    with reported(as_json=as_json):
        confirm(f"Discard {commands} of session {session_id}?", confirmed=yes)
    run(discard(redis_url, session_id, everything=everything, as_json=as_json), log_level, as_json=as_json)


@malformed.callback()
def of_malformed() -> None:
    """Look at entries of the command streams that could not be read; send them once more, or forget them.

    They come from programs that write to the streams themselves, or from a producer that is newer than the workers:
    upgrade the workers, then [bold]redrive[/bold].

    Example:
      turnstream malformed list
    """


@malformed.command("list")
def list_malformed(*, as_json: AsJson = False, redis_url: RedisUrl = None, log_level: Log = LogLevel.ERROR) -> None:
    """List entries that could not be read, with the reason; nothing of their contents.

    Example:
      turnstream malformed list
    """
    from turnstream_cli.malformed import print_malformed
    from turnstream_service.program import run

    run(print_malformed(redis_url, as_json=as_json), log_level, as_json=as_json)


@malformed.command("show")
def show_malformed(
    entry_id: EntryId, *, as_json: AsJson = False, redis_url: RedisUrl = None, log_level: Log = LogLevel.ERROR
) -> None:
    """Show what is kept of an entry, with its contents.

    Example:
      turnstream malformed show 12:1767225600000-0
    """
    from turnstream_cli.malformed import print_entry
    from turnstream_service.program import run

    run(print_entry(redis_url, entry_id, as_json=as_json), log_level, as_json=as_json)


@malformed.command("redrive")
def redrive_malformed(
    entry_id: EntryId, *, as_json: AsJson = False, redis_url: RedisUrl = None, log_level: Log = LogLevel.ERROR
) -> None:
    """Append an entry to its command stream again, after all waiting commands.

    An entry that still cannot be read comes back with another id. Entries that were too large to be kept whole are
    refused.

    Example:
      turnstream malformed redrive 12:1767225600000-0
    """
    from turnstream_cli.malformed import redrive
    from turnstream_service.program import run

    run(redrive(redis_url, entry_id, as_json=as_json), log_level, as_json=as_json)


@malformed.command("discard")
def discard_malformed(
    entry_id: EntryId,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Delete an entry. This cannot be undone.

    Example:
      turnstream malformed discard 12:1767225600000-0
    """
    from turnstream_cli.malformed import discard
    from turnstream_service.confirmation import confirm
    from turnstream_service.program import reported, run

    with reported(as_json=as_json):
        confirm(f"Discard the malformed entry {entry_id}?", confirmed=yes)
    run(discard(redis_url, entry_id, as_json=as_json), log_level, as_json=as_json)
