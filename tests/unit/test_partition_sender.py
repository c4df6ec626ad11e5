"""The sender of a partition: concurrent requests share a publication, in order; a failure reaches their callers."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from tests.unit.given import unhurried
from tests.waiting import SOON, wait_until

from turnstream.adapters.memory import MemoryBackend
from turnstream.client.replies.pending_commands import PendingCommands
from turnstream.client.sending.command_gateway import RESEND_FRACTION
from turnstream.client.sending.partition_sender import PartitionSender
from turnstream.client.sending.requests import MAX_BATCH, MAX_BATCH_BYTES
from turnstream.codec.envelope import decode_entry
from turnstream.errors import Overloaded, Unavailable
from turnstream.ports import START, CommandEntry, RawEntry

WINDOW = 600.0


class Recorded:
    """The queue of a backend that remembers what came together; shut, it lets nothing through."""

    def __init__(self, backend: MemoryBackend) -> None:
        self._queue = backend.queue
        self.publications: list[tuple[int, list[str]]] = []
        self.failures: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()

    async def publish(self, partition: int, entries: Sequence[CommandEntry]) -> None:
        self.publications.append((partition, [entry.command_id for entry in entries]))
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        await self._queue.publish(partition, entries)

    async def read(self, cursors: Mapping[int, str], count: int, block: float) -> Mapping[int, Sequence[RawEntry]]:
        return await self._queue.read(cursors, count, block)

    async def wake(self) -> None:
        await self._queue.wake()

    async def queued(self, partition: int = 0) -> list[str]:
        entries = (await self._queue.read({partition: START}, 10_000, 0.0)).get(partition, ())
        return [decode_entry(entry.fields).command_id for entry in entries]


@pytest.fixture
async def queue() -> Recorded:
    return Recorded(MemoryBackend(2))


def sender_of(queue: Recorded, window: float = WINDOW, partition: int = 0) -> PartitionSender:
    return PartitionSender(queue, partition, PendingCommands(2, window * RESEND_FRACTION))


def command(name: str, size: int = 2) -> CommandEntry:
    return CommandEntry(name, "delete-session", b"x" * size)


async def test_a_command_that_is_put_is_queued(queue: Recorded) -> None:
    await sender_of(queue).send([command("c1")])
    assert await queue.queued() == ["c1"]


async def test_concurrent_requests_share_a_batch(queue: Recorded) -> None:
    sender = sender_of(queue)
    await asyncio.gather(sender.send([command("c1")]), sender.send([command("c2")]), sender.send([command("c3")]))
    assert queue.publications == [(0, ["c1", "c2", "c3"])]


async def test_nothing_overtakes_commands_in_flight(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.open.clear()
    first = sender.send([command("c1")])
    await asyncio.sleep(0)
    others = [sender.send([command(name)]) for name in ("c2", "c3")]
    await asyncio.sleep(0)
    assert queue.publications == [(0, ["c1"])]
    queue.open.set()
    await asyncio.gather(first, *others)
    assert queue.publications == [(0, ["c1"]), (0, ["c2", "c3"])]


async def test_a_partition_that_is_slow_does_not_hold_up_others(queue: Recorded) -> None:
    queue.open.clear()
    waiting = sender_of(queue).send([command("c1")])
    await asyncio.sleep(0)
    other = sender_of(queue, partition=1).send([command("d1")])
    await asyncio.sleep(0)
    assert [partition for partition, _ in queue.publications] == [0, 1]
    queue.open.set()
    await asyncio.gather(waiting, other)


async def test_many_commands_travel_in_several_publications(queue: Recorded) -> None:
    names = [f"c{number}" for number in range(3 * MAX_BATCH - 1)]
    await sender_of(queue).send([command(name) for name in names])
    assert await queue.queued() == names
    assert max(len(together) for _, together in queue.publications) == MAX_BATCH


async def test_a_publication_has_no_more_bytes_than_it_may(queue: Recorded) -> None:
    third = MAX_BATCH_BYTES // 3
    await sender_of(queue).send([command(f"c{number}", third) for number in range(7)])
    assert [together for _, together in queue.publications] == [["c0", "c1", "c2"], ["c3", "c4", "c5"], ["c6"]]


async def test_a_larger_command_travels_alone(queue: Recorded) -> None:
    sizes = [2, 2 * MAX_BATCH_BYTES, 2]
    await sender_of(queue).send([command(f"c{number}", size) for number, size in enumerate(sizes)])
    assert [together for _, together in queue.publications] == [["c0"], ["c1"], ["c2"]]


@unhurried
@for_all(st.lists(st.lists(st.integers(1, MAX_BATCH_BYTES), min_size=1, max_size=8), max_size=8))
def test_whatever_is_put_is_queued_once_in_its_order(puts: list[list[int]]) -> None:
    async def run() -> tuple[list[str], list[str]]:
        queue = Recorded(MemoryBackend(1))
        sender = sender_of(queue)
        named = [[command(f"{i}.{j}", size) for j, size in enumerate(sizes)] for i, sizes in enumerate(puts)]
        await asyncio.gather(*(sender.send(entries) for entries in named))
        return await queue.queued(), [entry.command_id for entries in named for entry in entries]

    queued, put = asyncio.run(run())
    assert queued == put


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("failure", [Overloaded(100, 100), Unavailable("gone"), RuntimeError("a bug")], ids=repr)
async def test_a_failure_reaches_exactly_the_callers_it_concerns(queue: Recorded, failure: Exception) -> None:
    sender = sender_of(queue)
    queue.failures.append(failure)
    async with asyncio.timeout(SOON):
        hit = await asyncio.gather(*(sender.send([command(name)]) for name in ("c1", "c2")), return_exceptions=True)
        await sender.send([command("c3")])
    assert hit == [failure, failure]
    assert await queue.queued() == ["c3"]


async def test_requests_after_a_failure_are_still_sent(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.failures.append(Unavailable("gone"))
    queue.open.clear()
    first = sender.send([command("c1")])
    await asyncio.sleep(0)
    second = sender.send([command("c2")])
    queue.open.set()
    assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], Unavailable)
    await second
    assert await queue.queued() == ["c2"]


async def test_the_rest_of_a_request_is_not_sent_without_its_lost_part(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.failures.append(Unavailable("gone"))
    many = sender.send([command(f"c{number}") for number in range(MAX_BATCH + 5)])
    other = sender.send([command("other")])
    with pytest.raises(Unavailable):
        await many
    await other
    assert await queue.queued() == ["other"]


async def test_a_caller_that_gives_up_does_not_take_its_command_back(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.open.clear()
    given_up, kept = sender.send([command("c1")]), sender.send([command("c2")])
    await asyncio.sleep(0)
    given_up.cancel()
    queue.open.set()
    await kept
    assert await queue.queued() == ["c1", "c2"]


async def test_closing_waits_for_commands_in_flight(queue: Recorded) -> None:
    sender = sender_of(queue)
    put = sender.send([command(f"c{number}") for number in range(2 * MAX_BATCH)])
    await sender.aclose()
    assert put.done()
    assert len(await queue.queued()) == 2 * MAX_BATCH


# ── trying again ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_commands_that_may_be_queued_already_are_retried_in_order(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.failures += [Unavailable("gone")] * 3
    first = sender.send([command("c1")], SOON)
    await asyncio.sleep(0)
    second = sender.send([command("c2")], SOON)
    await asyncio.gather(first, second)
    assert queue.publications == [(0, ["c1"])] * 4 + [(0, ["c2"])]


async def test_a_full_stream_raises_at_once_or_is_waited_for(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.failures += [Overloaded(100, 100)] * 3
    with pytest.raises(Overloaded):
        await sender.send([command("c1")], SOON)
    await sender.send([command("c2")], SOON, wait=True)
    assert await queue.queued() == ["c2"]


async def test_a_caller_that_does_not_wait_for_room_is_not_delayed_by_one_that_does(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.failures += [Overloaded(100, 100)] * 2
    patient = sender.send([command("c1")], SOON, wait=True)
    impatient = sender.send([command("c2")], SOON)
    also_patient = sender.send([command("c3")], SOON, wait=True)
    with pytest.raises(Overloaded):
        await impatient
    assert not patient.done()
    await asyncio.gather(patient, also_patient)
    assert await queue.queued() == ["c1", "c3"]


async def test_commands_that_may_be_queued_already_wait_while_the_stream_is_full(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.failures += [Unavailable("gone"), Overloaded(100, 100)]
    await sender.send([command("c1")], SOON)
    assert queue.publications == [(0, ["c1"])] * 3


async def test_waiting_ends_with_the_time_that_was_given(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.failures += [Overloaded(100, 100)] * 1_000
    with pytest.raises(Overloaded):
        await sender.send([command("c1")], 0.2, wait=True)
    queue.failures = [Unavailable("gone")] * 1_000
    with pytest.raises(Unavailable, match="gone"):
        await sender.send([command("c2")], 0.2)


async def test_callers_fail_in_the_order_of_their_deadlines(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.failures += [Unavailable("gone")] * 1_000
    brief, patient = sender.send([command("c1")], 0.1), sender.send([command("c2")], SOON)
    with pytest.raises(Unavailable, match="gone"):
        await brief
    assert not patient.done()
    queue.failures.clear()
    await patient
    assert await queue.queued() == ["c2"]


@pytest.mark.parametrize("failure", [Overloaded(100, 100), Unavailable("gone")], ids=repr)
async def test_a_short_deadline_after_longer_ones_expires_in_time(queue: Recorded, failure: Unavailable) -> None:
    sender = sender_of(queue)
    queue.failures += [failure] * 1_000
    patient, brief = (sender.send([command(name)], time, wait=True) for name, time in (("c1", SOON), ("c2", 0.1)))
    with pytest.raises(type(failure)):
        await brief
    assert not patient.done()
    queue.failures.clear()
    await patient
    assert await queue.queued() == ["c1"]


async def test_nothing_is_tried_again_when_workers_would_not_recognise_it(queue: Recorded) -> None:
    sender = sender_of(queue, 0.2)
    queue.failures += [Unavailable("gone")] * 1_000
    with pytest.raises(Unavailable, match="gone"):
        await sender.send([command("c1")], SOON)


async def test_waiting_for_room_ends_with_the_deduplication_window(queue: Recorded) -> None:
    sender = sender_of(queue, 0.5)
    queue.failures += [Unavailable("gone")]
    queue.failures += [Overloaded(100, 100)] * 1_000
    with pytest.raises(Overloaded):
        await sender.send([command("c1")], 1_000 * SOON, wait=True)


async def test_a_sender_survives_a_failed_second_publication(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.failures += [RuntimeError("a bug")]
    sender.resume([command("c1")])
    await sender.send([command("c2")])
    assert await queue.queued() == ["c2"]
    await sender.aclose()


async def test_earlier_publications_go_first(queue: Recorded) -> None:
    sender = sender_of(queue)
    await sender.send([command("c1")])
    queue.failures += [Unavailable("gone")] * 2
    under_way = sender.send([command("c2")], SOON)
    sender.pause("gone")
    later = sender.send([command("c3")], SOON)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not under_way.done()
    sender.resume([command("c1")])
    await asyncio.gather(under_way, later)
    order = [name for partition, names in queue.publications if partition == 0 for name in names]
    assert order[-3:] == ["c1", "c2", "c3"]
    await sender.aclose()


@pytest.mark.parametrize("before", [False, True])
async def test_a_caller_that_does_not_wait_for_room_is_not_delayed_by_resends(queue: Recorded, *, before: bool) -> None:
    sender = sender_of(queue)
    queue.failures += [Overloaded(100, 100)] * 1_000
    sender.resume([command("c1")])
    if before:
        await wait_until(lambda: bool(queue.publications))
    impatient = sender.send([command("c2")], SOON)
    patient = sender.send([command("c3")], SOON, wait=True)
    with pytest.raises(Overloaded):
        await impatient
    assert not patient.done()
    queue.failures.clear()
    await patient
    assert await queue.queued() == ["c1", "c3"]


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("failure", [Overloaded(100, 100), Unavailable("gone")], ids=repr)
async def test_a_deadline_after_resends_expires_in_time(queue: Recorded, failure: Unavailable, *, before: bool) -> None:
    sender = sender_of(queue)
    queue.failures += [failure] * 1_000
    sender.resume([command("c1")])
    if before:
        await wait_until(lambda: bool(queue.publications))
    with pytest.raises(type(failure)):
        await sender.send([command("c2")], 0.1, wait=True)
    queue.failures.clear()
    await sender.send([command("c3")], SOON)
    assert await queue.queued() == ["c1", "c3"]


async def test_a_short_deadline_expires_while_the_sender_is_paused(queue: Recorded) -> None:
    sender = sender_of(queue)
    sender.resume([command("c1")])
    sender.pause("gone")
    await asyncio.sleep(0)
    for first in ([], [sender.send([command("c2")], SOON)]):
        with pytest.raises(Unavailable, match="no connection for replies: gone"):
            await sender.send([command("c3")], 0.05)
        assert not any(put.done() for put in first)
    sender.resume([command("c1")])
    await sender.send([command("c4")], SOON)
    assert await queue.queued() == ["c1", "c2", "c4"]


async def test_a_second_publication_respects_the_byte_limit(queue: Recorded) -> None:
    sender = sender_of(queue)
    third = MAX_BATCH_BYTES // 3
    sizes = [third] * 4 + [2 * MAX_BATCH_BYTES, 2]
    sender.resume([command(f"c{number}", size) for number, size in enumerate(sizes)])
    await sender.aclose()
    assert [together for _, together in queue.publications] == [["c0", "c1", "c2"], ["c3"], ["c4"], ["c5"]]


async def test_nothing_is_published_again_when_workers_would_not_recognise_it(queue: Recorded) -> None:
    sender = sender_of(queue, 0.5)
    queue.failures += [Overloaded(100, 100)] * 1_000
    sender.resume([command("c1")])
    patient = sender.send([command("c2")], SOON, wait=True)
    await wait_until(lambda: (0, ["c2"]) in queue.publications)
    queue.failures.clear()
    await patient
    assert await queue.queued() == ["c2"]


async def test_a_circuit_that_stays_open_is_logged(queue: Recorded) -> None:
    sender = sender_of(queue)
    sender.pause("gone")
    with pytest.raises(Unavailable, match="no connection for replies: gone"):
        await sender.send([command("c1")], 0.05)
    assert queue.publications == []
    put = sender.send([command("c2")], SOON)
    await sender.aclose()
    await put


async def test_closing_ends_all_trying(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.failures += [Unavailable("gone")] * 1_000
    put = sender.send([command("c1")], SOON)
    await asyncio.sleep(0)
    async with asyncio.timeout(SOON):
        await sender.aclose()
    with pytest.raises(Unavailable):
        await put


# ── callers who wait no longer ───────────────────────────────────────────────────────────────────────────────────────


def soon() -> float:
    return asyncio.get_running_loop().time() + 0.05


async def test_a_caller_times_out_on_time_during_a_publication(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.open.clear()
    with pytest.raises(Unavailable):
        await sender.send([command("c1")], SOON, until=soon())
    # It may be queued; and the requests of others are.
    patient = sender.send([command("c2")], SOON)
    queue.open.set()
    await patient
    assert await queue.queued() == ["c1", "c2"]


async def test_a_command_not_begun_by_then_is_never_published(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.open.clear()
    first = sender.send([command("c1")], SOON)
    await wait_until(lambda: bool(queue.publications))
    behind = [sender.send([command(f"b{n}")], SOON, until=soon()) for n in range(3)]
    patient = sender.send([command("c2")], SOON, until=soon() + 10 * SOON)
    failures = await asyncio.gather(*behind, return_exceptions=True)
    assert [type(failure) for failure in failures] == [Unavailable] * 3
    queue.open.set()
    await asyncio.gather(first, patient)
    assert await queue.queued() == ["c1", "c2"]
    await sender.aclose()


async def test_the_reported_error_is_the_last_failure(queue: Recorded) -> None:
    sender = sender_of(queue)
    queue.failures += [Unavailable("the server is full")] * 1_000
    with pytest.raises(Unavailable, match="the server is full"):
        await sender.send([command("c1")], SOON, until=soon())


async def test_a_late_publication_has_less_time_left(queue: Recorded) -> None:
    sender = sender_of(queue)
    now = asyncio.get_running_loop().time()
    limited = [
        CommandEntry("past", "delete-session", b"{}", apply_within_ms=5_000, apply_until=now - 1),
        CommandEntry("left", "delete-session", b"{}", apply_within_ms=100_000, apply_until=now + 50),
        command("unlimited"),
    ]
    await sender.send(limited)
    entries = (await queue.read({0: START}, 10, 0.0))[0]
    past, left, unlimited = (decode_entry(entry.fields).apply_within_ms for entry in entries)
    assert (past, unlimited) == (0, None)
    assert left is not None
    assert 0 < left <= 50_000
