"""The address file of `turnstream dev`: written privately, and trusted only if no other user could have written it."""

import os
from pathlib import Path

import pytest
import typer

from turnstream_cli import dev_discovery
from turnstream_cli.dev_address import (
    UntrustedFileError,
    address_directories,
    read_address,
    remembered_port,
    remove_address,
    write_address,
)
from turnstream_cli.options import locate_server
from turnstream_service.arguments import URL_VARIABLE

URL = "redis://user:secret@127.0.0.1:7000"


def a_directory(folder: Path) -> Path:
    directory = folder / ".turnstream"
    directory.mkdir(mode=0o700, parents=True)
    return directory


def test_what_is_written_is_read(tmp_path: Path) -> None:
    directory = a_directory(tmp_path)
    write_address(directory, URL, 7000)
    assert (read_address(directory), remembered_port(directory)) == (URL, 7000)
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    remove_address(directory)
    assert (read_address(directory), remembered_port(directory)) == (None, 7000)


def test_a_file_of_another_user_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = a_directory(tmp_path)
    write_address(directory, URL, 7000)
    other_user = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other_user)
    with pytest.raises(UntrustedFileError, match="belongs to another user"):
        read_address(directory)
    assert remembered_port(directory) is None


@pytest.mark.parametrize("text", ["", "x", "0", "65536", "-1"])
def test_a_port_that_is_none(tmp_path: Path, text: str) -> None:
    directory = a_directory(tmp_path)
    write_address(directory, URL, 7000)
    (directory / "dev.port").write_text(text)
    assert remembered_port(directory) is None


def test_the_nearest_directory_comes_first(tmp_path: Path) -> None:
    here = tmp_path / "one" / "two"
    for folder in (tmp_path, here):
        write_address(a_directory(folder), URL, 7000)
    a_directory(tmp_path / "one")
    found = list(address_directories(here, Path(".turnstream")))
    assert found[:2] == [here / ".turnstream", tmp_path / ".turnstream"]


def test_a_wrong_setting_does_not_keep_the_dev_server_from_being_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command reports the setting later, in one line."""
    write_address(a_directory(tmp_path), URL, 7000)

    def is_in_use(_: Path) -> bool:
        return True

    monkeypatch.setattr(dev_discovery, "is_directory_in_use", is_in_use)
    monkeypatch.setenv("TURNSTREAM_LEASE", "5s")
    assert dev_discovery.find_dev_server(tmp_path) == URL
    assert "secret" not in capsys.readouterr().err


def test_a_removed_working_directory_has_no_dev_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    folder = tmp_path / "removed"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert locate_server(typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None))), None) is None
