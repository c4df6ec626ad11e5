"""`turnstream workers`: the live workers of a deployment."""

from turnstream import Turnstream
from turnstream_service.output import print_if_empty, print_json, print_table


async def print_workers(redis_url: str | None, *, as_json: bool) -> None:
    """Print the live workers and how many partitions each owns."""
    async with Turnstream.connect(redis_url) as ts:
        infos = [info async for info in ts.admin.workers.list()]
    if not infos:
        print_if_empty("No worker is running: start one with turnstream worker.", as_json=as_json)
        return
    if as_json:
        for info in infos:
            print_json(info)
        return
    rows = ((info.name, str(info.partitions), f"{info.last_heartbeat:.1f} s ago") for info in infos)
    print_table(("worker", "partitions", "heartbeat"), rows)
