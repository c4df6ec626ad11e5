"""A relay in a separate process: its file, and its signals."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.relay.receiver import Receiver

RELAY: Final = "turnstream_relay"

PLAIN: Final = {"allow_http": "true", "allow_networks": "['127.0.0.0/8', '::1/128']", "start": "'beginning'"}
"""Settings of an endpoint on loopback that gets all events."""


def write_file(folder: Path, receivers: Mapping[str, Receiver], **settings: str) -> Path:
    """Write the file of these endpoints, with more settings as TOML, and their secrets in the same folder."""
    tables: list[str] = []
    for name, receiver in receivers.items():
        (folder / f"{name}.secret").write_text(receiver.secret)
        lines = {"url": f"'{receiver.url}'", "secret": f"{{ file = '{name}.secret' }}", **PLAIN, **settings}
        tables.append("\n".join([f"[endpoints.{name}]", *(f"{key} = {value}" for key, value in lines.items()), ""]))
    file = folder / "relay.toml"
    file.write_text("\n".join(tables))
    return file
