"""LangGraph: its Redis checkpointer needs the modules RediSearch and RedisJSON; this shows what it says without."""

from langgraph.checkpoint.redis.aio import AsyncRedisSaver
from redisvl.exceptions import RedisSearchError

from benchmarks.peers.stores.contract import CannotRunError, Store


class LangGraphStore(Store[str, str]):
    """Nothing but the setup that its documentation asks for before all else."""

    async def open(self, url: str) -> None:
        """Make its indexes; raises `CannotRunError` on a server that has no search."""
        try:
            async with AsyncRedisSaver.from_conn_string(url) as saver:
                await saver.asetup()
        except RedisSearchError as error:
            if "unknown command" not in str(error):
                raise
            raise CannotRunError(f"needs RediSearch and RedisJSON in the server: {str(error).strip()}") from error
        raise CannotRunError("this server has the modules that it needs, but what to measure is not written yet")
