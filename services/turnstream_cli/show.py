"""`turnstream get` and `turnstream list`: what is stored."""

from collections.abc import AsyncIterator

import typer

from turnstream import ListSessions, SessionInfo, SessionNotFound, Turnstream
from turnstream_cli.output import print_infos, print_json, print_messages, print_session


async def get_session(redis_url: str | None, session_id: str, *, as_json: bool) -> None:
    """Print a session with its messages."""
    async with Turnstream.connect(redis_url) as ts:
        session = await ts.sessions.get_session(session_id)
    if session is None:
        raise SessionNotFound(session_id)
    if as_json:
        print_json(session)
        return
    print_session(session)
    print_messages(session.messages)


async def list_page(redis_url: str | None, query: ListSessions, *, as_json: bool) -> None:
    """Print a page of sessions, and on standard error how to get the next one."""
    async with Turnstream.connect(redis_url) as ts:
        page = await ts.execute(query)
    if as_json:
        for info in page.sessions:
            print_json(info)
    else:
        print_infos(page.sessions)
    if page.next_cursor:
        typer.echo(f"There are more: --cursor {page.next_cursor}", err=True)


async def list_all(redis_url: str | None, query: ListSessions, *, as_json: bool) -> None:
    """Print every session that the query wants, whatever its limit."""
    async with Turnstream.connect(redis_url) as ts:
        wanted = _wanted(ts, query)
        if as_json:
            async for info in wanted:
                print_json(info)
        else:
            print_infos([info async for info in wanted])


async def _wanted(ts: Turnstream, query: ListSessions) -> AsyncIterator[SessionInfo]:
    async for info in ts.sessions.iterate():
        same = (
            query.provider in {None, info.provider},
            query.model in {None, info.model},
            query.is_active in {None, info.is_active},
        )
        if all(same):
            yield info
