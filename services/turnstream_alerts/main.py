"""The command `turnstream-alerts`: arguments and stop requests around a durable subscription."""

import argparse
import asyncio
import math
from collections.abc import Sequence

from turnstream import Turnstream
from turnstream.events import ContextWindowCritical
from turnstream_alerts.alerts import Alerts
from turnstream_service import program
from turnstream_service.arguments import LogLevel, version_text
from turnstream_service.stop_requests import StopRequests

_DESCRIPTION = "Log each session whose context window gets full, and count them by model. An example of a subscriber."

_EPILOG = """SIGTERM and SIGINT end it when the current events are handled; a second one ends it at once. Exit status: 0
stopped, 2 no server answers at the start, or a setting is wrong. It waits for a server that stops answering later."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until stopped."""
    parser = argparse.ArgumentParser(prog="turnstream-alerts", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=version_text())
    parser.add_argument("--redis-url", metavar="URL", help="where the server is; TURNSTREAM_REDIS_URL if not given")
    parser.add_argument("--log-level", choices=[str(level) for level in LogLevel], default="info")
    parser.add_argument("--every", metavar="SECONDS", type=float, default=60.0, help="between two logs of the counts")
    options = parser.parse_args(arguments)
    if not 0 < options.every < math.inf:
        parser.error(f"--every takes seconds above 0, not {options.every:g}")
    program.run(watch(options.redis_url, options.every), options.log_level, until_stopped=True)


async def watch(redis_url: str | None, every: float) -> None:
    """Handle this process's share of the crossings; other processes of the same name have the rest."""
    requests = StopRequests()
    if connecting := asyncio.current_task():
        requests.hand_to(connecting.cancel)
    requests.listen()
    async with Turnstream.connect(redis_url) as ts:
        alerts = Alerts(ts)
        consumer = ts.consumer("alerts", ContextWindowCritical)
        requests.hand_to(consumer.stop)
        reports = asyncio.create_task(_report(alerts, every))
        try:
            await consumer.run(alerts.handle)
        finally:
            reports.cancel()
            alerts.report()


async def _report(alerts: Alerts, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        alerts.report()
