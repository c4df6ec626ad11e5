"""One attempt: a message is signed and posted, and what came of it is returned."""

import asyncio
import gzip
import re
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from types import TracebackType
from typing import Final, Self

import httpx2

from turnstream_relay.answers import Answer, Outcome, answer_of
from turnstream_relay.configuration import Endpoint
from turnstream_relay.network import GuardedTransport
from turnstream_relay.signing import Message, Signer

GZIP_ABOVE: Final = 64 * 1024
"""Bytes above which a body is compressed."""

MOST_READ: Final = 64 * 1024
"""Bytes of a response that are read, so that its connection can be used again; of a larger one it is closed."""

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Poster:
    """Posts to one endpoint; an async context manager that holds its connections."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Connect to nothing yet."""
        self._endpoint = endpoint
        self._url = str(endpoint.url)
        self._signer = Signer(endpoint.secrets)
        self._client = httpx2.AsyncClient(
            transport=GuardedTransport(endpoint.allow_networks, endpoint.concurrency, endpoint.ca_file),
            headers={"user-agent": f"turnstream-relay/{version('turnstream')}", "content-type": "application/json"},
            follow_redirects=False,
            trust_env=False,
            # One limit for all of an attempt, below: these would each start anew with every byte.
            timeout=None,
        )

    async def __aenter__(self) -> Self:
        """Return itself."""
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self._client.__aexit__(exc_type, exc_value, traceback)

    async def post(self, message: Message) -> Answer:
        """Make one attempt; whatever goes wrong on the way is told by the answer."""
        try:
            async with asyncio.timeout(self._endpoint.timeout):
                return await self._post(message)
        except TimeoutError:
            return Answer(Outcome.FAILED, f"no answer within {self._endpoint.timeout:g} s")
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            return Answer(Outcome.UNREACHABLE, str(error) or type(error).__name__)
        except httpx2.HTTPError as error:
            return Answer(Outcome.FAILED, type(error).__name__)

    async def _post(self, message: Message) -> Answer:
        now = datetime.now(UTC)
        headers = self._signer.headers(message, now)
        if message.traceparent and _TRACEPARENT.fullmatch(message.traceparent):
            headers["traceparent"] = message.traceparent
        body = message.body
        if self._endpoint.gzip and len(body) > GZIP_ABOVE:
            headers["content-encoding"] = "gzip"
            body = await asyncio.to_thread(gzip.compress, body, 6)
        async with self._client.stream("POST", self._url, content=body, headers=headers) as response:
            answer = answer_of(response.status_code, response.headers, now)
            # The status has told all; a body that ends early or never is no reason to send the event again.
            with suppress(httpx2.HTTPError, TimeoutError):
                await self._drop(response)
            return answer

    async def _drop(self, response: httpx2.Response) -> None:
        read = 0
        async with asyncio.timeout(1.0):
            async for part in response.aiter_raw():
                read += len(part)
                if read > MOST_READ:
                    return
