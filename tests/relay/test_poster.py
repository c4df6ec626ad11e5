"""One attempt against a real HTTP server: the request, and the handling of broken answers."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from socket import EAI_NONAME, gaierror
from threading import Event
from typing import cast

import httpcore2
import pytest
import trustme
from tests.relay.conftest import MakeEndpoint
from tests.relay.receiver import Receiver, Reply, always
from tests.waiting import SOON

from turnstream_relay import network
from turnstream_relay.configuration import Endpoint
from turnstream_relay.poster import GZIP_ABOVE, MOST_READ, Poster
from turnstream_relay.response import Answer, Outcome
from turnstream_relay.signatures import Message, new_secret

MESSAGE = Message("0199-a:0", "message-added", b'{"type":"message-added","text":"\xc3\xa4"}')


async def post(endpoint: Endpoint, message: Message = MESSAGE) -> Answer:
    async with Poster(endpoint) as poster:
        return await asyncio.wait_for(poster.post(message), SOON)


async def test_the_request_sent(endpoint: MakeEndpoint) -> None:
    traceparent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    async with Receiver().serving() as receiver:
        answer = await post(endpoint(receiver), MESSAGE._replace(traceparent=traceparent))
    assert answer == Answer(Outcome.DELIVERED, "HTTP 200", status=200)
    (taken,) = receiver.taken
    assert taken.body == {"type": "message-added", "text": "ä"}
    assert taken.id == "0199-a:0"
    assert taken.headers["content-type"] == "application/json"
    assert taken.headers["user-agent"].startswith("turnstream-relay/")
    assert taken.headers["traceparent"] == traceparent
    assert "content-encoding" not in taken.headers


@pytest.mark.parametrize("odd", ["a\r\nx-evil: 1", "ä", "a b", "a%20b", "\x00", "." * 200])
async def test_whatever_a_producer_chose_as_an_id_is_sent_safely(endpoint: MakeEndpoint, odd: str) -> None:
    async with Receiver().serving() as receiver:
        answer = await post(endpoint(receiver), MESSAGE._replace(id=odd, traceparent=odd))
    assert answer.outcome is Outcome.DELIVERED
    assert "x-evil" not in receiver.taken[0].headers
    assert "traceparent" not in receiver.taken[0].headers
    assert receiver.taken[0].id.isascii()


async def test_large_bodies_are_compressed(endpoint: MakeEndpoint) -> None:
    large = MESSAGE._replace(body=b'{"text":"' + b"x" * GZIP_ABOVE + b'"}')
    async with Receiver().serving() as receiver:
        await post(endpoint(receiver), large)
        await post(endpoint(receiver, gzip=False), large)
    compressed, plain = receiver.taken
    assert compressed.body == plain.body
    assert compressed.headers["content-encoding"] == "gzip"
    assert int(compressed.headers["content-length"]) < GZIP_ABOVE / 10
    assert int(plain.headers["content-length"]) == len(large.body)


async def test_an_endpoint_that_refuses_compressed_bodies_gets_no_more_of_them(endpoint: MakeEndpoint) -> None:
    large = MESSAGE._replace(body=b'{"text":"' + b"x" * GZIP_ABOVE + b'"}')
    async with Receiver().serving() as receiver, Poster(endpoint(receiver)) as poster:
        receiver.inflates = False
        answers = [await poster.post(large) for _ in range(2)]
    assert {answer.outcome for answer in answers} == {Outcome.DELIVERED}
    assert (len(receiver.taken), receiver.forged) == (2, 1)


async def test_both_secrets_sign_during_a_rotation(endpoint: MakeEndpoint, tmp_path: Path) -> None:
    old, new = Receiver(), Receiver()
    (tmp_path / "old").write_text(old.secret)
    async with new.serving():
        of_both = endpoint(new, previous_secret={"file": "old"})
        await post(of_both)
        new.secret = old.secret
        await post(of_both)
        new.secret = new_secret()
        refused = await post(of_both)
    assert len(new.taken) == 2
    assert (new.forged, refused.reason) == (1, "HTTP 401")


async def test_an_endpoint_that_does_not_answer_in_time_has_failed(endpoint: MakeEndpoint) -> None:
    async with Receiver(always(Reply(delay=60.0))).serving() as receiver:
        answer = await post(endpoint(receiver, timeout=0.5))
    assert answer == Answer(Outcome.FAILED, "no answer within 0.5 s")


async def test_a_connection_closed_before_the_answer_is_a_failure(endpoint: MakeEndpoint) -> None:
    async with Receiver(always(Reply(cut=9))).serving() as receiver:
        assert (await post(endpoint(receiver))).outcome is Outcome.FAILED


async def test_a_connection_closed_after_the_status_is_an_answer(endpoint: MakeEndpoint) -> None:
    half = Reply(body=b"x" * 1000, cut=300)
    async with Receiver(always(half)).serving() as receiver:
        assert (await post(endpoint(receiver))).outcome is Outcome.DELIVERED


async def test_an_answer_with_a_late_body_is_an_answer(endpoint: MakeEndpoint) -> None:
    """Also if the time of the attempt ends before it has come."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        url = f"http://localhost:{server.sockets[0].getsockname()[1]}"
        answer = await post(endpoint(Receiver(), url=url, timeout=0.5))
    assert answer.outcome is Outcome.DELIVERED


