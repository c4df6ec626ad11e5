"""The advice for a deployment that does not match the settings of this program."""

from turnstream.adapters.redis.keys import LAYOUT, FormerKeys
from turnstream.adapters.redis.server import Server
from turnstream.errors import ConfigurationError


def made_otherwise(what: str, server: Server, partitions: str, layout: str = "") -> ConfigurationError:
    """Return the error for a deployment, or a partition, that was made for so many partitions and this layout."""
    if layout == FormerKeys.MIGRATING:
        return ConfigurationError(
            f"{what} is on its way from layout {FormerKeys.LAYOUT} to {LAYOUT}: run `turnstream migrate` to its end"
        )
    if layout == str(FormerKeys.LAYOUT):
        return ConfigurationError(
            f"{what} has layout {layout}, this program needs {LAYOUT}: stop all workers, consumers and producers, and "
            "run `turnstream migrate`"
        )
    if layout != str(LAYOUT):
        return ConfigurationError(
            f"{what} has layout {layout or 'of an unknown kind'}, this program knows {LAYOUT}: upgrade this program, "
            "or use another namespace"
        )
    return ConfigurationError(
        f"{what} has {partitions} partitions and layout {layout}, this program is set to "
        f"{len(server.keys.partitions)} and {LAYOUT}: set TURNSTREAM_PARTITIONS to {partitions}, or use another "
        "namespace"
    )
