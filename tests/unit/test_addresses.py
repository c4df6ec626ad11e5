"""URLs of servers: their meaning, and the errors for unreadable ones."""

import socket

import pytest
from redis.asyncio.connection import Connection, SSLConnection

import turnstream.sync
from turnstream import Turnstream
from turnstream.adapters.redis.connection.addresses import Address, Target, read_settings, read_url
from turnstream.errors import ConfigurationError
from turnstream.settings import load_settings


def read(url: str) -> Target:
    return read_url(url, 2.5, "name", 3.0)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("redis+cluster://a:7000,b:7001,c", [("a", 7_000), ("b", 7_001), ("c", 6_379)]),
        ("redis+cluster://a", [("a", 6_379)]),
        ("redis+cluster://a/", [("a", 6_379)]),
        ("redis+cluster://a/0?socket_keepalive=true", [("a", 6_379)]),
        ("redis+cluster://[::1]:7000,[::2]", [("::1", 7_000), ("::2", 6_379)]),
        ("redis+sentinel://a,b:26380/main", [("a", 26_379), ("b", 26_380)]),
        ("redis+sentinel://a/main/3", [("a", 26_379)]),
    ],
)
def test_hosts(url: str, asked: list[tuple[str, int]]) -> None:
    assert read(url).asked == tuple(Address(*one) for one in asked)


def test_how_to_connect() -> None:
    target = read("redis+cluster://me:p%40ss@a,b?health_check_interval=7")
    connection = target.connector_to(Address("c", 7))()
    assert isinstance(connection, Connection)
    assert (connection.host, connection.port) == ("c", 7)
    assert connection.socket_keepalive
    keep_alive = target.options["socket_keepalive_options"]
    assert keep_alive.get(getattr(socket, "TCP_USER_TIMEOUT", -1), 3_000) == 3_000
    assert target.options["username"] == "me"
    assert target.options["password"] == "p@ss"
    assert target.options["health_check_interval"] == 7


def test_users_and_passwords_of_sentinels_are_their_own() -> None:
    target = read("redis+sentinel://me:secret@a/main/3?sentinel_username=you&sentinel_password=theirs")
    assert (target.service, target.options["db"]) == ("main", 3)
    assert (target.options["username"], target.options["password"]) == ("me", "secret")
    assert (target.sentinel_options["username"], target.sentinel_options["password"]) == ("you", "theirs")
    assert "db" not in target.sentinel_options
    assert not any(name.startswith("sentinel_") for name in target.options)


@pytest.mark.parametrize("url", ["rediss+cluster://a", "rediss+sentinel://a/main"])
def test_encrypted_connections(url: str) -> None:
    target = read(url)
    assert isinstance(target.connector_to(Address("b", 1))(), SSLConnection)
    if target.kind == "sentinel":
        assert isinstance(target.connector_to_sentinel(Address("b", 1))(), SSLConnection)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://secret@localhost",
        "redis+others://a:secret@b",
        "redis://a:secret@b:port",
        "unix+cluster:///run/secret.sock",
        "redis+cluster://",
        "redis+cluster://me:secret@",
        "redis+cluster://a,,b",
        "redis+cluster://a/secret",
        "redis+sentinel://a:secret@b",
        "redis+sentinel://a:secret@b/",
        "redis+sentinel://a:secret@b/main/first",
        "redis+sentinel://a:secret@b/main/1/2",
    ],
)
def test_a_url_that_cannot_be_read(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"redis\+cluster://user:password@host") as caught:
        read(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("client", [Turnstream, turnstream.sync.Turnstream])
def test_an_invalid_url_is_answered_with_the_valid_forms(client: type) -> None:
    told = str(client.connect.__doc__)  # type: ignore[attr-defined]
    for form in ("redis://", "rediss://", "unix://", "redis+cluster://", "redis+sentinel://"):
        assert form in told


def test_a_cluster_has_one_database() -> None:
    with pytest.raises(ConfigurationError, match="namespace"):
        read("redis+cluster://a/1")


STRANGE = "p/#?%41@: x"


@pytest.mark.parametrize("url", ["redis://a:7/0", "redis+cluster://a,b", "redis+sentinel://a,b/main", "unix:///s.sock"])
def test_a_user_and_a_password_of_any_characters_come_from_settings(url: str) -> None:
    settings = load_settings(redis_username="we@b:", redis_password=STRANGE, sentinel_password=f"{STRANGE}2").at(url)
    target = read_settings(settings, "name")
    assert (target.options["username"], target.options["password"]) == ("we@b:", STRANGE)
    if target.kind == "sentinel":
        assert (target.sentinel_options.get("username"), target.sentinel_options["password"]) == (None, f"{STRANGE}2")


def test_a_url_may_hold_the_user_and_a_setting_the_password() -> None:
    options = read_settings(load_settings(redis_password=STRANGE).at("redis://web@a"), "name").options
    assert (options["username"], options["password"]) == ("web", STRANGE)


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("redis://web:secret@a", "TURNSTREAM_REDIS_PASSWORD"),
        ("redis+sentinel://a/main?sentinel_password=secret", "TURNSTREAM_SENTINEL_PASSWORD"),
    ],
)
def test_a_password_that_both_give_is_refused(url: str, variable: str) -> None:
    settings = load_settings(redis_password="other", sentinel_password="other").at(url)
    with pytest.raises(ConfigurationError, match=rf"URL has a password, and {variable} is set") as caught:
        read_settings(settings, "name")
    assert not {"secret", "other"} & set(str(caught.value).split())


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "redis+sentinel"])
@pytest.mark.parametrize("password", ["p/ss", "p#ss", "p?ss", "12/ss", "12#ss", "12?ss", "1?db=ss"])
def test_a_password_that_ends_the_urls_host_is_refused_with_a_remedy(scheme: str, password: str) -> None:
    with pytest.raises(ConfigurationError, match="goes into TURNSTREAM_REDIS_USERNAME and") as caught:
        read(f"{scheme}://me:{password}@host:6379/0")
    assert password not in str(caught.value)
    with pytest.raises(ConfigurationError, match="goes into TURNSTREAM_REDIS_USERNAME and"):
        read(f"{scheme}://:{password}@host:6379/0")