async def test_cookies_are_not_kept(endpoint: MakeEndpoint) -> None:
    sets = Reply(headers={"set-cookie": "a=b; Path=/"})
    async with Receiver(always(sets)).serving() as receiver, Poster(endpoint(receiver)) as poster:
        for _ in range(2):
            await poster.post(MESSAGE)
    assert not any("cookie" in received.headers for received in receiver.taken)


async def test_a_response_without_an_end_is_not_read_to_it(endpoint: MakeEndpoint) -> None:
    endless = Reply(headers={"content-length": str(10**12)}, body=b"x" * MOST_READ * 4)
    async with Receiver(always(endless)).serving() as receiver, Poster(endpoint(receiver)) as poster:
        answers = [await asyncio.wait_for(poster.post(MESSAGE), SOON) for _ in range(2)]
        assert receiver.connections == 2
    assert {answer.outcome for answer in answers} == {Outcome.DELIVERED}


async def test_a_connection_is_used_again(endpoint: MakeEndpoint) -> None:
    async with Receiver(always(Reply(body=b"thanks"))).serving() as receiver, Poster(endpoint(receiver)) as poster:
        for _ in range(3):
            await poster.post(MESSAGE)
    assert receiver.connections == 1


async def test_redirects_are_not_followed(endpoint: MakeEndpoint) -> None:
    async with Receiver().serving() as private:
        redirect = Reply(307, {"location": private.url})
        async with Receiver(always(redirect)).serving() as receiver:
            answer = await post(endpoint(receiver))
    assert answer == Answer(Outcome.FAILED, "HTTP 307", status=307)
    assert private.connections == 0


async def test_without_a_listener(endpoint: MakeEndpoint) -> None:
    with closing(Receiver().reserve()) as receiver:
        answer = await post(endpoint(receiver))
    assert answer == Answer(Outcome.UNREACHABLE, "none of the addresses of localhost answers")


