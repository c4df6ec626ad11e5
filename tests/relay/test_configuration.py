"""The relay's file: its valid values, and errors that explain the line and show no secret."""

import base64
import traceback
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme
from tests.relay.written import SECRET, endpoint, write

from turnstream.errors import ConfigurationError
from turnstream.events import MessageAdded, SessionCreated
from turnstream_relay.configuration import Configuration, Endpoint, load_configuration
from turnstream_relay.signatures import new_secret

KEY = SECRET.removeprefix("whsec_")


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets of every kind, good and bad."""
    monkeypatch.setenv("GOOD", SECRET)
    monkeypatch.setenv("SHORT", "whsec_" + base64.b64encode(b"short-secret").decode())
    monkeypatch.setenv("LONG", "whsec_" + base64.b64encode(b"long" * 17).decode())
    monkeypatch.setenv("ODD", "whsec_my:secret!")
    monkeypatch.setenv("EMPTY", "")


def loaded(folder: Path, text: str) -> Configuration:
    return load_configuration(write(folder, text))


def refused(folder: Path, text: str | bytes) -> str:
    """Return the error of a file, which is named there; no secret is in it, nor in what is printed with it."""
    file = folder / "relay.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError) as refusal:
        load_configuration(file)
    assert str(file) in str(refusal.value)
    shown = "".join(traceback.format_exception(refusal.value))
    assert [secret for secret in (KEY, "c2hvcnQ", "bG9uZ2xvbmc", "my:secret") if secret in shown] == []
    return str(refusal.value)


class TestWhatFits:
    def test_the_least_that_must_be_said(self, tmp_path: Path) -> None:
        only = loaded(tmp_path, endpoint()).endpoints["billing"]
        assert str(only.url) == "https://billing.example.com/hooks"
        assert [secret.get_secret_value() for secret in only.secrets] == [SECRET]
        assert (only.types, only.session_prefix, only.start) == ((), "", "now")

    def test_every_option(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_bytes(certificate := trustme.CA().cert_pem.bytes())
        (tmp_path / "before").write_text(before := new_secret())
        text = endpoint(
            'previous_secret = { file = "before" }',
            'events = ["message-added", "session-created"]',
            'session_prefix = "shop-"',
            'start = "beginning"',
            "timeout = 5",
            "concurrency = 2",
            "rate_limit = 0.5",
            "attempts = 3",
            "max_backoff = 10",
            "gzip = false",
            "allow_http = true",
            'allow_networks = ["10.0.0.0/8", "fd00::/8"]',
            'ca_file = "ca.pem"',
        )
        only = loaded(tmp_path, text).endpoints["billing"]
        assert [secret.get_secret_value() for secret in only.secrets] == [SECRET, before]
        assert only.types == (MessageAdded, SessionCreated)
        assert only.allow_networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
        assert only.ca_file == certificate.decode()

    def test_paths_are_meant_from_the_file_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "etc" / "secrets").mkdir(parents=True)
        (tmp_path / "etc" / "secrets" / "billing").write_text(f"{SECRET}\n")
        monkeypatch.chdir(tmp_path)
        write(Path("etc"), endpoint(secret='{ file = "secrets/billing" }'))
        only = load_configuration(Path("etc/relay.toml")).endpoints["billing"]
        assert only.secret.get_secret_value() == SECRET

    def test_no_secret_is_in_its_printed_form(self, tmp_path: Path) -> None:
        configuration = loaded(tmp_path, endpoint())
        assert KEY not in repr(configuration) + str(configuration) + configuration.model_dump_json()


NOT_TOML = ["endpoints", "[endpoints.billing", "[endpoints]\nurl = ", 'secret = "whsec_', "\x00"]


class TestTheFile:
    def test_there_is_no_such_server(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"nowhere\.toml cannot be read: No such file"):
            load_configuration(tmp_path / "nowhere.toml")

    def test_it_is_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
            load_configuration(tmp_path)

    @pytest.mark.parametrize("text", NOT_TOML)
    def test_it_is_not_toml(self, tmp_path: Path, text: str) -> None:
        assert "is not TOML: " in refused(tmp_path, text)

    def test_it_is_not_text(self, tmp_path: Path) -> None:
        assert "is not text in UTF-8" in refused(tmp_path, b"\xff\xfe")

    @pytest.mark.parametrize("text", ["", "# nothing yet", "[endpoints]"])
    def test_it_has_no_endpoint(self, tmp_path: Path, text: str) -> None:
        assert "endpoints (a table [endpoints.NAME] for each endpoint): " in refused(tmp_path, text)

    @pytest.mark.parametrize("text", ["[[endpoints]]\nurl = 1", "endpoints = 1", "[endpoints]\nbilling = 1"])
    def test_it_has_no_tables(self, tmp_path: Path, text: str) -> None:
        assert "endpoints" in refused(tmp_path, text)

    def test_another_table(self, tmp_path: Path) -> None:
        error = refused(tmp_path, f"{endpoint()}\n[endpoint.audit]")
        assert "endpoint: there is no such setting; there are endpoints" in error

    @pytest.mark.parametrize("name", ['""', '"two words"', '"a.b"', "x" * 49, '"ü"'])
    def test_an_invalid_name(self, tmp_path: Path, name: str) -> None:
        assert "should match pattern" in refused(tmp_path, endpoint(name=name))

    def test_all_problems_are_reported(self, tmp_path: Path) -> None:
        error = refused(tmp_path, endpoint("timeout = 0", 'evnets = ["message-added"]', secret='{ env = "SHORT" }'))
        assert len(error.splitlines()) == 4
        for setting in ("timeout", "evnets", "secret"):
            assert f"endpoints.billing.{setting}" in error


WRONG = [
    ('events = ["message-add"]', "'message-add' is none of session-created"),
    ("events = [1]", "valid string"),
    ("session_prefix = 1", "valid string"),
    ('start = "yesterday"', "'now' or 'beginning'"),
    ("timeout = 0", "greater than 0"),
    ("timeout = 301", "less than or equal to 300"),
    ("timeout = nan", ""),
    ("concurrency = 0", "greater than or equal to 1"),
    ("concurrency = 1001", "less than or equal to 1000"),
    ("rate_limit = 0", "greater than 0"),
    ("rate_limit = nan", ""),
    ("rate_limit = inf", ""),
    ("attempts = 0", "greater than or equal to 1"),
    ("max_backoff = 3601", "less than or equal to 3600"),
    ("max_backoff = nan", ""),
    ('gzip = "often"', "valid boolean"),
    ('allow_networks = ["10.0.0.1/8"]', "valid IPv4 or IPv6 network"),
    ('allow_networks = ["localhost"]', "valid IPv4 or IPv6 network"),
    ('ca_file = "ca.pem"', "ca.pem cannot be read: No such file"),
    ('ca_file = "relay.toml"', "relay.toml holds no certificates in PEM"),
    ("ca_file = 1", "is written as the path of a file"),
]


class TestALine:
    @pytest.mark.parametrize(("line", "problem"), WRONG, ids=[line for line, _ in WRONG])
    def test_an_error_explains_itself(self, tmp_path: Path, line: str, problem: str) -> None:
        error = refused(tmp_path, endpoint(line))
        setting = line.split(maxsplit=1)[0]
        place, _, meant = error.splitlines()[1].strip().partition(f" ({Endpoint.model_fields[setting].description}): ")
        assert place.startswith(f"endpoints.billing.{setting}")
        assert problem in meant

    def test_there_is_no_such_setting(self, tmp_path: Path) -> None:
        error = refused(tmp_path, endpoint('evnets = ["message-added"]'))
        assert "endpoints.billing.evnets: there is no such setting; there are url, secret, previous_secret" in error

    def test_missing_values(self, tmp_path: Path) -> None:
        error = refused(tmp_path, "[endpoints.billing]")
        assert "endpoints.billing.url (where events are posted to): Field required" in error
        assert "endpoints.billing.secret (what deliveries are signed with): Field required" in error


class TestTheUrl:
    @pytest.mark.parametrize("url", ["", "billing.example.com", "ftp://billing.example.com", "https://", "file:///etc"])
    def test_it_is_invalid(self, tmp_path: Path, url: str) -> None:
        assert "endpoints.billing.url (where events are posted to): " in refused(tmp_path, endpoint(url=url))

    def test_it_is_not_encrypted(self, tmp_path: Path) -> None:
        unencrypted = "http://billing.example.com/hooks"
        assert "use https, or allow_http" in refused(tmp_path, endpoint(url=unencrypted))
        assert loaded(tmp_path, endpoint("allow_http = true", url=unencrypted)).endpoints

    @pytest.mark.parametrize("secret", ["me:my:secret@", "me@", ":my:secret@"])
    def test_it_has_a_user(self, tmp_path: Path, secret: str) -> None:
        error = refused(tmp_path, endpoint(url=f"https://{secret}billing.example.com/"))
        assert "takes no user, password or fragment" in error

    def test_it_has_a_fragment(self, tmp_path: Path) -> None:
        assert "fragment" in refused(tmp_path, endpoint(url="https://billing.example.com/#top"))


class TestTheSecret:
    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            (f'"{SECRET}"', "never into this file itself"),
            (f'["{SECRET}"]', "never into this file itself"),
            (f'{{ value = "{SECRET}" }}', "never into this file itself"),
            (f'{{ env = "GOOD", value = "{SECRET}" }}', "never into this file itself"),
            ("{ env = 1 }", "never into this file itself"),
            ("{}", "never into this file itself"),
            ("1", "never into this file itself"),
            (f'{{ env = "{SECRET}" }}', "never into this file itself"),
            (f'{{ file = "{SECRET}" }}', "never into this file itself"),
            ('{ env = "whsec_my:secret" }', "never into this file itself"),
            ('{ env = "MISSING" }', "the environment variable MISSING is not there"),
            ('{ file = "missing" }', "missing cannot be read: No such file"),
            ('{ file = "." }', "cannot be read: Is a directory"),
            ('{ env = "EMPTY" }', "the environment variable EMPTY holds a key of 0 bytes: it takes 24 to 64"),
            ('{ env = "SHORT" }', "the environment variable SHORT holds a key of 12 bytes: it takes 24 to 64"),
            ('{ env = "LONG" }', "the environment variable LONG holds a key of 68 bytes: it takes 24 to 64"),
            ('{ env = "ODD" }', "the environment variable ODD holds no secret: whsec_ and base64"),
            ('{ file = "odd" }', "holds no secret: whsec_ and base64"),
        ],
    )
    @pytest.mark.parametrize("setting", ["secret", "previous_secret"])
    def test_it_is_invalid(self, tmp_path: Path, setting: str, source: str, problem: str) -> None:
        (tmp_path / "odd").write_bytes(b"\xffmy:secret")
        text = endpoint(secret=source) if setting == "secret" else endpoint(f"previous_secret = {source}")
        error = refused(tmp_path, text)
        assert f"endpoints.billing.{setting} (" in error
        assert problem in error
