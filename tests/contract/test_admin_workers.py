"""`ts.admin.workers`: the live workers, and how many partitions each owns."""

from tests.contract.deployments import Deployment, client_of
from tests.contract.workers import worker_of
from tests.waiting import wait_until

from turnstream import Turnstream


async def owned_by_worker(ts: Turnstream) -> dict[str, int]:
    return {info.id: info.partitions async for info in ts.admin.workers.list()}


async def test_live_workers_are_listed_with_their_partitions(deployment: Deployment) -> None:
    client = await client_of(deployment, worker=False)
    assert await owned_by_worker(client) == {}
    workers = [await worker_of(deployment) for _ in range(2)]
    await wait_until(lambda: _lists(client, {worker.worker_id: 2 for worker in workers}))
    infos = [info async for info in client.admin.workers.list()]
    assert [info.id for info in infos] == sorted(worker.worker_id for worker in workers)
    assert {info.name for info in infos} == {"test"}
    assert all(0 <= info.last_heartbeat <= deployment.settings.lease for info in infos)


async def test_a_stopped_worker_is_not_listed(deployment: Deployment) -> None:
    client = await client_of(deployment, worker=False)
    first, second = [await worker_of(deployment) for _ in range(2)]
    await wait_until(lambda: _lists(client, {first.worker_id: 2, second.worker_id: 2}))
    await first.stop()
    await wait_until(lambda: _lists(client, {second.worker_id: 4}))


async def _lists(client: Turnstream, expected: dict[str, int]) -> bool:
    return await owned_by_worker(client) == expected