async def test_an_unknown_name(endpoint: MakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_host: str, _port: int) -> list[str]:
        raise gaierror(EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(network, "_addresses", unknown)
    answer = await post(endpoint(Receiver(), url="https://nowhere.invalid/"))
    reason = "nowhere.invalid cannot be resolved: Name or service not known"
    assert answer == Answer(Outcome.UNREACHABLE, reason)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
async def test_invalid_names(endpoint: MakeEndpoint, host: str) -> None:
    answer = await post(endpoint(Receiver(), url=f"https://{host}/"))
    assert answer.outcome is Outcome.UNREACHABLE
    assert "cannot be resolved" in answer.reason


async def test_a_resolver_that_hangs(endpoint: MakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = Event()

    def hangs(_host: str, _port: int) -> list[str]:
        goes_on.wait(SOON)
        return []

    monkeypatch.setattr(network, "_addresses", hangs)
    answer = await post(endpoint(Receiver(), url="https://hangs.example/", timeout=0.3))
    goes_on.set()
    assert answer == Answer(Outcome.UNREACHABLE, "no connection within 0.1 s")


async def test_an_address_that_hangs_leaves_time_for_the_next(
    endpoint: MakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def several(_host: str, _port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async def hanging(self: httpcore2.AnyIOBackend, host: str, port: int, timeout: float, *others: object) -> object:
        if host == "127.0.0.2":
            await asyncio.sleep(timeout)
            raise httpcore2.ConnectTimeout
        return await connect(self, host, port, timeout, *others)

    connect = cast("Callable[..., Awaitable[object]]", getattr(httpcore2.AnyIOBackend, "connect_tcp"))  # noqa: B009
    monkeypatch.setattr(network, "_addresses", several)
    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", hanging)
    async with Receiver().serving() as receiver:
        answer = await post(endpoint(receiver, timeout=6.0))
    assert answer.outcome is Outcome.DELIVERED


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::]", "2130706433"])
async def test_private_addresses_are_refused(endpoint: MakeEndpoint, host: str) -> None:
    async with Receiver().serving() as receiver:
        port = receiver.port
        answer = await post(endpoint(receiver, url=f"http://{host}:{port}", allow_networks=()))
    assert answer.outcome is Outcome.UNREACHABLE
    assert "no public address" in answer.reason
    assert receiver.connections == 0


async def test_a_name_is_resolved_once_a_connection(endpoint: MakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers with a public address first and a private one then (DNS rebinding) gains nothing."""
    asked: list[str] = []
    real = network._addresses

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["192.0.2.1"] if len(asked) > 1 else real("127.0.0.1", port)

    monkeypatch.setattr(network, "_addresses", rebinding)
    async with Receiver().serving() as receiver:
        url = receiver.url.replace("localhost", "rebinds.example")
        answer = await post(endpoint(receiver, url=url))
        assert answer.outcome is Outcome.DELIVERED
        assert receiver.taken[0].headers["host"].startswith("rebinds.example")
        assert asked == ["rebinds.example"]
        again = await post(endpoint(receiver, url=url))
    assert "192.0.2.1, which is no public address" in again.reason


async def test_of_several_addresses_the_permitted_ones_are_tried(
    endpoint: MakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def several(_host: str, _port: int) -> list[str]:
        return ["10.255.255.1", "127.0.0.2", "127.0.0.1", "127.0.0.1"]

    monkeypatch.setattr(network, "_addresses", several)
    async with Receiver().serving() as receiver:
        assert (await post(endpoint(receiver))).outcome is Outcome.DELIVERED


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize(
    ("host", "trusted", "outcome"),
    [
        ("localhost", True, Outcome.DELIVERED),
        ("localhost", False, Outcome.UNREACHABLE),
        ("elsewhere.example", True, Outcome.UNREACHABLE),
    ],
)
async def test_certificates_are_verified(
    endpoint: MakeEndpoint, authority: trustme.CA, tmp_path: Path, host: str, trusted: bool, outcome: Outcome
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with Receiver().serving(tls=context) as receiver:
        answer = await post(endpoint(receiver, **({"ca_file": "ca.pem"} if trusted else {})))
    assert answer.outcome is outcome, answer
    assert len(receiver.taken) == (outcome is Outcome.DELIVERED)


async def test_proxies_of_the_environment_are_not_used(endpoint: MakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver().serving() as receiver, Receiver().serving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        await post(endpoint(receiver))
    assert (len(receiver.taken), proxy.connections) == (1, 0)
