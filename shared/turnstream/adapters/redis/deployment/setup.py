"""The work of `turnstream setup`: create the deployment, and load the functions that clients call (ADR 27)."""

from contextlib import aclosing

import msgspec

from turnstream.adapters.redis.backend import server_at
from turnstream.adapters.redis.deployment.checks import check_servers
from turnstream.adapters.redis.deployment.identity import Deployment
from turnstream.adapters.redis.function_library import versions_on
from turnstream.adapters.redis.keys import LAYOUT
from turnstream.settings import Settings


class PrimarySetUp(msgspec.Struct, rename="camel"):
    """The result on one primary."""

    server: str
    library: str | None
    """The version that this program calls; `None` where the settings say that it runs scripts instead."""
    loaded: bool
    """Whether it was loaded now."""
    others: list[str]
    """Other versions of the library, which stay."""
    removed: list[str]
    """Other versions that were removed."""


class SetUp(msgspec.Struct, rename="camel"):
    """A deployment that is ready for its workers and clients."""

    partitions: int
    layout: int
    made: bool
    """Whether it was made now."""
    primaries: list[PrimarySetUp]


async def set_up(settings: Settings, *, remove_others: bool = False) -> SetUp:
    """Make the deployment if there is none, and load the library onto every primary; a second time does nothing.

    Args:
        settings: the address and the properties of the deployment.
        remove_others: remove the library's other versions: programs of other versions of Turnstream lose them, also
            those that use another namespace of the same server.

    Raises:
        Unavailable: a server does not answer.
        ConfigurationError: a server, the deployment or this user's permissions do not fit.

    """
    server = server_at(settings, "turnstream-setup")
    async with aclosing(server.topology):
        await check_servers(server, throw_away=True)
        made = await server.topology.calls(server.keys.layout).call("EXISTS", server.keys.layout)
        await Deployment(server).make()
        library = server.scripts.library
        primaries: list[PrimarySetUp] = []
        for primary in await server.topology.primaries():
            done = PrimarySetUp(primary.where, library.name if library else None, loaded=False, others=[], removed=[])
            if library is not None:
                done.loaded = await library.load(primary)
                others = sorted(await versions_on(primary) - {library.name})
                for name in others if remove_others else ():
                    await primary.call("FUNCTION", "DELETE", name)
                done.others, done.removed = ([], others) if remove_others else (others, [])
            primaries.append(done)
        return SetUp(len(server.keys.partitions), LAYOUT, not made, primaries)
