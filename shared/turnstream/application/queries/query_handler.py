"""Queries that arrive over the command streams, from programs that cannot read the repository (design §10)."""

import msgspec

from turnstream.application.queries.session_list import page
from turnstream.codec.records import rejection_of
from turnstream.domain.command_specs import check_rules
from turnstream.domain.commands import GetSession, ListSessions, Query
from turnstream.domain.models import Session, SessionPage, session_of
from turnstream.errors import InvalidCommand, Rejected, SessionNotFound, VersionConflict
from turnstream.ports import MessageRange, Reply, SessionReader

MAX_ANSWER_BYTES = 1024 * 1024
"""The largest answer that travels as a reply, in bytes of JSON."""


class QueryHandler:
    """Answers queries from the repository, in its state after all earlier commands."""

    def __init__(self, reader: SessionReader, partitions: int) -> None:
        """Read all partitions of a deployment."""
        self._reader = reader
        self._partitions = partitions

    async def reply(self, command_id: str, query: Query) -> Reply:
        """Return the answer to a query, or why there is none."""
        try:
            check_rules(query)
            answer = await self._answer(query)
            return Reply(command_id, "ok", answer.version if isinstance(answer, Session) else 0, output=_json(answer))
        except Rejected as error:
            return Reply(command_id, "rejected", error=rejection_of(error))

    async def _answer(self, query: Query) -> Session | SessionPage | None:
        if isinstance(query, ListSessions):
            return await page(self._reader, self._partitions, query)
        return await get_session(self._reader, query)


async def get_session(reader: SessionReader, query: GetSession) -> Session | None:
    """Return a session whole, or `None`.

    Raises:
        VersionConflict: it does not have the version that the query expects.

    """
    try:
        session = session_of(*await reader.messages(query.session_id, MessageRange()))
    except SessionNotFound:
        session = None
    version = session.version if session else 0
    if query.expected_version not in (None, version):
        raise VersionConflict(query.session_id, query.expected_version or 0, version)
    return session


def _json(answer: Session | SessionPage | None) -> msgspec.Raw:
    encoded = msgspec.json.encode(answer)
    if len(encoded) > MAX_ANSWER_BYTES:
        sizes = f"The answer has {len(encoded)} bytes, a reply at most {MAX_ANSWER_BYTES}"
        raise InvalidCommand("$.sessionId", f"{sizes}: read it with ts.sessions.messages")
    return msgspec.Raw(encoded)
