"""Tickets: awaited repeatedly, each gets the result of its command, or learns that no worker answers."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from msgspec.structs import replace
from tests.waiting import SOON, time_passes, wait_until

from turnstream.adapters.memory import MemoryBackend
from turnstream.adapters.memory import channels as memory_channels
from turnstream.adapters.memory.channels import MemoryChannels, MemorySubscription
from turnstream.application.commands.decoder import payload_hash
from turnstream.client.guard import LoopGuard
from turnstream.client.replies.diagnosis import Diagnosis
from turnstream.client.replies.pending_commands import AwaitedReply
from turnstream.client.replies.resend_schedule import EXPIRY_WINDOWS
from turnstream.client.replies.ticket import Applied, Ticket
from turnstream.client.sending.command_gateway import CommandGateway
from turnstream.client.sending.requests import AddressedCommand
from turnstream.codec.envelope import decode_entry
from turnstream.codec.records import encode_replies, rejection_of
from turnstream.errors import CommandTimeout, DuplicateMismatch, SessionNotFound, Unavailable
from turnstream.ports import START, CommandEntry, Reply, Subscription


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend(2)


@pytest.fixture
async def gateway(backend: MemoryBackend) -> AsyncIterator[CommandGateway]:
    opened = gateway_of(backend)
    await opened.listen(0)
    yield opened
    await opened.aclose()


def gateway_of(backend: MemoryBackend, window: float = 600.0) -> CommandGateway:
    return CommandGateway(backend.channels, backend.queue, 2, "client", window)


def command(command_id: str, data: bytes = b"{}") -> AddressedCommand:
    return AddressedCommand(0, "s", CommandEntry(command_id, "delete-session", data))


def tickets(gateway: CommandGateway, *command_ids: str, timeout: float = SOON) -> list[Ticket]:
    sent = [command(command_id) for command_id in command_ids]
    with gateway._pending.register(sent, timeout) as answers:
        gateway._senders[0]._mark_queued([each.entry for each in sent])
        diagnosis = Diagnosis(MemoryBackend(1).ownership)
        return [
            Ticket(AwaitedReply(each, answer, diagnosis), timeout, LoopGuard())
            for each, answer in zip(sent, answers, strict=True)
        ]


def answer(backend: MemoryBackend, *answers: Reply, partition: int = 0, client: str = "client") -> None:
    backend.channels.publish(backend.channels.reply_channel(partition, client), encode_replies(answers))


async def test_a_ticket_gives_the_session_and_its_version(backend: MemoryBackend, gateway: CommandGateway) -> None:
    (ticket,) = tickets(gateway, "c1")
    answer(backend, Reply("c1", "ok", 7, output=msgspec.Raw(b"true")))
    applied = await ticket
    assert (applied.session_id, applied.version, applied.output) == ("s", 7, msgspec.Raw(b"true"))


async def test_a_ticket_can_be_awaited_again_and_by_many(backend: MemoryBackend, gateway: CommandGateway) -> None:
    (ticket,) = tickets(gateway, "c1")

    async def wait() -> Applied:
        return await ticket

    waiting = [asyncio.create_task(wait()) for _ in range(3)]
    answer(backend, Reply("c1", "ok", 7))
    assert [applied.version for applied in (*await asyncio.gather(*waiting), await ticket, await ticket)] == [7] * 5


async def test_a_caller_that_gives_up_does_not_take_the_answer_from_others(
    backend: MemoryBackend, gateway: CommandGateway
) -> None:
    (ticket,) = tickets(gateway, "c1")

    async def wait() -> Applied:
        return await ticket

    impatient = asyncio.create_task(wait())
    await asyncio.sleep(0)
    impatient.cancel()
    answer(backend, Reply("c1", "ok", 7))
    assert (await ticket).version == 7
    assert impatient.cancelled()
    assert ticket._reply._pending.waiting == []


async def test_many_wait_each_for_its_own_time(backend: MemoryBackend, gateway: CommandGateway) -> None:
    (ticket,) = tickets(gateway, "c1", timeout=0.0)
    patient = Ticket(ticket._reply, SOON, LoopGuard())

    async def wait() -> Applied:
        return await patient

    waiting = asyncio.create_task(wait())
    with pytest.raises(CommandTimeout):
        await ticket
    answer(backend, Reply("c1", "ok", 7))
    assert (await waiting).version == 7


async def test_a_connection_closed_while_opening_stays_closed(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe, released = backend.channels.subscribe, asyncio.Event()

    async def slowly(names: Sequence[str]) -> Subscription:
        await released.wait()
        return await subscribe(names)

    monkeypatch.setattr(backend.channels, "subscribe", slowly)
    tasks = asyncio.all_tasks()
    gateway = gateway_of(backend)
    opening = asyncio.create_task(gateway.listen(0))
    await asyncio.sleep(0)
    await gateway.aclose()
    released.set()
    with pytest.raises(Unavailable, match="closed"):
        await opening
    assert asyncio.all_tasks() == tasks


async def test_a_rejection_is_raised_as_its_class_each_time(backend: MemoryBackend, gateway: CommandGateway) -> None:
    (ticket,) = tickets(gateway, "c1")
    answer(backend, Reply("c1", "rejected", 0, rejection_of(SessionNotFound("s"))))
    for _ in range(2):
        with pytest.raises(SessionNotFound, match="Session not found with ID: s"):
            await ticket


async def test_each_reply_reaches_its_own_ticket(backend: MemoryBackend, gateway: CommandGateway) -> None:
    one, two, three = tickets(gateway, "c1", "c2", "c3")
    answer(backend, Reply("c3", "ok", 3), Reply("unknown", "ok", 9), Reply("c1", "ok", 1), partition=1)
    answer(backend, Reply("c2", "ok", 2))
    assert [(await ticket).version for ticket in (one, two, three)] == [1, 2, 3]


async def test_replies_to_other_clients_are_not_received(backend: MemoryBackend, gateway: CommandGateway) -> None:
    (ticket,) = tickets(gateway, "c1")
    answer(backend, Reply("c1", "ok", 9), client="other")
    answer(backend, Reply("c1", "ok", 7))
    assert (await ticket).version == 7


async def test_no_answer_in_time_names_the_command_for_a_resend(gateway: CommandGateway) -> None:
    (ticket,) = tickets(gateway, "c1", timeout=0.01)
    with pytest.raises(CommandTimeout) as caught:
        await ticket
    assert caught.value.command_id == "c1"
    assert 0.01 <= caught.value.timeout < SOON


async def test_an_answer_after_the_time_is_still_there(backend: MemoryBackend, gateway: CommandGateway) -> None:
    (ticket,) = tickets(gateway, "c1", timeout=0.01)
    with pytest.raises(CommandTimeout):
        await ticket
    answer(backend, Reply("c1", "ok", 7))
    await wait_until(lambda: "done=True" in repr(ticket))
    assert (await ticket).version == 7


async def test_a_command_that_is_sent_again_has_one_answer(backend: MemoryBackend, gateway: CommandGateway) -> None:
    (first,) = tickets(gateway, "c1")
    (again,) = tickets(gateway, "c1")
    answer(backend, Reply("c1", "ok", 7))
    assert ((await first).version, (await again).version) == (7, 7)


async def test_another_payload_under_an_id_in_flight_is_refused_without_side_effects(
    backend: MemoryBackend, gateway: CommandGateway
) -> None:
    (first,) = tickets(gateway, "c1")
    with pytest.raises(DuplicateMismatch), gateway._pending.register([command("c2"), command("c1", b"[]")]):
        pass
    answer(backend, Reply("c1", "ok", 7))
    assert (await first).version == 7


async def test_a_resend_that_could_not_be_queued_leaves_the_first_ticket_waiting(
    backend: MemoryBackend, gateway: CommandGateway
) -> None:
    (first,) = tickets(gateway, "c1")
    with pytest.raises(Unavailable), gateway._pending.register([command("c1")]):
        raise Unavailable("not queued")
    answer(backend, Reply("c1", "ok", 7))
    assert (await first).version == 7


async def test_a_send_that_fails_takes_no_answer_from_another_of_the_same_command(
    backend: MemoryBackend, gateway: CommandGateway
) -> None:
    sent, queued = command("c1"), asyncio.Event()

    async def send() -> Ticket:
        with gateway._pending.register([sent]) as (answered,):
            await queued.wait()
            gateway._senders[0]._mark_queued([sent.entry])
            diagnosis = Diagnosis(MemoryBackend(1).ownership)
            return Ticket(AwaitedReply(sent, answered, diagnosis), SOON, LoopGuard())

    first, second = asyncio.create_task(send()), asyncio.create_task(send())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    queued.set()
    ticket = await second
    answer(backend, Reply("c1", "ok", 7))
    assert (await ticket).version == 7


async def test_when_all_sends_of_a_command_have_failed_no_answer_is_expected(gateway: CommandGateway) -> None:
    with (
        pytest.raises(Unavailable),
        gateway._pending.register([command("c1")]),
        gateway._pending.register([command("c1")]),
    ):
        raise Unavailable("not queued")
    with gateway._pending.register([command("c1", b"other")]) as (answered,):
        assert answered.answer is None


async def test_another_command_under_an_id_that_is_waited_for_is_a_mismatch(
    backend: MemoryBackend, gateway: CommandGateway
) -> None:
    (first,) = tickets(gateway, "c1")
    with pytest.raises(DuplicateMismatch), gateway._pending.register([command("c0"), command("c1", b"other")]):
        pass
    answer(backend, Reply("c1", "ok", 7))
    assert (await first).version == 7
    assert [pending.command.entry.command_id for pending in gateway._pending] == []


async def test_a_late_answer_to_another_command_under_the_id_is_not_taken_for_ones_own(
    backend: MemoryBackend, gateway: CommandGateway
) -> None:
    """The first was sent twice, so it is answered twice."""
    first, other = (replace(command("mine", data), own_id=True) for data in (b"{}", b'{"sessionId":"s"}'))
    with gateway._pending.register([first]) as (answered,):
        pass
    answer(backend, Reply("mine", "ok", 7, payload_hash=payload_hash(first.entry)))
    await answered.within(SOON)
    with gateway._pending.register([other]) as (waiting,):
        pass
    answer(backend, Reply("mine", "ok", 7, payload_hash=payload_hash(first.entry)))
    answer(backend, Reply("mine", "rejected", 8, payload_hash=payload_hash(other.entry)))
    reply = await waiting.within(SOON)
    assert isinstance(reply, Reply)
    assert reply.version == 8


@pytest.mark.parametrize("payload", [b"", b"hello", b"[1]", b'[{"commandId":"\xff","status":"ok"}]', b"[" * 10_000])
async def test_payloads_that_are_no_reply_are_skipped(
    backend: MemoryBackend, gateway: CommandGateway, payload: bytes
) -> None:
    """Any program may publish on a reply channel."""
    (ticket,) = tickets(gateway, "c1")
    backend.channels.publish(backend.channels.reply_channel(0, "client"), payload)
    answer(backend, Reply("c1", "ok", 7))
    assert (await ticket).version == 7


# ── the end of listening ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_closing_fails_the_waiting_callers(gateway: CommandGateway) -> None:
    (ticket,) = tickets(gateway, "c1")
    await gateway.aclose()
    with pytest.raises(Unavailable, match="may still be applied"):
        await ticket


async def test_an_answer_that_came_before_the_end_stays(backend: MemoryBackend, gateway: CommandGateway) -> None:
    (ticket,) = tickets(gateway, "c1")
    answer(backend, Reply("c1", "ok", 7))
    await wait_until(lambda: "done=True" in repr(ticket))
    await gateway.aclose()
    assert (await ticket).version == 7


async def lose_the_subscription(backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as small:
        small.setattr(memory_channels, "MAX_WAITING", 1)
        for _ in range(3):
            answer(backend)
        await asyncio.sleep(0)


async def queued(backend: MemoryBackend) -> list[str]:
    entries = (await backend.queue.read({0: START}, 100, 0.0)).get(0, ())
    return [decode_entry(entry.fields).command_id for entry in entries]


async def test_commands_unanswered_when_the_subscription_is_lost_are_sent_again(
    backend: MemoryBackend, gateway: CommandGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["c1", "c2", "c3"]
    answered, *lost = tickets(gateway, *names)
    answer(backend, Reply("c1", "ok", 7))
    assert (await answered).version == 7
    await lose_the_subscription(backend, monkeypatch)
    await wait_until(lambda: _sent(backend, ["c2", "c3"]))
    answer(backend, Reply("c2", "ok", 8), Reply("c3", "ok", 9))
    assert [(await ticket).version for ticket in lost] == [8, 9]


@pytest.mark.parametrize("queued_before", [True, False])
async def test_a_caller_resending_after_a_reconnect_is_not_resent_for(
    backend: MemoryBackend, gateway: CommandGateway, monkeypatch: pytest.MonkeyPatch, *, queued_before: bool
) -> None:
    sent = [command("c1").entry]
    with gateway._pending.register([command("c1")]):
        if queued_before:
            gateway._senders[0]._mark_queued(sent)
        await lose_the_subscription(backend, monkeypatch)
        await wait_until(lambda: gateway._pending.connections[0] == 2 and not gateway._pending.disconnected)
        if not queued_before:
            gateway._senders[0]._mark_queued(sent)
    await wait_until(lambda: _sent(backend, ["c1"]))
    tickets(gateway, "c1")
    await gateway._senders[0].aclose()
    assert await queued(backend) == ["c1"]


async def _sent(backend: MemoryBackend, names: list[str]) -> bool:
    return await queued(backend) == names


async def test_commands_in_flight_when_the_subscription_was_lost_are_resent_as_well(
    backend: MemoryBackend, gateway: CommandGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been applied, and answered, before its sender knew that it was queued."""
    sent = command("c1")
    with gateway._pending.register([sent]) as (waiting,):
        await lose_the_subscription(backend, monkeypatch)
        await wait_until(lambda: gateway._pending.connections[0] == 2 and not gateway._pending.disconnected)
        assert await queued(backend) == []
        gateway._senders[0]._mark_queued([sent.entry])
    await wait_until(lambda: _sent(backend, ["c1"]))
    answer(backend, Reply("c1", "ok", 7))
    reply = await waiting.within(SOON)
    assert isinstance(reply, Reply)
    assert reply.version == 7


