"""Settings: from the environment or given, checked, and reported by the name that an operator typed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from msgspec.structs import asdict, replace

from turnstream.errors import ConfigurationError
from turnstream.settings import CREDENTIALS, Secret, Settings, credentials_of, load_settings

FLOATS = [name for name, value in asdict(Settings()).items() if isinstance(value, float)]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in os.environ:
        if name.startswith("TURNSTREAM_"):
            monkeypatch.delenv(name)
    return iter(())


def test_everything_has_a_default() -> None:
    assert load_settings() == Settings()


def test_every_setting_has_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, object] = {
        "redis_url": Secret("redis://db:7000"),
        "redis_username": "web",
        "redis_password": Secret("a/#?%41@: b"),
        "redis_password_file": Path("/run/secrets/web"),
        "sentinel_username": "watch",
        "sentinel_password": Secret("other"),
        "sentinel_password_file": Path("/run/secrets/watch"),
        "namespace": "prod.eu-1",
        "partitions": 128,
        "max_message_bytes": 5,
        "max_backlog": 6,
        "durability": "replicated",
        "replicas": 16,
        "deduplication_window": 7.5,
        "event_retention": 8,
        "event_retention_age": 8.5,
        "event_retention_bytes": 20,
        "malformed_retention": 9,
        "parked_commands": 14,
        "parked_bytes": 15,
        "parked_events": 17,
        "parked_event_bytes": 18,
        "subscriber_buffer": 10,
        "subscriber_buffer_bytes": 19,
        "lease": 1.5,
        "worker_id": "worker-7",
        "batch_commands": 11,
        "batch_bytes": 12,
        "cached_sessions": 13,
        "timeout": 20.5,
        "connect_timeout": 2.5,
        "response_timeout": 3.5,
        "heartbeat": 4.5,
        "scripts": "evalsha",
        "catalogue_file": Path("models.toml"),
    }
    assert set(values) == set(Settings.__struct_fields__), "a setting is not tried here"
    for name, value in values.items():
        text = value.get_secret_value() if isinstance(value, Secret) else str(value)
        monkeypatch.setenv(f"TURNSTREAM_{name.upper()}", text)
    assert asdict(load_settings()) == values


def test_arguments_take_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNSTREAM_NAMESPACE", "from-environment")
    assert load_settings(namespace="given").namespace == "given"
    assert load_settings(namespace=None).namespace == "from-environment"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PARTITIONS", "48"),
        ("PARTITIONS", "0"),
        ("PARTITIONS", "8192"),
        ("PARTITIONS", "many"),
        ("NAMESPACE", ""),
        ("NAMESPACE", "a:b"),
        ("NAMESPACE", "a{b}"),
        ("NAMESPACE", "x" * 33),
        ("NAMESPACE", "line\n"),
        ("LEASE", "0"),
        ("DEDUPLICATION_WINDOW", "-1"),
        ("MAX_BACKLOG", "0"),
        *((name.upper(), value) for name in FLOATS for value in ("inf", "-inf", "nan", "1e400", "1e300")),
        ("BATCH_COMMANDS", "4001"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TURNSTREAM_{name}", value)
    with pytest.raises(ConfigurationError, match=rf"^TURNSTREAM_{name}: \w"):
        load_settings()


@pytest.mark.parametrize("partitions", [1, 2, 64, 4_096])
def test_powers_of_two_are_numbers_of_partitions(partitions: int) -> None:
    assert load_settings(partitions=partitions).partitions == partitions


def test_an_unknown_setting_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match="TURNSTREAM_PARTITION:"):
        load_settings(partition=64)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().namespace = "other"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://localhost:6379", "redis://localhost:6379"),
        ("redis://user:secret@db:6379/0", "redis://user:***@db:6379/0"),
        ("rediss://:secret@db", "rediss://:***@db"),
        ("redis://user:sec:r@et@db:6379", "redis://user:***@db:6379"),
        ("unix://user:secret@/run/db.sock?db=1", "unix://user:***@/run/db.sock?db=1"),
        ("redis://db:6379?password=secret&db=1", "redis://db:6379?password=***&db=1"),
        ("redis://db:6379?db=1&password=secret", "redis://db:6379?db=1&password=***"),
        ("redis+cluster://user:secret@a:1,b:2,c", "redis+cluster://user:***@a:1,b:2,c"),
        ("redis+cluster://user:secret@a:1,other:secret@b:2", "redis+cluster://user:***@b:2"),
        ("rediss+sentinel://:secret@a,b:2/main/3", "rediss+sentinel://:***@a,b:2/main/3"),
        (
            "redis+sentinel://u:secret@a/main?sentinel_username=v&sentinel_password=secret",
            "redis+sentinel://u:***@a/main?sentinel_username=v&sentinel_password=***",
        ),
    ],
)
def test_the_password_is_never_shown(url: str, masked: str) -> None:
    settings = load_settings(redis_url=url)
    assert settings.masked_url == masked
    assert "secret" not in f"{settings!r} {settings}"
    assert settings.redis_url.get_secret_value() == url


def test_the_password_is_not_shown_by_an_error_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNSTREAM_REDIS_URL", "redis://user:secret@db")
    monkeypatch.setenv("TURNSTREAM_PARTITIONS", "3")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "secret" not in str(caught.value)


def test_the_password_of_a_setting_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNSTREAM_REDIS_PASSWORD", "secret")
    monkeypatch.setenv("TURNSTREAM_SENTINEL_PASSWORD", "secret")
    settings = load_settings()
    assert "secret" not in f"{settings!r} {settings} {credentials_of(settings, 'redis')!r} {settings.masked_url}"


def test_a_password_comes_from_a_file_without_the_end_of_its_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    for text in ("p /#?%41@:\n", "p /#?%41@:\r\n", "p /#?%41@:"):
        file.write_bytes(text.encode())
        username, password = credentials_of(load_settings(redis_username="web", redis_password_file=file), "redis")
        assert (username, password) == ("web", Secret("p /#?%41@:"))


def test_empty_variables_mean_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """An orchestrator may set variables to nothing."""
    monkeypatch.setenv("TURNSTREAM_REDIS_USERNAME", "")
    monkeypatch.setenv("TURNSTREAM_REDIS_PASSWORD", "")
    assert credentials_of(load_settings(), "redis") == credentials_of(load_settings(), "sentinel") == (None, None)


@pytest.mark.parametrize("of", ["redis", "sentinel"])
def test_a_file_that_holds_no_password_is_refused(tmp_path: Path, of: Literal["redis", "sentinel"]) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n")
    binary.write_bytes(b"\xff\xfe")
    for file, why in (
        (tmp_path / "none", "No such file"),
        (empty, "is empty"),
        (binary, "is not text"),
        (tmp_path, ""),
    ):
        with pytest.raises(ConfigurationError, match=rf"^TURNSTREAM_{of.upper()}_PASSWORD_FILE: .*{why}"):
            credentials_of(load_settings(**{f"{of}_password_file": file}), of)


def test_two_passwords_are_refused() -> None:
    settings = load_settings(redis_password="secret", redis_password_file=Path("somewhere"))
    with pytest.raises(ConfigurationError, match=r"TURNSTREAM_REDIS_PASSWORD and .*_FILE are both set") as caught:
        credentials_of(settings, "redis")
    assert "secret" not in str(caught.value)


def test_a_server_of_ones_own_gets_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.setenv(f"TURNSTREAM_{name.upper()}", "x")
    assert load_settings().without_credentials() == replace(load_settings(), **dict.fromkeys(CREDENTIALS))


def test_the_same_settings_for_another_server() -> None:
    settings = load_settings(namespace="given")
    other = settings.at("redis://other")
    assert (other.redis_url.get_secret_value(), other.namespace) == ("redis://other", "given")
