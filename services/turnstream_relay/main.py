"""The command `turnstream-relay`, also reached as `turnstream relay`: what can be typed."""
# ruff: noqa: PLC0415 - `import turnstream` takes half a second, and the relay's libraries are an extra

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, TypeVar

import typer

Result = TypeVar("Result")

REFUSED: Final = 1
MISFIT: Final = 2
EXTRA: Final = ("aiolimiter", "httpcore2", "httpx2", "standardwebhooks")
SETTINGS: Final = {"help_option_names": ["-h", "--help"]}

EPILOG: Final = """\
Exit status: 0 done or told to stop, 1 an endpoint did not take what it was sent or the command was refused, 2 the
file, the server or a setting does not fit.
"""


class LogLevel(StrEnum):
    """The least important messages to log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The TOML file of endpoints.")]
RedisUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="Where the server is; TURNSTREAM_REDIS_URL if not given.")
]
Log = Annotated[LogLevel, typer.Option("--log-level", help="Least important messages to log, on standard error.")]
EndpointName = Annotated[str, typer.Option("--endpoint", metavar="NAME", help="The endpoint's name in the file.")]
Timeout = Annotated[float, typer.Option(min=0, help="Seconds to wait for the relay that has to do it.")]

app = typer.Typer(
    name="turnstream-relay",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=EPILOG,
    context_settings=SETTINGS,
)
parked = typer.Typer(no_args_is_help=True, context_settings=SETTINGS)
app.add_typer(parked, name="parked")


def main() -> None:
    """Run what was typed."""
    try:
        app(prog_name="turnstream-relay")
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        sys.exit(f"error: {error.name} is not installed; the relay needs the extra: pip install 'turnstream[relay]'")


@app.callback()
def relay() -> None:
    """Deliver session events to HTTP endpoints, signed by the Standard Webhooks convention.

    Each event is delivered at least once, those of a session in their order. Start as many as you like, anywhere; they
    divide the work among themselves. Needs the extra `relay`.

    Begin with:  [bold]turnstream relay check --config relay.toml[/bold]
    """


@app.command()
def run(
    config: Config,
    *,
    every: Annotated[float, typer.Option("--report-every", min=1, help="Seconds between two reports.")] = 60.0,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.INFO,
) -> None:
    """Deliver until stopped.

    SIGTERM and Ctrl-C finish the attempts in hand and exit 0; a second one stops at once, and what was in hand comes
    again. SIGHUP reads the file and its secrets again; no event is lost by that.

    Example:  turnstream relay run --config relay.toml
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)

    from turnstream_relay.running import run_relay

    _run(run_relay(redis_url, config, every), log_level)


@app.command()
def check(config: Config, *, log_level: Log = LogLevel.ERROR) -> None:
    """Check the file and its secrets, and send every endpoint a signed message of the type `ping`.

    Example:  turnstream relay check --config relay.toml
    """
    from turnstream_relay.checking import check_endpoints
    from turnstream_relay.configuration import load_configuration

    async def checking() -> None:
        checked = await check_endpoints(load_configuration(config))
        for each in checked:
            typer.echo(f"{each.name}: {'ok' if each.is_well else 'failed'}, {each.answer.reason}")
        if not all(each.is_well for each in checked):
            raise typer.Exit(REFUSED)

    _run(checking(), log_level)


@app.command()
def replay(
    config: Config,
    endpoint: EndpointName,
    since: Annotated[str, typer.Option(metavar="AGE", help="Events of the last 30s, 10m, 2h or 1d.")],
    *,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Have the events since a while ago delivered again to an endpoint, as far as they are kept.

    A relay that runs notices within seconds; otherwise the next one does it.

    Example:  turnstream relay replay --config relay.toml --endpoint billing --since 1h
    """
    from turnstream.client.listening.moments import moment
    from turnstream_relay import operating
    from turnstream_relay.configuration import load_configuration

    async def replaying() -> None:
        operating.check_endpoint(load_configuration(config), endpoint)
        await operating.replay(redis_url, endpoint, start)
        typer.echo(f"{endpoint} gets the events since {start:%Y-%m-%d %H:%M:%S} UTC again")

    try:
        start = moment(since)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
    _run(replaying(), log_level)


@app.command()
def secret() -> None:
    """Print a new secret, for an environment variable or a file.

    Example:  turnstream relay secret > billing.secret
    """
    from turnstream_relay.signing import new_secret

    typer.echo(new_secret())


@parked.callback()
def of_parked() -> None:
    """Look at sessions of which an endpoint did not take an event, and deliver them again or drop them.

    Behind some attempts the event waits, and with it all later events of its session for that endpoint. Other sessions
    go on, and so do other endpoints.
    """


@parked.command("list")
def list_parked(
    config: Config,
    *,
    endpoint: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this endpoint.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of text for people.")] = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """List parked sessions with the number of events that wait and the answer to the first of them.

    Example:  turnstream relay parked list --config relay.toml
    """
    from turnstream_relay import operating
    from turnstream_relay.configuration import load_configuration
    from turnstream_relay.output import print_parked

    async def listing() -> None:
        configuration = load_configuration(config)
        if endpoint is not None:
            operating.check_endpoint(configuration, endpoint)
        names = sorted(configuration.endpoints) if endpoint is None else [endpoint]
        print_parked(await operating.parked_sessions(redis_url, names), as_json=as_json)

    _run(listing(), log_level)


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
    """Deliver parked events again, in order, until one is not taken again; a relay that runs does it.

    Example:  turnstream relay parked redrive --config relay.toml --endpoint billing
    """
    from turnstream_relay import operating
    from turnstream_relay.configuration import load_configuration
    from turnstream_relay.output import printable

    async def redriving() -> None:
        operating.check_endpoint(load_configuration(config), endpoint)
        left = await operating.redrive(redis_url, endpoint, session_ids or [], timeout)
        for session_id, count in left.items():
            typer.echo(f"{printable(session_id)}: {f'{count} events still wait' if count else 'delivered'}")
        if any(left.values()):
            raise typer.Exit(REFUSED)

    _run(redriving(), log_level)


@parked.command("discard")
def discard_parked(
    config: Config,
    endpoint: EndpointName,
    session_id: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")],
    *,
    timeout: Timeout = 30.0,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Drop the parked events of a session; what happens to it from then on is delivered again."""
    from turnstream_relay import operating
    from turnstream_relay.configuration import load_configuration

    async def discarding() -> None:
        operating.check_endpoint(load_configuration(config), endpoint)
        await operating.discard(redis_url, endpoint, session_id, timeout)
        typer.echo("discarded")

    _run(discarding(), log_level)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """End at once: nothing has begun, so nothing is to be finished."""
    os._exit(0)


def _run(work: Coroutine[Any, Any, None], log_level: LogLevel) -> None:
    """Run a command's coroutine; an expected failure becomes one line and an exit status."""
    from turnstream import ConfigurationError, TurnstreamError, Unavailable
    from turnstream.telemetry import configure_logging

    configure_logging(log_level)
    # They log every request with its whole URL, which may be a secret by itself.
    for library in ("httpx2", "httpcore2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        asyncio.run(work)
    except TurnstreamError as error:
        typer.echo(f"error: {error}", err=True)
        misfit = isinstance(error, ConfigurationError | Unavailable)
        raise typer.Exit(MISFIT if misfit else REFUSED) from None
    except asyncio.CancelledError:
        # Told to stop before a server answered.
        raise typer.Exit from None
