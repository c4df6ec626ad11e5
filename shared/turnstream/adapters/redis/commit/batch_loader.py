"""The reads of a batch in one call (design §3); only the bodies of a tail take a second one."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from turnstream.adapters.redis.keys import PartitionKeys
from turnstream.adapters.redis.outcome_times import OutcomeBuckets
from turnstream.adapters.redis.server import ScriptArgs, portions_of
from turnstream.codec.records import decode_header, decode_message, decode_outcome
from turnstream.domain.models import ChatMessage
from turnstream.ports import Loaded, LoadedSession, Needs, Outcome, SessionNeeds, StoredHeader


class BatchLoader:
    """Turns needs into reads, and the answers into what is stored."""

    def __init__(self, keys: PartitionKeys, buckets: OutcomeBuckets, needs: Needs) -> None:
        """Write down the reads and, in the same order, what is done with their answers."""
        self.reads = ScriptArgs()
        self._takers: list[Callable[[Any], None]] = []
        self._keys = keys
        self._needs = needs
        self._headers: dict[str, StoredHeader] = {}
        self._messages: dict[str, dict[str, ChatMessage]] = {session_id: {} for session_id in needs.sessions}
        self._tails: dict[str, list[str]] = {}
        self._outcomes: dict[str, Outcome] = {}
        for session_id, wanted in needs.sessions.items():
            self._read_session(session_id, wanted)
        for bucket, command_ids in buckets.lookups(needs.commands).items():
            self._read_outcomes(keys.outcomes(bucket), command_ids)

    def take(self, answers: Sequence[Any]) -> None:
        """Understand the answers to the reads."""
        for taker, answer in zip(self._takers, answers, strict=True):
            taker(answer)

    def read_tails(self) -> bool:
        """Ask for the bodies of the tails, once their ids are known; False if there is nothing to ask."""
        self.reads, self._takers = ScriptArgs(), []
        for session_id, ids in self._tails.items():
            self._read_messages(session_id, [i for i in ids if i not in self._messages[session_id]])
        return bool(self._takers)

    def loaded(self) -> Loaded:
        """Return everything that was found."""
        sessions = {session_id: self._session(session_id) for session_id in self._needs.sessions}
        return Loaded(sessions, self._outcomes)

    def _session(self, session_id: str) -> LoadedSession:
        messages = self._messages[session_id]
        # A new owner has removed missing messages; the commit of this one will be refused.
        tail = tuple(messages[i] for i in self._tails.get(session_id, ()) if i in messages)
        return LoadedSession(self._headers.get(session_id), messages, tail)

    def _read_session(self, session_id: str, wanted: SessionNeeds) -> None:
        if wanted.header:
            self.reads.add("HGETALL", self._keys.session(session_id))
            self._takers.append(partial(self._take_header, session_id))
        if wanted.message_ids:
            self._read_messages(session_id, list(wanted.message_ids))
        if wanted.tail:
            self.reads.add("ZRANGE", self._keys.order(session_id), -wanted.tail, -1)
            self._takers.append(partial(self._take_tail, session_id))

    def _read_messages(self, session_id: str, message_ids: Sequence[str]) -> None:
        for some in portions_of(message_ids):
            self.reads.add("HMGET", self._keys.messages(session_id), *some)
            self._takers.append(partial(self._take_messages, session_id, some))

    def _read_outcomes(self, key: str, command_ids: Sequence[str]) -> None:
        for some in portions_of(command_ids):
            self.reads.add("HMGET", key, *some)
            self._takers.append(partial(self._take_outcomes, some))

    def _take_header(self, session_id: str, pairs: Sequence[bytes]) -> None:
        if pairs:
            self._headers[session_id] = decode_header(pairs)

    def _take_tail(self, session_id: str, ids: Sequence[bytes]) -> None:
        self._tails[session_id] = [message_id.decode() for message_id in ids]

    def _take_messages(self, session_id: str, ids: Sequence[str], bodies: Sequence[bytes | None]) -> None:
        found = {i: decode_message(body) for i, body in zip(ids, bodies, strict=True) if body is not None}
        self._messages[session_id].update(found)

    def _take_outcomes(self, command_ids: Sequence[str], records: Sequence[bytes | None]) -> None:
        found = {i: decode_outcome(r) for i, r in zip(command_ids, records, strict=True) if r is not None}
        self._outcomes.update(found)
