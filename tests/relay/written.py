"""Configuration files of the relay, as tests write them."""

from pathlib import Path
from typing import Final

from turnstream_relay.signing import new_secret

SECRET: Final = new_secret()

ENV_SECRET: Final = '{ env = "GOOD" }'


def endpoint(
    *lines: str, name: str = "billing", url: str = "https://billing.example.com/hooks", secret: str = ENV_SECRET
) -> str:
    """Return the table of an endpoint."""
    return "\n".join([f"[endpoints.{name}]", f'url = "{url}"', f"secret = {secret}", *lines, ""])


def write(folder: Path, *tables: str) -> Path:
    """Write a file of endpoints, and return where it is."""
    file = folder / "relay.toml"
    file.write_text("\n".join(tables))
    return file
