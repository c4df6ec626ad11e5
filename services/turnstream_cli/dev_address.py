"""The address of a running `turnstream dev`, in a file of its directory, where the other commands find it.

    .turnstream/        owned by the user, and no other user can write to it
      dev.json          the URL (mode 0600: it may hold a password); exists while the server runs
      dev.port          the port of the last start, so that an exported URL stays valid
      server.lock       locked by the server for as long as it lives

A file that another user could have written is ignored: its URL could lead to a server of that user.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec

ADDRESS_FILE: Final = "dev.json"
PORT_FILE: Final = "dev.port"

OTHERS_CAN_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
OTHERS_HAVE_ACCESS: Final = stat.S_IRWXG | stat.S_IRWXO
PORTS: Final = range(1, 65_536)
MAX_BYTES: Final = 4_096
"""The size up to which the files are read."""


class DevAddress(msgspec.Struct, frozen=True):
    """The content of the file."""

    url: str


class UntrustedFileError(Exception):
    """Another user could have written the file; the text says why."""


def address_directories(start: Path, name: Path) -> Iterator[Path]:
    """Yield the directories called `name` that have an address file, in `start` and its parents."""
    candidates = (folder / name for folder in (start, *start.parents))
    return (folder for folder in candidates if os.path.lexists(folder / ADDRESS_FILE))


def read_address(directory: Path) -> str | None:
    """Return the URL in the address file of a directory; `None` if there is no such file or it has other content.

    Raises:
        UntrustedFileError: another user could have written it.

    """
    content = _read(directory, ADDRESS_FILE)
    with suppress(msgspec.DecodeError):
        return None if content is None else msgspec.json.decode(content, type=DevAddress).url
    return None


def write_address(directory: Path, url: str, port: int) -> None:
    """Store the address of the running server, and remember its port."""
    _write(directory / PORT_FILE, str(port).encode())
    _write(directory / ADDRESS_FILE, msgspec.json.encode(DevAddress(url)))


def remove_address(directory: Path) -> None:
    """Remove the address; the port stays."""
    with suppress(OSError):
        (directory / ADDRESS_FILE).unlink()


def remembered_port(directory: Path) -> int | None:
    """Return the port of the last start in this directory."""
    with suppress(UntrustedFileError, ValueError):
        port = int(_read(directory, PORT_FILE) or b"")
        return port if port in PORTS else None
    return None


def is_private(directory: Path) -> bool:
    """Return whether this user owns the directory, and no other user can write to it."""
    return not any(_reasons(directory.stat(), OTHERS_CAN_WRITE))


def _read(directory: Path, name: str) -> bytes | None:
    """Read a file of a private directory; what is checked is what is read, for both are opened once."""
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        _check(directory, os.fstat(folder), OTHERS_CAN_WRITE)
        # Without O_NONBLOCK a named pipe would block.
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None
    finally:
        os.close(folder)
    with os.fdopen(opened, "rb") as file:
        _check(directory / name, os.fstat(opened), OTHERS_HAVE_ACCESS)
        return file.read(MAX_BYTES)


def _check(path: Path, status: os.stat_result, forbidden: int) -> None:
    for reason in _reasons(status, forbidden):
        raise UntrustedFileError(f"{path} {reason}")


def _reasons(status: os.stat_result, forbidden: int) -> Iterator[str]:
    if status.st_uid != os.geteuid():
        yield "belongs to another user"
    if status.st_mode & forbidden:
        yield "is open to other users"


def _write(path: Path, content: bytes) -> None:
    """Replace a file at once, readable by this user only."""
    new = path.with_name(f".{path.name}.{uuid4().hex}")
    opened = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(opened, "wb") as file:
            file.write(content)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
