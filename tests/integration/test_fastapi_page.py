"""The service of docs/fastapi.md, driven as an ASGI server drives it."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.integration.test_readme import blocks
from tests.waiting import wait_until

from turnstream import Turnstream

PAGE = Path(__file__).parents[2] / "docs" / "fastapi.md"
TIMEOUT = 20


class Stream:
    """A response that has no end, from the request to the disconnect."""

    def __init__(self, app: Any, path: str, headers: dict[str, str]) -> None:  # noqa: ANN401 - an ASGI application
        self._chunks = asyncio.Queue[bytes]()
        self._gone = asyncio.Event()
        self.status = 0
        scope: dict[str, object] = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "state": {},
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))
        self._asked = False

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            self._chunks.put_nowait(message["body"])
        else:
            self.status = message["status"]

    async def event(self) -> dict[str, str]:
        """Return the fields of the next event."""
        async with asyncio.timeout(TIMEOUT):
            text = (await self._chunks.get()).decode()
        return dict(line.split(": ", 1) for line in text.splitlines() if line)

    async def disconnect(self) -> None:
        self._gone.set()
        async with asyncio.timeout(TIMEOUT):
            await self.task


class Service:
    """The page's service, and its plain requests."""

    def __init__(self, names: dict[str, Any], web: httpx2.AsyncClient) -> None:
        self.app = names["app"]
        self.web = web

    @property
    def ts(self) -> Turnstream:
        ts: Turnstream = self.app.state.turnstream
        return ts

    async def post(self, session_id: str, text: str) -> dict[str, Any]:
        response = await self.web.post(f"/sessions/{session_id}/messages", json={"text": text})
        assert response.status_code == 201, response.text
        message: dict[str, Any] = response.json()
        return message

    @asynccontextmanager
    async def stream(self, session_id: str, **headers: str) -> AsyncGenerator[Stream]:
        stream = Stream(self.app, f"/sessions/{session_id}/events", headers)
        await wait_until(lambda: stream.status == 200)
        yield stream
        await stream.disconnect()


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    names: dict[str, Any] = {"__name__": "service"}
    (block,) = blocks(PAGE, "python")
    exec(compile("\n" * block.line + block.text, PAGE, "exec"), names)  # noqa: S102 - our own example
    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(Turnstream.embedded())
        monkeypatch.setenv("TURNSTREAM_REDIS_URL", embedded._settings.redis_url.get_secret_value())
        app = names["app"]
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx2.ASGITransport(app)
        web = await stack.enter_async_context(httpx2.AsyncClient(transport=transport, base_url="http://service"))
        yield Service(names, web)


async def test_messages_are_posted_and_read(service: Service) -> None:
    session = (await service.web.post("/sessions")).json()
    posted = [await service.post(session["id"], f"Message {number}") for number in range(3)]
    path = f"/sessions/{session['id']}/messages"
    assert (await service.web.get(path)).json() == posted
    earlier = await service.web.get(path, params={"before": posted[2]["id"], "last": 1})
    assert earlier.json() == posted[1:2]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/sessions/nobody/messages", {}, 404, "session-not-found"),
        ("POST", "/sessions/nobody/messages", {}, 404, "session-not-found"),
        ("GET", "/sessions/nobody/events", {}, 404, "session-not-found"),
        ("GET", "/sessions/" + "x" * 300 + "/messages", {}, 422, "invalid-command"),
        ("GET", "/sessions/{id}/events", {"Last-Event-ID": "here"}, 400, None),
    ],
)
async def test_an_error_has_its_status(
    service: Service, method: str, path: str, headers: dict[str, str], status: int, code: str | None
) -> None:
    session = (await service.web.post("/sessions")).json()
    body = {"text": "Hello"} if method == "POST" else None
    response = await service.web.request(method, path.format(id=session["id"]), headers=headers, json=body)
    assert (response.status_code, response.json().get("code")) == (status, code)


async def test_a_stream_resumes_after_the_last_event_id(service: Service) -> None:
    session_id = (await service.web.post("/sessions")).json()["id"]
    async with service.stream(session_id) as stream:
        first = await service.post(session_id, "First")
        event = await stream.event()
    assert event["event"] == "message-added"
    assert json.loads(event["data"])["data"] == {"message": first}
    missed = await service.post(session_id, "Missed")
    async with service.stream(session_id, **{"Last-Event-ID": event["id"]}) as stream:
        assert json.loads((await stream.event())["data"])["data"] == {"message": missed}
        live = await service.post(session_id, "Live")
        assert json.loads((await stream.event())["data"])["data"] == {"message": live}


async def test_a_disconnect_ends_the_subscription(service: Service) -> None:
    session_id = (await service.web.post("/sessions")).json()["id"]
    async with service.stream(session_id) as stream:
        await service.post(session_id, "First")
        await stream.event()
        (subscription,) = service.ts._subscriptions
        assert not subscription._closed
    assert subscription._closed
