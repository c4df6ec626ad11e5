"""The times of a run: from a kill or a SIGTERM until others have what the worker had."""

from tests.chaos.witness import KILLED, STOPPED, Witness
from tests.contract.deployments import opened
from tests.contract.redis_deployments import EmbeddedDeployment
from tests.contract.samples import taken

from turnstream.adapters.redis.backend import server_at

LEAVING, STAYING = "w1:0a1b2c", "w2:3d4e5f"


async def test_a_handover_is_over_when_others_have_everything(real: EmbeddedDeployment) -> None:
    backend = await opened(real)
    server = server_at(real.settings, "witness")
    real.resources.push_async_callback(server.topology.aclose)
    witness = Witness(server)
    states = [await taken(backend, LEAVING, number) for number in (0, 1)]
    await taken(backend, STAYING, 2)
    await witness.look()
    witness.goes("w1", STOPPED)
    witness.goes("w3", STOPPED)  # it has nothing to hand over
    await backend.ownership.release(states)
    for number in (0, 1):
        await witness.look()
        assert witness.changes()[STOPPED] == []
        await taken(backend, STAYING, number)
    await witness.look()
    (seconds,) = witness.changes()[STOPPED]
    assert seconds > 0
    assert witness.changes()[KILLED] == []
    assert witness.owners() == {"w2"}
