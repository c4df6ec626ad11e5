"""From commands to an endpoint on loopback: its requests, their order, and the handling of its refusals."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import pairwise

import pytest
from redis import Redis
from tests.contract.chats import CONFIG
from tests.contract.hearing import take, unplaced
from tests.relay.conftest import NAME, MakeEndpoint, relaying
from tests.relay.receiver import Behaviour, Received, Receiver, Reply, always, well
from tests.waiting import SOON, wait_until

from turnstream import (
    AddMessage,
    CreateSession,
    DeleteSession,
    SessionAlreadyExists,
    Turnstream,
    Unavailable,
    user_message,
)
from turnstream.adapters.embedded import EmbeddedServer
from turnstream.admin import ParkedSession
from turnstream.errors import ConfigurationError
from turnstream_relay.configuration import Configuration
from turnstream_relay.delivery import Delivery, subscription_name
from turnstream_relay.relay import Relay
from turnstream_relay.report import report_once

SESSIONS = tuple(f"{number}-chat" for number in range(8))
"""Some in each of the four partitions."""


async def chat(ts: Turnstream, *sessions: str, messages: int = 3) -> int:
    """Have sessions created and messages added; return how many events that makes."""
    await asyncio.gather(*(ts.execute(CreateSession(CONFIG, session)) for session in sessions))
    added = [AddMessage(session, user_message(f"{number}")) for number in range(messages) for session in sessions]
    for ticket in await ts.send_many(added):
        await ticket
    return len(sessions) * (messages + 1)


def in_order(receiver: Receiver) -> bool:
    """Return whether the first deliveries of all events were in the order of their sessions."""
    return all(
        all(before < after for before, after in pairwise(dict.fromkeys(sequences)))
        for sequences in receiver.of_sessions().values()
    )


def failing_first(times: int, reply: Reply) -> Behaviour:
    """Answer otherwise the first few times that each event comes."""
    return lambda received: reply if received.attempt <= times else Reply()


async def test_every_event_once_as_its_envelope(ts: Turnstream, endpoint: MakeEndpoint) -> None:
    async with ts.subscribe(start="beginning") as events, Receiver().serving() as receiver:
        total = await chat(ts, *SESSIONS)
        async with relaying(ts, hooks=endpoint(receiver)):
            await wait_until(lambda: len(set(receiver.ids)) >= total)
        seen = [json.loads(unplaced(event).to_json()) for event in await take(events, total)]
    assert {received.id: received.body for received in receiver.taken} == {event["id"]: event for event in seen}
    assert in_order(receiver)
    assert receiver.forged == 0


async def test_only_requested_types(ts: Turnstream, endpoint: MakeEndpoint) -> None:
    async with Receiver().serving() as receiver:
        mine = endpoint(receiver, events=["message-added"], session_prefix="mine-")
        async with relaying(ts, hooks=mine):
            await chat(ts, "mine-1", "other-1", "mine-2", messages=2)
            await wait_until(lambda: len(set(receiver.ids)) >= 4)
            await ts.execute(DeleteSession("mine-1"))
            await chat(ts, "mine-3", messages=1)
            await wait_until(lambda: len(set(receiver.ids)) >= 5)
    assert {received.body["type"] for received in receiver.taken} == {"message-added"}
    assert set(receiver.of_sessions()) == {"mine-1", "mine-2", "mine-3"}


@pytest.mark.parametrize(
    "reply", [Reply(500), Reply(404), Reply(302), Reply(cut=0), Reply(cut=9), Reply(503, {"retry-after": "0"})]
)
async def test_failed_events_are_redelivered_in_order(ts: Turnstream, endpoint: MakeEndpoint, reply: Reply) -> None:
    async with Receiver(failing_first(1, reply)).serving() as receiver:
        total = await chat(ts, "a", "b", messages=3)
        async with relaying(ts, hooks=endpoint(receiver)) as relay:
            (delivery,) = relay
            await wait_until(lambda: delivery.delivered >= total)
            assert delivery.retried >= total
    assert in_order(receiver)


async def test_a_slow_endpoint_asks_to_wait(ts: Turnstream, endpoint: MakeEndpoint) -> None:
    times: list[float] = []

    def busy_once(received: Received) -> Reply:
        times.append(asyncio.get_running_loop().time())
        return Reply(429, {"retry-after": "1"}) if len(times) == 1 else Reply()

    async with Receiver(busy_once).serving() as receiver:
        total = await chat(ts, "a", messages=2)
        async with relaying(ts, hooks=endpoint(receiver, attempts=1)):
            await wait_until(lambda: len(set(receiver.ids)) >= total)
    assert times[1] - times[0] >= 1.0
    assert in_order(receiver)


async def test_a_refused_session_is_parked_and_others_continue(ts: Turnstream, endpoint: MakeEndpoint) -> None:
    refuses = True

    def refuse_one(received: Received) -> Reply:
        return Reply(422) if refuses and received.body["sessionId"] == "bad" else Reply()

    async with Receiver(refuse_one).serving() as receiver:
        async with relaying(ts, hooks=endpoint(receiver, attempts=2)):
            total = await chat(ts, "bad", *SESSIONS)
            await wait_until(lambda: len(set(receiver.ids)) >= total - 4)
            parked_events = partial(_parked_events, ts)
            await wait_until(lambda: _waiting(parked_events, 4, is_parked=True))
            (parked,) = await parked_events()
            assert (parked.session_id, parked.events, parked.reason) == ("bad", 4, "HTTP 422")
            assert parked.attempts >= 2
            refuses = False
            assert await ts.admin.consumers.redrive(subscription_name(NAME), "bad", timeout=SOON) == 0
        assert len(set(receiver.ids)) == total
    assert in_order(receiver)


@pytest.mark.parametrize("status", [422, 500])
async def test_sessions_that_are_not_taken_hold_up_no_other(
    ts: Turnstream, endpoint: MakeEndpoint, status: int
) -> None:
    """Also during the backoffs of the endpoint: it answers the others."""
    bad = {f"{number}-bad" for number in range(5)}

    def refuse_bad(received: Received) -> Reply:
        return Reply(status) if received.body["sessionId"] in bad else Reply()

    async with AsyncExitStack() as serving:
        receiver = await serving.enter_async_context(Receiver(refuse_bad).serving())
        hooks = endpoint(receiver, max_backoff=3600.0, longest_pause=0.2)
        (delivery,) = await serving.enter_async_context(relaying(ts, hooks=hooks))
        await chat(ts, *sorted(bad), messages=2)
        parked_events = partial(_parked_events, ts)
        await wait_until(lambda: _waiting(parked_events, 3, 3, 3, 3, 3))
        total = await chat(ts, *SESSIONS, messages=2)
        await wait_until(lambda: len(set(receiver.ids)) >= total)
        # They are tried all the while, and that is no reason to rest.
        tried = len(receiver.refused)
        await wait_until(lambda: len(receiver.refused) > tried + 20)
        assert not delivery.is_paused
        total += await chat(ts, "later", messages=2)
        await wait_until(lambda: len(set(receiver.ids)) >= total)
        assert await _waiting(parked_events, 3, 3, 3, 3, 3)
        bad.clear()
        await wait_until(lambda: len(set(receiver.ids)) >= total + 15)
    assert in_order(receiver)


async def test_the_next_relay_continues_retries(ts: Turnstream, endpoint: MakeEndpoint) -> None:
    parked_events = partial(_parked_events, ts)
    async with Receiver(
        lambda received: Reply(500 if "bad" in received.body["sessionId"] else 200)
    ).serving() as receiver:
        async with relaying(ts, hooks=endpoint(receiver)):
            await chat(ts, "bad", "well", messages=2)
            await wait_until(lambda: _waiting(parked_events, 3))
        (before,) = await parked_events()
        async with relaying(ts, hooks=endpoint(receiver)):
            await wait_until(lambda: _tried_again(parked_events, before))
            receiver.behaviour = well
            await wait_until(lambda: len(set(receiver.ids)) >= 6)
    assert in_order(receiver)


async def _parked_events(ts: Turnstream) -> list[ParkedSession]:
    return [session async for session in ts.admin.consumers.parked(subscription_name(NAME))]


async def _tried_again(parked: Callable[[], Awaitable[list[ParkedSession]]], before: ParkedSession) -> bool:
    (session,) = await parked()
    return session.since == before.since and session.attempts > before.attempts


async def test_parked_events_are_delivered_when_the_endpoint_answers_again(
    ts: Turnstream, endpoint: MakeEndpoint
) -> None:
    """Without a request; and an event that the endpoint still refuses does not make the others wait."""
    sessions = [f"{number}-chat" for number in range(10)]
    parked_events = partial(_parked_events, ts)
    async with Receiver(always(Reply(500))).serving() as receiver:
        await chat(ts, *sessions, messages=1)
        async with relaying(ts, hooks=endpoint(receiver, retry_for=0.001, longest_pause=0.05)) as relay:
            (delivery,) = relay
            await wait_until(lambda: delivery.retried > 0)
            await wait_until(lambda: _are_parked(parked_events))

            def refuse_one(received: Received) -> Reply:
                return Reply(200 if received.body.get("sessionId") != "0-chat" else 422)

            receiver.behaviour = refuse_one
            await wait_until(lambda: delivery.is_paused)
            await chat(ts, "new", messages=1)
            await wait_until(lambda: len(set(receiver.ids)) >= 2 * len(sessions))
            (left,) = await parked_events()
            assert left.session_id == "0-chat"
    assert in_order(receiver)


async def _are_parked(parked: Callable[[], Awaitable[list[ParkedSession]]]) -> bool:
    return sum(session.is_parked for session in await parked()) >= 3


async def test_a_dead_endpoint_delays_no_other_and_loses_nothing(ts: Turnstream, endpoint: MakeEndpoint) -> None:
    async with Receiver().serving() as well_one, Receiver(always(Reply(delay=60.0))).serving() as hanging:
        down, to_hanging = Receiver().reserve(), endpoint(hanging, timeout=0.5, attempts=1000)
        async with relaying(ts, up=endpoint(well_one), down=endpoint(down), hangs=to_hanging) as relay:
            total = await chat(ts, *SESSIONS)
            await wait_until(lambda: len(set(well_one.ids)) >= total)
            states = {delivery.name: delivery for delivery in relay}
            await wait_until(lambda: states["down"].is_paused and states["hangs"].is_paused)
            assert states["down"].delivered == 0
            hanging.behaviour = well
            async with down.serving():
                await wait_until(lambda: len(set(down.ids)) == total)
                await wait_until(lambda: len(set(hanging.ids)) == total)
    assert all(map(in_order, (well_one, down, hanging)))


async def test_an_endpoint_that_cannot_be_reached_parks_nothing(ts: Turnstream, endpoint: MakeEndpoint) -> None:
    receiver = Receiver().reserve()
    async with relaying(ts, hooks=endpoint(receiver, attempts=1, max_backoff=0.001)) as relay:
        total = await chat(ts, "a", messages=1)
        (delivery,) = relay
        await wait_until(lambda: delivery.retried > 3)
        assert [each async for each in ts.admin.consumers.parked(subscription_name(NAME))] == []
        async with receiver.serving():
            await wait_until(lambda: len(set(receiver.ids)) >= total)


async def test_a_disabled_endpoint_gets_nothing_until_the_configuration_is_reloaded(
    ts: Turnstream, endpoint: MakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    async with Receiver(always(Reply(410))).serving() as receiver, Receiver().serving() as other:
        endpoints = {"hooks": endpoint(receiver, concurrency=1), "other": endpoint(other)}
        async with relaying(ts, **endpoints) as relay:
            total = await chat(ts, *SESSIONS)
            await wait_until(lambda: len(set(other.ids)) >= total)
            gone = next(delivery for delivery in relay if delivery.name == "hooks")
            await wait_until(lambda: gone.is_gone)
            seen = len(receiver.refused)
            total += await chat(ts, "later")
            await wait_until(lambda: len(set(other.ids)) >= total)
            assert len(receiver.refused) == seen
            assert [record.message for record in caplog.records].count(
                "endpoint is gone, and gets nothing more until the configuration is read again"
            ) == 1
            receiver.behaviour = well
            relay.configure(Configuration(endpoints=endpoints))
            await wait_until(lambda: len(set(receiver.ids)) >= total)
    assert in_order(receiver)


async def test_limits_of_concurrency(ts: Turnstream, endpoint: MakeEndpoint) -> None:
    async with Receiver(always(Reply(delay=0.01))).serving() as receiver:
        total = await chat(ts, *SESSIONS)
        async with relaying(ts, hooks=endpoint(receiver, concurrency=2)):
            await wait_until(lambda: len(set(receiver.ids)) >= total)
    assert receiver.most_open <= 2


async def test_the_configuration_is_read_again_while_events_flow(ts: Turnstream, endpoint: MakeEndpoint) -> None:
    async with Receiver().serving() as first, Receiver().serving() as second, Receiver().serving() as kept:
        endpoints = {"moves": endpoint(first), "kept": endpoint(kept)}
        async with relaying(ts, **endpoints) as relay:
            flowing = asyncio.create_task(chat(ts, *SESSIONS, messages=30))
            await wait_until(lambda: len(first.taken) > 20)
            before = next(delivery for delivery in relay if delivery.name == "kept")
            relay.configure(Configuration(endpoints=endpoints | {"moves": endpoint(second)}))
            total = await flowing
            await wait_until(lambda: len(set(first.ids + second.ids)) == total and len(set(kept.ids)) >= total)
            assert before in set(relay)
            relay.configure(Configuration(endpoints={"kept": endpoints["kept"]}))
            await wait_until(lambda: len(list(relay)) == 1)
    assert second.taken
    both = Receiver()
    both.taken = first.taken + second.taken
    assert in_order(both)


async def test_an_endpoint_that_hangs_delays_no_other_when_the_configuration_is_read_again(
    ts: Turnstream, endpoint: MakeEndpoint
) -> None:
    hangs = Receiver(always(Reply(delay=60.0)))
    async with hangs.serving(), Receiver().serving() as first, Receiver().serving() as second:
        slow = endpoint(hangs, timeout=60)
        async with relaying(ts, hangs=slow, moves=endpoint(first)) as relay:
            total = await chat(ts, "a", messages=1)
            await wait_until(lambda: hangs.open > 0 and len(set(first.ids)) >= total)
            changed = slow.model_copy(update={"concurrency": 1})
            relay.configure(Configuration(endpoints={"hangs": changed, "moves": endpoint(second)}))
            await chat(ts, "b", messages=1)
            await wait_until(lambda: len(set(second.ids)) >= 2)
            assert hangs.open == 1


async def test_a_delivery_that_fails_ends_the_relay(
    ts: Turnstream, endpoint: MakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: Delivery) -> None:
        raise ConfigurationError("a right is missing")

    monkeypatch.setattr(Delivery, "run", fails)
    async with Receiver().serving() as receiver:
        relay = Relay(ts, Configuration(endpoints={"hooks": endpoint(receiver)}))
        with pytest.raises(ConfigurationError, match="a right is missing"):
            await asyncio.wait_for(relay.run(), SOON)


async def test_stopping_it_finishes_the_current_work(ts: Turnstream, endpoint: MakeEndpoint) -> None:
    async with Receiver(always(Reply(delay=0.2))).serving() as receiver:
        total = await chat(ts, *SESSIONS)
        async with relaying(ts, hooks=endpoint(receiver)):
            await wait_until(lambda: receiver.open > 0)
        first = len(receiver.taken)
        assert 0 < first < total
        receiver.behaviour = well
        async with relaying(ts, hooks=endpoint(receiver)):
            await wait_until(lambda: len(set(receiver.ids)) == total)


async def test_stopped_while_an_endpoint_is_dead_it_ends_soon(
    ts: Turnstream, endpoint: MakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    async with Receiver(always(Reply(500))).serving() as receiver:
        await chat(ts, *SESSIONS)
        async with relaying(ts, hooks=endpoint(receiver, max_backoff=3600.0)) as relay:
            (delivery,) = relay
            await wait_until(lambda: delivery.is_paused)
        # A delivery that does not end is cut, and that is logged.
        assert "in time" not in caplog.text
        assert "cut short" not in caplog.text
        assert not any([session.is_parked async for session in ts.admin.consumers.parked(subscription_name(NAME))])


@pytest.mark.parametrize(("behaviour", "told"), [(well, 1), (always(Reply(400)), 0), (failing_first(5, Reply(500)), 1)])
async def test_a_consumer_that_ignores_gaps_still_receives_events(
    ts: Turnstream, endpoint: MakeEndpoint, empty_server: EmbeddedServer, behaviour: Behaviour, told: int
) -> None:
    def of_gaps(received: Received) -> Reply:
        return behaviour(received) if received.body["type"] == "resync-required" else Reply()

    async with Receiver(of_gaps).serving() as receiver:
        mine = endpoint(receiver, events=["message-added"], session_prefix="9", attempts=2)
        async with relaying(ts, hooks=mine):
            await chat(ts, "9-chat", messages=2)
            await wait_until(lambda: len(set(receiver.ids)) >= 2)
            with Redis.from_url(empty_server.url, protocol=2) as raw:
                raw.flushall()
            await wait_until(lambda: _chats_again(ts))
            await wait_until(lambda: receiver.of_sessions()["9-chat"][2:] != [])
    gaps = [each for each in receiver.taken + receiver.refused if each.body["type"] == "resync-required"]
    assert {gap.body["data"]["reason"] for gap in gaps} == {"reset"}
    own = [gap for gap in receiver.taken if gap.body["type"] == "resync-required"]
    assert (len(own) > 0) == told
    # A redelivered notice may continue elsewhere, but it is the same gap.
    assert len({(gap.body["data"]["partition"], *gap.body["data"]["seen"].values()) for gap in gaps}) <= 4


async def _chats_again(ts: Turnstream) -> bool:
    """Send to a deployment that was flushed; workers need a moment to notice."""
    try:
        with suppress(SessionAlreadyExists):
            await ts.execute(CreateSession(CONFIG, "9-chat"), timeout=1.0)
        await ts.execute(AddMessage("9-chat", user_message("again")))
    except Unavailable:
        return False
    return True


async def _waiting(parked: Callable[[], Awaitable[list[ParkedSession]]], *events: int, is_parked: bool = False) -> bool:
    found = await parked()
    return [session.events for session in found if session.is_parked is is_parked] == list(events)


async def test_the_report(ts: Turnstream, endpoint: MakeEndpoint, caplog: pytest.LogCaptureFixture) -> None:
    async with Receiver(failing_first(1, Reply(500))).serving() as receiver:
        total = await chat(ts, "a", messages=2)
        async with relaying(ts, hooks=endpoint(receiver)) as relay:
            (delivery,) = relay
            await wait_until(lambda: delivery.delivered >= total)
            caplog.clear()
            caplog.set_level("INFO")
            await report_once(ts, relay)
    (record,) = (record for record in caplog.records if record.message == "endpoint report")
    told = {name: getattr(record, name) for name in ("endpoint", "delivered", "retried", "parked_sessions", "gone")}
    assert told["delivered"] >= total
    assert told["retried"] >= total
    assert (told["endpoint"], told["parked_sessions"], told["gone"]) == (NAME, 0, False)
    assert isinstance(record.lag, int)  # type: ignore[attr-defined]
