"""From the command line to an exit status: one worker here, or a supervisor and its children."""

import asyncio
import os
import socket
from collections.abc import Callable

from turnstream.errors import ConfigurationError
from turnstream.settings import load_settings
from turnstream_service import exit_status, program
from turnstream_worker.arguments import Options
from turnstream_worker.service import check, serve
from turnstream_worker.supervisor import Supervisor


def run(options: Options) -> int:
    """Run as the command line says until stopped; return the exit status."""
    program.start(options.log_level)
    try:
        with asyncio.Runner(loop_factory=_loop_factory(options)) as runner:
            return runner.run(_run(options))
    except ConfigurationError as error:
        program.print_error(error)
        return exit_status.UNUSABLE


async def _run(options: Options) -> int:
    settings = load_settings()
    if options.processes == 1:
        await serve(settings, stop_at_eof=options.stop_at_eof)
        return exit_status.DONE
    # A fault of the server or the settings is logged once, and not by every child.
    await check(settings)
    name = settings.worker_id or f"{socket.gethostname()}-{os.getpid()}"
    supervisor = Supervisor(name, options.processes, options.log_level, final_status=exit_status.UNUSABLE)
    return await supervisor.run(stop_at_eof=options.stop_at_eof)


def _loop_factory(options: Options) -> Callable[[], asyncio.AbstractEventLoop]:
    if options.processes == 1:
        try:
            import uvloop  # noqa: PLC0415 - an extra
        except ImportError:
            pass
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop
