"""`turnstream get`, `turnstream list` and `turnstream delete`: the stored sessions."""

from collections.abc import AsyncIterator, Sequence

import typer

from turnstream import DeleteSession, SessionInfo, SessionNotFound, Turnstream, TurnstreamError
from turnstream.commands import ListSessions
from turnstream.logging import printable
from turnstream_cli.output import print_infos, print_messages, print_session
from turnstream_service.failures import Refused
from turnstream_service.output import print_if_empty, print_json


async def get_session(redis_url: str | None, session_id: str, last: int | None, *, as_json: bool) -> None:
    """Print a session with its messages, or with the last ones of them."""
    async with Turnstream.connect(redis_url) as ts:
        session = await ts.sessions.get(session_id, last=last)
    if session is None:
        raise SessionNotFound(session_id)
    if as_json:
        print_json(session)
        return
    print_session(session, last)
    print_messages(session.messages)


async def delete_session(redis_url: str | None, session_id: str, timeout: float | None, *, as_json: bool) -> None:
    """Delete a session."""
    async with Turnstream.connect(redis_url) as ts:
        deleted = await ts.execute(DeleteSession(session_id), timeout=timeout)
    if not deleted:
        raise SessionNotFound(session_id)
    if as_json:
        print_json({"sessionId": session_id, "status": "deleted"})
    else:
        typer.echo(f"deleted session {printable(session_id)}")


async def list_page(redis_url: str | None, query: ListSessions, *, as_json: bool) -> None:
    """Print a page of sessions, and on standard error how to get the next one."""
    async with Turnstream.connect(redis_url) as ts:
        page = await ts.execute(query)
    if as_json:
        for info in page.sessions:
            print_json(info)
    elif page.sessions or not page.unreadable:
        _print_found(page.sessions)
    if page.next_cursor:
        typer.echo(f"There are more: --cursor {page.next_cursor}", err=True)
    if page.unreadable:
        names = ", ".join(page.unreadable)
        raise Refused(f"Something else is stored in the place of {names}: turnstream verify says what")


async def list_all(redis_url: str | None, query: ListSessions, *, as_json: bool) -> None:
    """Print every session that the query wants, whatever its limit."""
    async with Turnstream.connect(redis_url) as ts:
        wanted = _wanted(ts, query)
        if as_json:
            async for info in wanted:
                print_json(info)
        else:
            await _print_all(wanted)


async def _print_all(wanted: AsyncIterator[SessionInfo]) -> None:
    """Print sessions as a table, which also holds those before one that cannot be read."""
    infos: list[SessionInfo] = []
    try:
        async for info in wanted:
            infos.append(info)  # noqa: PERF401 - what was read before an error counts
    except TurnstreamError:
        if infos:
            print_infos(infos)
        raise
    _print_found(infos)


def _print_found(infos: Sequence[SessionInfo]) -> None:
    if infos:
        print_infos(infos)
    else:
        print_if_empty("No session is found.", as_json=False)


async def _wanted(ts: Turnstream, query: ListSessions) -> AsyncIterator[SessionInfo]:
    async for info in ts.sessions.list():
        same = (
            query.provider in {None, info.provider},
            query.model in {None, info.model},
            query.is_active in {None, info.is_active},
        )
        if all(same):
            yield info
