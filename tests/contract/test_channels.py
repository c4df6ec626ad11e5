"""Publish and subscribe: exact channels, and none that a stranger could misuse."""

import asyncio

import pytest
from tests.contract.chats import id_in
from tests.contract.deployments import Deployment, also_on_sentinel
from tests.contract.hearing import take, unplaced
from tests.contract.redis_deployments import ClusterDeployment
from tests.contract.samples import CLIENT, batch_of, event, taken, with_reply
from tests.waiting import SOON, wait_until

from turnstream.client.guard import ClosableBackend
from turnstream.client.subscriptions.buffer import EventBuffer
from turnstream.client.subscriptions.subscription import EventSubscription
from turnstream.codec.events import decode_event
from turnstream.codec.records import decode_replies
from turnstream.domain.events import EVENTS, SessionDeleted
from turnstream.ports import Backend, PartitionState, Reply, Subscription

MINE = id_in(0, 4)
"""A session of the partition to which the tests write."""


async def next_payload(subscription: Subscription) -> tuple[str, bytes]:
    async with asyncio.timeout(SOON):
        return await anext(aiter(subscription))


def test_reply_channels_differ_by_partition_and_client(backend: Backend) -> None:
    channels = {backend.channels.reply_channel(partition, client) for partition in range(4) for client in "ab"}
    assert len(channels) == 8


@pytest.mark.parametrize("client_id", ["a", "aB_9-", "x" * 64, "01a2093a-355f-7276-bc49-247425c1f089"])
def test_a_clients_own_channel_is_valid(backend: Backend, client_id: str) -> None:
    assert backend.channels.is_reply_channel(1, backend.channels.reply_channel(1, client_id))
    assert not backend.channels.is_reply_channel(2, backend.channels.reply_channel(1, client_id))


@pytest.mark.parametrize("client_id", ["", "x" * 65, "a b", "a:b", "a\n", "é", "*", "a\x00", "../a", "{a}"])
def test_other_names_of_clients_are_not_valid(backend: Backend, client_id: str) -> None:
    assert not backend.channels.is_reply_channel(1, backend.channels.reply_channel(1, client_id))


def test_channels_of_events_are_not_for_replies(backend: Backend) -> None:
    own = backend.channels.reply_channel(1, CLIENT)
    forged = (
        *backend.channels.event_channels([], None),
        *backend.channels.event_channels([], "session"),
        *backend.channels.event_channels([], own),
        f"x{own}",
        f"{own} ",
        own.upper(),
        "",
    )
    assert [channel for channel in forged if backend.channels.is_reply_channel(1, channel)] == []


def test_event_channels(backend: Backend) -> None:
    of = backend.channels.event_channels
    assert of([], None) == of(list(EVENTS), None)
    assert len(of([], "a")) == 1
    assert of([], "a") == of(["session-deleted"], "a")


@pytest.mark.parametrize("deployment", ["memory", "fakeredis", "embedded"], indirect=True)
def test_on_one_server_channels_are_exact(backend: Backend) -> None:
    of = backend.channels.event_channels
    assert len(set(of([], None))) == len(EVENTS)
    assert len(of(["session-deleted"], None)) == 1
    assert of([], "a") != of([], "b")


async def test_channels_are_grouped_by_their_shard(backend: Backend, deployment: Deployment) -> None:
    names = [backend.channels.reply_channel(partition, CLIENT) for partition in range(4)]
    groups = await backend.channels.grouped(names)
    assert sorted(name for group in groups for name in group) == sorted(names)
    assert (len(groups) > 1) is isinstance(deployment, ClusterDeployment)


@also_on_sentinel
async def test_only_requested_events_are_received(backend: Backend, peer: Backend) -> None:
    state = await taken(backend)
    async with EventSubscription(
        ClosableBackend(peer), (SessionDeleted,), MINE, "now", EventBuffer(10, 10_000)
    ) as events:
        batch = batch_of(state, events=[event(1, "other"), event(2, MINE), event(3, "other"), event(4, MINE)])
        await backend.store.commit(batch)
        assert [unplaced(each) for each in await take(events, 2)] == [event(2, MINE), event(4, MINE)]


@also_on_sentinel
async def test_nothing_is_missed_after_subscribing(backend: Backend, peer: Backend) -> None:
    state = await taken(backend)
    for _ in range(10):
        listener = await peer.channels.subscribe(peer.channels.event_channels([], MINE))
        batch = batch_of(state, events=[event(state.sequence + 1, MINE)])
        await backend.store.commit(batch)
        state = batch.after
        assert decode_event((await next_payload(listener))[1]) == event(state.sequence, MINE)
        await listener.aclose()


@also_on_sentinel
async def test_all_listeners_are_notified(backend: Backend, peer: Backend) -> None:
    state = await taken(backend)
    channel = backend.channels.reply_channel(0, CLIENT)
    listeners = [await one.channels.subscribe([channel, channel]) for one in (backend, peer, peer)]
    await backend.store.commit(with_reply(batch_of(state), backend, Reply("c", "ok", 1)))
    for listener in listeners:
        heard_on, payload = await next_payload(listener)
        assert (heard_on, decode_replies(payload)) == (channel, (Reply("c", "ok", 1),))
        await listener.aclose()


@also_on_sentinel
async def test_a_receiver_gets_earlier_payloads_first_and_then_new_ones(backend: Backend, peer: Backend) -> None:
    state = await taken(backend)
    heard: list[bytes] = []
    subscription = await peer.channels.subscribe([backend.channels.reply_channel(0, CLIENT)])

    async def answer(state: PartitionState, command_id: str) -> PartitionState:
        batch = with_reply(batch_of(state), backend, Reply(command_id, "ok", 1))
        await backend.store.commit(batch)
        return batch.after

    state = await answer(await answer(state, "c0"), "c1")
    hearing = asyncio.create_task(subscription.consume(heard.append))
    await wait_until(lambda: len(heard) == 2)
    await answer(await answer(state, "c2"), "c3")
    # Later payloads have been received.
    await subscription.ping()
    assert [decode_replies(payload)[0].command_id for payload in heard] == ["c0", "c1", "c2", "c3"]
    assert not hearing.done()
    await subscription.aclose()
    await hearing


async def test_a_bug_in_the_receiver_is_raised_to_it_and_ends_delivery(backend: Backend, peer: Backend) -> None:
    state = await taken(backend)
    heard: list[bytes] = []

    def take(payload: bytes) -> None:
        heard.append(payload)
        raise KeyError("a bug")

    subscription = await peer.channels.subscribe(peer.channels.event_channels([], MINE))
    hearing = asyncio.create_task(subscription.consume(take))
    await asyncio.sleep(0)
    await backend.store.commit(batch_of(state, events=[event(1, MINE), event(2, MINE)]))
    async with asyncio.timeout(SOON):
        with pytest.raises(KeyError, match="a bug"):
            await hearing
    assert len(heard) == 1
    await subscription.aclose()


async def test_closing_ends_an_iteration_that_waits(backend: Backend) -> None:
    subscription = await backend.channels.subscribe(["a"])
    step = asyncio.create_task(anext(aiter(subscription), None))
    await asyncio.sleep(0)
    await subscription.aclose()
    await subscription.aclose()
    await wait_until(step.done)
    assert await step is None
    assert [heard async for heard in subscription] == []
