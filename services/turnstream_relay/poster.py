"""One attempt: a message is signed and posted, and the result returned."""

import asyncio
import gzip
import logging
import re
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from types import TracebackType
from typing import Final, Self

import httpx2

from turnstream.logging import get_logger
from turnstream_relay.configuration import Endpoint
from turnstream_relay.network import GuardedTransport
from turnstream_relay.response import Answer, Outcome, answer_of
from turnstream_relay.signatures import Message, Signer

log = get_logger(__name__)

GZIP_ABOVE: Final = 64 * 1024
"""Bytes above which a body is compressed."""

NO_GZIP: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
"""The statuses of servers that do not expect compressed requests: for them the JSON or the signature is wrong."""

CONNECTING: Final = 1 / 3
"""The part of an attempt's time in which a connection must be there: else it is known that nothing was delivered."""

MOST_READ: Final = 64 * 1024
"""Bytes of a response that are read, so that its connection can be used again; of a larger one it is closed."""

READING: Final = 1.0
"""Seconds for which the rest of a response is waited for, for the same reason."""

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Poster:
    """Posts to one endpoint; an async context manager that holds its connections."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Connect to nothing yet."""
        # They log every request with its whole URL, which may be a secret.
        for library in ("httpx2", "httpcore2"):
            logging.getLogger(library).setLevel(logging.WARNING)
        self._timeout = endpoint.timeout
        self._url = str(endpoint.url)
        self._compresses = endpoint.gzip
        self._signer = Signer(endpoint.secrets)
        self._client = httpx2.AsyncClient(
            transport=GuardedTransport(endpoint.allow_networks, endpoint.concurrency, endpoint.ca_file),
            headers={"user-agent": f"turnstream-relay/{version('turnstream')}", "content-type": "application/json"},
            # None is kept: an endpoint could make each request larger than the one before.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            trust_env=False,
            # An attempt has one limit for everything, below: each of these would start again with every byte.
            timeout=httpx2.Timeout(None, connect=endpoint.timeout * CONNECTING),
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
        """Make one attempt; the answer also reports every failure on the way.

        If a compressed body is not understood, it is sent again uncompressed, like all later ones.
        """
        if not (self._compresses and len(message.body) > GZIP_ABOVE):
            return await self._post(message, message.body)
        compressed = await asyncio.to_thread(gzip.compress, message.body)
        answer = await self._post(message, compressed, {"content-encoding": "gzip"})
        if answer.status not in NO_GZIP:
            return answer
        self._compresses = False
        log.warning("endpoint does not take compressed bodies, or not this one: it gets none any more")
        return await self._post(message, message.body)

    async def _post(self, message: Message, content: bytes, headers: dict[str, str] | None = None) -> Answer:
        answer: Answer | None = None
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream(
                    "POST", self._url, content=content, headers=self._headers(message) | (headers or {})
                ) as response,
            ):
                # The status is enough: a body that ends early or never is no reason to send the event again.
                answer = answer_of(response.status_code, response.headers, datetime.now(UTC))
                await _drop(response)
        except (TimeoutError, httpx2.HTTPError) as error:
            return answer or self._failure(error)
        return answer

    def _headers(self, message: Message) -> dict[str, str]:
        headers = self._signer.headers(message, datetime.now(UTC))
        if message.traceparent and _TRACEPARENT.fullmatch(message.traceparent):
            headers["traceparent"] = message.traceparent
        return headers

    def _failure(self, error: TimeoutError | httpx2.HTTPError) -> Answer:
        match error:
            case httpx2.ConnectTimeout():
                return Answer(Outcome.UNREACHABLE, f"no connection within {self._timeout * CONNECTING:.3g} s")
            case httpx2.ConnectError():
                return Answer(Outcome.UNREACHABLE, str(error) or type(error).__name__)
            case TimeoutError():
                return Answer(Outcome.FAILED, f"no answer within {self._timeout:g} s")
            case _:
                return Answer(Outcome.FAILED, type(error).__name__)


async def _drop(response: httpx2.Response) -> None:
    read = 0
    with suppress(httpx2.HTTPError, TimeoutError):
        async with asyncio.timeout(READING):
            async for part in response.aiter_raw():
                read += len(part)
                if read > MOST_READ:
                    return
