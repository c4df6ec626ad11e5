"""The command line of `turnstream relay parked …`: sessions with an event that an endpoint refused."""
# ruff: noqa: PLC0415 - `import turnstream` takes half a second, and the relay's libraries are an extra

from typing import Annotated

import typer

from turnstream_relay.options import Config, EndpointName, Timeout
from turnstream_service import exit_status, program
from turnstream_service.arguments import LogLevel
from turnstream_service.options import HELP_SETTINGS, AsJson, Log, RedisUrl

parked = typer.Typer(no_args_is_help=True, context_settings=HELP_SETTINGS)


@parked.callback()
def of_parked() -> None:
    """Look at sessions with an event that an endpoint refused, and deliver them again or drop them.

    The event is retried, and all later events of its session wait for that endpoint. Other sessions and endpoints
    continue. After a day, unless the file gives another time, the session is parked.

    Example:
      turnstream relay parked list --config relay.toml
    """


@parked.command("list")
def list_parked(
    config: Config,
    *,
    endpoint: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this endpoint.")] = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """List sessions that wait: how many events, the answer to the first of them, and when it is tried again.

    Example:
      turnstream relay parked list --config relay.toml
    """
    from turnstream_relay import operations
    from turnstream_relay.configuration import load_configuration
    from turnstream_relay.output import print_parked

    async def listing() -> None:
        configuration = load_configuration(config)
        if endpoint is not None:
            operations.check_endpoint(configuration, endpoint)
        names = sorted(configuration.endpoints) if endpoint is None else [endpoint]
        print_parked(await operations.parked_sessions(redis_url, names), as_json=as_json)

    program.run(listing(), log_level, as_json=as_json)


@parked.command("redrive")
def redrive_parked(
    config: Config,
    endpoint: EndpointName,
    session_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[SESSION]…", help="The sessions' ids; none for all.")
    ] = None,
    *,
    timeout: Timeout = 30.0,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Deliver events that wait now, in order, until one is not taken; a relay that runs does it.

    Example:
      turnstream relay parked redrive --config relay.toml --endpoint billing
    """
    from turnstream_relay import operations
    from turnstream_relay.configuration import load_configuration
    from turnstream_service.output import printable_line

    async def redriving() -> None:
        operations.check_endpoint(load_configuration(config), endpoint)
        waiting = 0
        async for session_id, left in operations.redrive(redis_url, endpoint, session_ids or [], timeout):
            waiting += left
            typer.echo(f"{printable_line(session_id)}: {f'{left} events still wait' if left else 'delivered'}")
        if waiting:
            raise typer.Exit(exit_status.REFUSED)

    program.run(redriving(), log_level)


@parked.command("discard")
def discard_parked(  # noqa: PLR0913 - the options that all have
    config: Config,
    endpoint: EndpointName,
    session_id: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    timeout: Timeout = 30.0,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    r"""Drop the parked events of a session; its later events are delivered again. This cannot be undone.

    Example:
      turnstream relay parked discard --config relay.toml \
        --endpoint billing chat-1
    """
    from turnstream_relay import operations
    from turnstream_relay.configuration import load_configuration
    from turnstream_service.confirmation import confirm

    async def discarding() -> None:
        operations.check_endpoint(load_configuration(config), endpoint)
        confirm(f"Drop the parked events of session {session_id} for {endpoint}?", confirmed=yes)
        await operations.discard(redis_url, endpoint, session_id, timeout)
        typer.echo("discarded")

    program.run(discarding(), log_level)
