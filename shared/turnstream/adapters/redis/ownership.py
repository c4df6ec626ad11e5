"""Who applies the commands of which partition (design §5)."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

from turnstream.adapters.redis.channels import RedisChannels
from turnstream.adapters.redis.checks import check_deployment
from turnstream.adapters.redis.faults import understood
from turnstream.adapters.redis.keys import LAYOUT, MemberKeys
from turnstream.adapters.redis.membership import RedisMembership, raise_failure
from turnstream.adapters.redis.registry import Registry
from turnstream.adapters.redis.retention import Retention
from turnstream.adapters.redis.server import Server
from turnstream.adapters.redis.settling import Settling
from turnstream.backoff import Faults
from turnstream.codec.records import decode_type_sequences
from turnstream.errors import KeyUnusable
from turnstream.ports import START, PartitionState, entry_time
from turnstream.telemetry import get_logger

log = get_logger(__name__)

GROUP = "turnstream"
"""The consumer group that shows a partition's progress to standard tools; nobody reads through it."""

GENERATION_BYTES = 8


class RedisOwnership(RedisMembership[PartitionState]):
    """The members are the workers, and the hash is the partition's own."""

    def __init__(self, server: Server, channels: RedisChannels, settling: Settling | None) -> None:
        """Use a server; with `settling`, what a former owner could not tell of is told by that."""
        super().__init__(server, Registry(server, channels, MemberKeys(server.keys.workers, server.keys.changes)))
        self._settling = settling
        self._retention = Retention(server)
        self._faults: Faults[int] = Faults()
        """Partitions that cannot be tidied."""

    async def release(self, states: Sequence[PartitionState]) -> None:
        """Give partitions up, and ring the bell for who waits for them."""
        if self._settling:
            await self._settling.told(state.partition for state in states)
        await super().release(states)

    async def tidy(self, states: Sequence[PartitionState]) -> Sequence[int]:
        """Take events that are not kept any longer and show progress to standard tools, off the hot path.

        A command stream whose ids are ahead of the clock is replaced when it is empty; the partitions are returned
        whose streams were replaced, which must be taken again.

        Raises:
            Unavailable: no node answers.

        """
        due = [state for state in states if not self._faults.rests(state.partition)]
        answers = await asyncio.gather(*(self._tidy(state) for state in due), return_exceptions=True)
        for state, answer in zip(due, answers, strict=True):
            if not isinstance(answer, KeyUnusable):
                self._faults.over(state.partition)
            elif self._faults.failed(state.partition, answer.reason):
                log.warning("partition cannot be tidied", partition=state.partition, error=str(answer))
        raise_failure([answer for answer in answers if not isinstance(answer, KeyUnusable)])
        return [state.partition for state, answer in zip(due, answers, strict=True) if answer is True]

    def _keys(self, partition: int) -> tuple[str, str]:
        keys = self._server.partition(partition)
        return keys.lease, keys.partition

    def _types(self, partition: int) -> Mapping[str, str]:
        return self._server.partition(partition).types

    async def _run_take(self, partition: int, own_before: str, name: str, dead_owner: str) -> list[Any]:
        server, keys = self._server, self._server.partition(partition)
        arguments = (
            *(own_before, name, self._lease_ms),
            *(len(server.keys.partitions), LAYOUT, secrets.token_hex(GENERATION_BYTES)),
            *(int(server.knows_replication), dead_owner, int(self._settling is not None), self._window_ms),
        )
        try:
            answer: list[Any] = await server.scripts.take.run(
                server.calls(partition),
                [keys.lease, keys.partition, keys.commands, keys.events],
                arguments,
            )
        except ResponseError as error:
            if not str(error).startswith("LAYOUT"):
                raise
            # If it is the deployment that was made otherwise, that is what is wrong.
            await check_deployment(server)
            raise KeyUnusable(keys.partition, _made_otherwise(error, server)) from error
        return answer

    def _history(self, state: PartitionState) -> str:
        # Without commands no commit would notice, and what has survived unapplied, or untold, would stay so.
        return state.replication_id

    async def _taken(self, partition: int, answer: list[Any]) -> PartitionState:
        token, replication_id, cursor, generation, sequence, types, suspects, stable, outcomes_at, now = answer
        state = PartitionState(
            partition=partition,
            token=token.decode(),
            replication_id=replication_id.decode(),
            cursor=cursor.decode(),
            generation=generation.decode(),
            sequence=int(sequence),
            type_sequences=decode_type_sequences(types),
            # No more than were in its hands.
            suspects=min(suspects, self._server.settings.batch_commands),
        )
        self._server.clock(partition).start(int(outcomes_at), entry_time(state.cursor), int(now))
        if state.cursor == START:
            # Perhaps all keys are gone, the deployment's own among them; then somebody may have made another one.
            await check_deployment(self._server)
        if self._settling:
            await self._settling.take_over(state, int(stable))
        return state

    async def _tidy(self, state: PartitionState) -> bool:
        """Tidy a partition; tell whether its command stream was replaced."""
        number, calls = state.partition, self._server.calls(state.partition)
        keys, script = self._server.partition(number), self._server.scripts.progress
        await understood(self._retention.trim(state), calls, keys.types)
        clock = self._server.clock(number)
        arguments = (state.token, GROUP, self._window_ms, clock.moment().before)
        answer = await understood(script.run(calls, [keys.partition, keys.commands], arguments), calls, keys.types)
        if not answer:
            return False
        now, last_id = answer
        clock.hear(now)
        if last_id:
            log.warning(
                "command stream replaced: its ids were ahead of the clock", partition=number, id=last_id.decode()
            )
        return bool(last_id)

    @property
    def _window_ms(self) -> int:
        return max(int(self._server.settings.deduplication_window * 1000), 1)


def _made_otherwise(error: ResponseError, server: Server) -> str:
    _, partitions, layout = str(error).split()
    wanted = f"{len(server.keys.partitions)} partitions and layout {LAYOUT}"
    return f"it says that it was made for {partitions} partitions and layout {layout}, and the deployment has {wanted}"
