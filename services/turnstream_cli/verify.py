"""`turnstream verify`: whether what is stored of a session is what its events say."""

import typer

from turnstream import Turnstream
from turnstream.admin import Verification
from turnstream.logging import printable
from turnstream_service.exit_status import REFUSED
from turnstream_service.output import print_json


async def verify_session(redis_url: str | None, session_id: str, *, as_json: bool) -> None:
    """Print how a session compares with its events; ends with 1 where it differs."""
    async with Turnstream.connect(redis_url) as ts:
        found = await ts.verify(session_id)
    if as_json:
        print_json(found)
    else:
        typer.echo(_summary(found))
        for difference in found.differences:
            typer.echo(f"  {printable(difference.path)} {printable(difference.problem)}")
    if not found.equal:
        raise typer.Exit(REFUSED)


def _summary(found: Verification) -> str:
    if found.history_from is None:
        history = "none of its events is kept any more"
    elif found.complete:
        history = f"{found.events} events, from its creation on"
    else:
        history = f"{found.events} events; history begins at version {found.history_from}"
    verdict = "equal" if found.equal else "different"
    return f"{verdict}: version {found.version} of {printable(found.session_id)} against its events ({history})"
