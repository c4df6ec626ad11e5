"""The command line of `turnstream subscriptions …`: durable subscriptions."""
# ruff: noqa: PLC0415 - `import turnstream` takes half a second

from typing import Annotated, Final

import typer

from turnstream_cli.options import RedisUrl, SessionId, Yes
from turnstream_service.arguments import LogLevel
from turnstream_service.options import HELP_SETTINGS, AsJson, Log, check_finite

Name = Annotated[str, typer.Argument(metavar="NAME", help="The subscription's name.")]
Timeout = Annotated[
    float, typer.Option(min=0, callback=check_finite, help="Seconds to wait for the consumer that has to do it.")
]

WAIT: Final = 30.0

subscriptions = typer.Typer(no_args_is_help=True, context_settings=HELP_SETTINGS)


@subscriptions.callback()
def of_subscriptions() -> None:
    """Look at durable subscriptions: their progress, and the events that their handlers refused.

    A handler that fails gets an event again; the session of the event is retried, and other sessions continue.
    After some attempts the session is parked: its events wait, in order, until you [bold]redrive[/bold] or
    [bold]discard[/bold] them.

    Example:
      turnstream subscriptions list
    """


@subscriptions.command("list")
def list_subscriptions(*, as_json: AsJson = False, redis_url: RedisUrl = None, log_level: Log = LogLevel.ERROR) -> None:
    """List subscriptions with their consumers, their lag, and their retried and parked sessions.

    Example:
      turnstream subscriptions list
    """
    from turnstream_cli.durable_subscriptions import print_subscriptions
    from turnstream_service.program import run

    run(print_subscriptions(redis_url, as_json=as_json), log_level, as_json=as_json)


@subscriptions.command("lag")
def lag(name: Name, *, as_json: AsJson = False, redis_url: RedisUrl = None, log_level: Log = LogLevel.ERROR) -> None:
    """Show the progress of a subscription in each partition; the lag counts events of all types.

    Examples:
      turnstream subscriptions lag billing
      turnstream subscriptions lag billing --json | jq -s 'map(.behind) | add'
    """
    from turnstream_cli.durable_subscriptions import print_lag
    from turnstream_service.program import run

    run(print_lag(redis_url, name, as_json=as_json), log_level, as_json=as_json)


@subscriptions.command("reset")
def reset(
    name: Name,
    *,
    to: Annotated[
        str,
        typer.Option("--to", metavar="POSITION", help="now, beginning, an age as 10m or 2h, or a stored position."),
    ],
    yes: Yes = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Move a subscription to another position: back, to handle events again, or ahead, to skip some.

    The checkpoints are overwritten, and this cannot be undone. Its consumers notice within a second or two; parked
    sessions stay parked.

    Example:
      turnstream subscriptions reset billing --to 2h
    """
    from turnstream_cli.durable_subscriptions import reset_to, start_of
    from turnstream_service.confirmation import confirm
    from turnstream_service.program import reported, run

    start = start_of(to)
    with reported(as_json=as_json):
        confirm(f"Overwrite the checkpoints of {name}?", confirmed=yes)
    run(reset_to(redis_url, name, start, as_json=as_json), log_level, as_json=as_json)


@subscriptions.command("parked")
def parked(name: Name, *, as_json: AsJson = False, redis_url: RedisUrl = None, log_level: Log = LogLevel.ERROR) -> None:
    """List the sessions of which an event was not handled, the one that waits for longest first.

    Retried sessions are tried again at their next attempt; parked ones wait for you.

    Example:
      turnstream subscriptions parked billing
    """
    from turnstream_cli.durable_subscriptions import print_parked
    from turnstream_service.program import run

    run(print_parked(redis_url, name, as_json=as_json), log_level, as_json=as_json)


@subscriptions.command("redrive")
def redrive(
    name: Name,
    session_id: SessionId,
    *,
    timeout: Timeout = WAIT,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Have the waiting events of a session handled now, in order; after the last one it is not retried or parked.

    It stops at the first that fails, and exits with 1: the rest waits, and is tried again as if it was new. Needs a
    running consumer.

    Example:
      turnstream subscriptions redrive billing chat-1
    """
    from turnstream_cli.durable_subscriptions import redrive_session
    from turnstream_service.program import run

    run(redrive_session(redis_url, name, session_id, timeout, as_json=as_json), log_level, as_json=as_json)


@subscriptions.command("discard")
def discard(  # noqa: PLR0913 - the options that all have
    name: Name,
    session_id: SessionId,
    *,
    timeout: Timeout = WAIT,
    yes: Yes = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Drop the waiting events of a session without handling them. This cannot be undone. Needs a running consumer.

    Example:
      turnstream subscriptions discard billing chat-1
    """
    from turnstream_cli.durable_subscriptions import discard_session
    from turnstream_service.confirmation import confirm
    from turnstream_service.program import reported, run

    with reported(as_json=as_json):
        confirm(f"Drop the waiting events of session {session_id} for {name}?", confirmed=yes)
    run(discard_session(redis_url, name, session_id, timeout, as_json=as_json), log_level, as_json=as_json)


@subscriptions.command("forget")
def forget(
    name: Name,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    log_level: Log = LogLevel.ERROR,
) -> None:
    """Delete an unused subscription with its checkpoints and parked events. This cannot be undone.

    Example:
      turnstream subscriptions forget billing
    """
    from turnstream_cli.durable_subscriptions import forget_subscription
    from turnstream_service.confirmation import confirm
    from turnstream_service.program import reported, run

    with reported(as_json=as_json):
        confirm(f"Delete the subscription {name} with its checkpoints and parked events?", confirmed=yes)
    run(forget_subscription(redis_url, name, as_json=as_json), log_level, as_json=as_json)