class Apart(MemoryChannels):
    """Channels that are lost independently, and may stay so for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: set[str] = set()

    async def grouped(self, channels: Sequence[str]) -> list[list[str]]:
        return [[channel] for channel in channels]

    async def subscribe(self, channels: Sequence[str]) -> MemorySubscription:
        if self.gone.intersection(channels):
            raise Unavailable("node 0 is gone")
        return await super().subscribe(channels)


@pytest.mark.parametrize("begun", [False, True])
async def test_closing_ends_an_opening(backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch, *, begun: bool) -> None:
    trying = asyncio.Event()

    async def silent(_: Sequence[str]) -> None:
        trying.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(backend.channels, "subscribe", silent)
    gateway = gateway_of(backend)
    opening = asyncio.create_task(gateway.listen(0))
    await (trying.wait() if begun else asyncio.sleep(0))
    await gateway.aclose()
    async with asyncio.timeout(SOON):
        with pytest.raises(Unavailable, match="closed"):
            await opening


@pytest.mark.parametrize("late", [False, True])
async def test_closing_during_the_first_subscription_leaves_no_task(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    found = asyncio.Event()

    async def grouped(names: Sequence[str]) -> list[list[str]]:
        await found.wait()
        return [[name] for name in names]

    monkeypatch.setattr(backend.channels, "grouped", grouped)
    before = asyncio.all_tasks()
    gateway = gateway_of(backend)
    opening = asyncio.create_task(gateway.listen(0))
    await wait_until(lambda: bool(gateway._listeners))
    if late:
        found.set()
    closing = asyncio.create_task(gateway.aclose())
    found.set()
    await closing
    with pytest.raises(Unavailable, match="closed"):
        await opening
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_lost_connection_concerns_only_its_own_channels(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.channels = channels = Apart()
    gateway = CommandGateway(channels, backend.queue, 2, "client", 600.0)
    for partition in range(2):
        await gateway.listen(partition)
    (unanswered,) = tickets(gateway, "c1")
    channels.gone = {gateway.channels[0]}
    await lose_the_subscription(backend, monkeypatch)
    await wait_until(lambda: gateway._pending.disconnected == {0})
    with gateway._pending.register([AddressedCommand(1, "t", command("d1").entry)]) as (elsewhere,):
        await gateway._senders[1].send([command("d1").entry])
        answer(backend, Reply("d1", "ok", 3), partition=1)
        await elsewhere.within(SOON)
    with pytest.raises(Unavailable, match="node 0 is gone"):
        await gateway._senders[0].send([command("c0").entry])
    held = gateway._senders[0].send([command("c2").entry], SOON)
    channels.gone.clear()
    await held
    assert await queued(backend) == ["c1", "c2"]
    answer(backend, Reply("c1", "ok", 7))
    assert (await unanswered).version == 7
    await gateway.aclose()


async def test_commands_outside_the_deduplication_window_fail_instead_of_being_resent(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = gateway_of(backend, window=0.01)
    await gateway.listen(0)
    (lost,) = tickets(gateway, "c1")
    await time_passes(0.01)
    await lose_the_subscription(backend, monkeypatch)
    with pytest.raises(Unavailable, match="cannot be had"):
        await lost
    assert await queued(backend) == []
    (ticket,) = tickets(gateway, "c2")
    answer(backend, Reply("c2", "ok", 7))
    assert (await ticket).version == 7
    await gateway.aclose()


async def test_commands_that_are_never_answered_are_forgotten_in_the_end(backend: MemoryBackend) -> None:
    gateway = gateway_of(backend, window=0.01)
    tickets(gateway, "c1")
    look(gateway, SOON + EXPIRY_WINDOWS)
    tickets(gateway, "c2")
    look(gateway, 0.0)
    assert [pending.command.entry.command_id for pending in gateway._pending] == ["c2"]


# ── reminders ────────────────────────────────────────────────────────────────────────────────────────────────────────

OVERDUE = 10.0
"""Seconds after which a command is overdue if its caller waits `SOON` seconds."""


def look(gateway: CommandGateway, later: float) -> None:
    """Look at what is unanswered as if so many seconds had passed."""
    gateway._resend_due(asyncio.get_running_loop().time() + later)


async def reminded(backend: MemoryBackend, gateway: CommandGateway, later: float) -> list[str]:
    """Look, and return all commands published again up to now."""
    look(gateway, later)
    await asyncio.gather(*(sender._task for sender in gateway._senders if sender._task))
    return await queued(backend)


async def test_an_unanswered_request_is_repeated(backend: MemoryBackend, gateway: CommandGateway) -> None:
    (ticket,) = tickets(gateway, "c1")
    assert await reminded(backend, gateway, OVERDUE - 1.0) == []
    for later in (OVERDUE, OVERDUE + 1.0, 2 * OVERDUE):
        assert await reminded(backend, gateway, later) == ["c1"]
    answer(backend, Reply("c1", "ok", 7))
    assert (await ticket).version == 7


async def test_answered_commands_are_not_resent(backend: MemoryBackend, gateway: CommandGateway) -> None:
    (ticket,) = tickets(gateway, "c1")
    answer(backend, Reply("c1", "ok", 7))
    await ticket
    assert await reminded(backend, gateway, OVERDUE) == []


async def test_commands_not_queued_yet_are_not_resent(backend: MemoryBackend, gateway: CommandGateway) -> None:
    with gateway._pending.register([command("c1")], SOON):
        assert await reminded(backend, gateway, OVERDUE) == []


async def test_a_long_backlog_gets_one_command_more(backend: MemoryBackend, gateway: CommandGateway) -> None:
    """The resent command was not answered: so the others may still wait to be applied."""
    names = [f"c{number}" for number in range(100)]
    waiting = tickets(gateway, *names)
    assert await reminded(backend, gateway, OVERDUE) == ["c99"]
    answer(backend, *(Reply(name, "ok", 1) for name in names[:50]))
    await waiting[49]
    assert await reminded(backend, gateway, OVERDUE + 1.0) == ["c99"]


async def test_commands_sent_before_an_answered_one_have_lost_their_replies(
    backend: MemoryBackend, gateway: CommandGateway
) -> None:
    *lost, last = tickets(gateway, "c1", "c2", "c3")
    assert await reminded(backend, gateway, OVERDUE) == ["c3"]
    answer(backend, Reply("c3", "ok", 3))
    await last
    assert await reminded(backend, gateway, OVERDUE + 1.0) == ["c3", "c1", "c2"]
    answer(backend, Reply("c1", "ok", 1), Reply("c2", "ok", 2))
    assert [(await ticket).version for ticket in lost] == [1, 2]


async def test_a_command_that_was_asked_for_in_vain_holds_no_later_one_back(
    backend: MemoryBackend, gateway: CommandGateway
) -> None:
    tickets(gateway, "c1")
    await reminded(backend, gateway, OVERDUE)
    tickets(gateway, "c2")
    assert await reminded(backend, gateway, OVERDUE + 1.0) == ["c1"]
    assert await reminded(backend, gateway, 2 * OVERDUE) == ["c1", "c2"]


async def test_no_resend_after_workers_forgot_the_command(backend: MemoryBackend) -> None:
    gateway = gateway_of(backend, window=2 * OVERDUE)
    tickets(gateway, "c1")
    assert await reminded(backend, gateway, OVERDUE) == []
    tickets(gateway, "c2")
    # A third of the time for which a caller waits would be too late.
    assert await reminded(backend, gateway, OVERDUE / 2) == ["c2"]


async def test_a_full_stream_is_asked_again_later() -> None:
    backend = MemoryBackend(2, max_backlog=1)
    gateway = gateway_of(backend)
    await backend.queue.publish(0, [command("other").entry])
    tickets(gateway, "c1")
    assert await reminded(backend, gateway, OVERDUE) == ["other"]
    backend.queue._max_backlog = 2
    assert await reminded(backend, gateway, OVERDUE + 1.0) == ["other", "c1"]


async def test_many_that_open_at_once_listen_once(backend: MemoryBackend) -> None:
    gateway = gateway_of(backend)
    await asyncio.gather(*(gateway.listen(0) for _ in range(10)))
    (ticket,) = tickets(gateway, "c1")
    answer(backend, Reply("c1", "ok", 7))
    assert (await ticket).version == 7
    await gateway.aclose()
    assert backend.channels._listeners == {}


async def test_a_ticket_shows_its_command_and_no_content(gateway: CommandGateway) -> None:
    (ticket,) = tickets(gateway, "c1")
    assert repr(ticket) == "Ticket(command_id='c1', session_id='s', done=False)"
