"""The command line of `turnstream-relay`, also available as `turnstream relay`."""
# ruff: noqa: PLC0415 - `import turnstream` takes half a second, and the relay's libraries are an extra

import signal
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from turnstream_relay.options import Config, EndpointName
from turnstream_relay.parked import parked
from turnstream_service import exit_status, program
from turnstream_service.arguments import LogLevel
from turnstream_service.help_text import reflow, reflow_help
from turnstream_service.options import HELP_SETTINGS, Log, RedisUrl, Version, check_finite
from turnstream_service.stop_requests import exit_on_signals

EXTRA: Final = ("httpcore2", "httpx2", "standardwebhooks")

EPILOG: Final = """\
Exit status: 0 done or told to stop, 1 an endpoint did not take what it was sent or the command was refused, 2 the
file, the server or a setting does not fit, 143 or 130 told to stop twice.
"""


app = typer.Typer(
    name="turnstream-relay",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=reflow(EPILOG),
    context_settings=HELP_SETTINGS,
)
app.add_typer(parked, name="parked")


def main() -> None:
    """Run what was typed: as `turnstream-relay`, or as `turnstream relay`, which runs this package."""
    name = Path(sys.argv[0]).name
    try:
        program.end_with_output(lambda: app(prog_name=name if name == app.info.name else "turnstream relay"))
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        sys.stderr.write(
            f"error: {error.name} is not installed; the relay needs an extra: pip install 'turnstream[relay]'\n"
        )
        sys.exit(exit_status.UNUSABLE)


@app.callback()
def relay(*, version: Version = False) -> None:
    """Deliver session events to HTTP endpoints, signed by the Standard Webhooks convention.

    Each event is delivered at least once, those of a session in their order. Start as many as you like, anywhere; they
    divide the work among themselves. Needs the extra `relay`.

    Example:
      turnstream relay check --config relay.toml
    """


@app.command()
def run(
    config: Config,
    *,
    every: Annotated[
        float, typer.Option("--report-every", min=1, callback=check_finite, help="Seconds between two reports.")
    ] = 60.0,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.INFO,
) -> None:
    """Deliver until stopped.

    SIGTERM and Ctrl-C finish the attempts in flight, which get five seconds, and exit 0; a second one stops
    immediately, and the events in flight are posted again. SIGHUP reads the file again, and the files that it names,
    without losing an event.

    Example:
      turnstream relay run --config relay.toml
    """
    exit_on_signals()
    # Nothing was read yet that could be read again.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    from turnstream_relay.program import run_relay

    program.run(run_relay(redis_url, config, every), log_level, until_stopped=True)


@app.command()
def check(config: Config, *, log_level: Log = LogLevel.ERROR) -> None:
    """Check the file and its secrets, and send every endpoint a signed message of the type `ping`.

    Example:
      turnstream relay check --config relay.toml
    """
    from turnstream.logging import printable
    from turnstream_relay.configuration import load_configuration
    from turnstream_relay.endpoint_check import check_endpoints

    async def checking() -> None:
        checked = await check_endpoints(load_configuration(config))
        for each in checked:
            typer.echo(f"{each.name}: {'ok' if each.is_well else 'failed'}, {printable(each.answer.reason)}")
        if not all(each.is_well for each in checked):
            raise typer.Exit(exit_status.REFUSED)

    program.run(checking(), log_level)


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

    Example:
      turnstream relay replay --config relay.toml --endpoint billing --since 1h
    """
    from turnstream.client.subscriptions.start import parse_age
    from turnstream_relay import operations
    from turnstream_relay.configuration import load_configuration
    from turnstream_service.output import time_text

    async def replaying() -> None:
        operations.check_endpoint(load_configuration(config), endpoint)
        await operations.replay(redis_url, endpoint, start)
        typer.echo(f"{endpoint} gets the events since {time_text(start)} again")

    try:
        start = parse_age(since)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
    program.run(replaying(), log_level)


@app.command()
def secret() -> None:
    """Print a new secret, for an environment variable or a file.

    Example:
      (umask 077; turnstream relay secret > billing.secret)
    """
    from turnstream_relay.signatures import new_secret

    typer.echo(new_secret())


reflow_help(app)
