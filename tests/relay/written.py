"""Configuration files of the relay, as tests write them."""

import base64
import re
from pathlib import Path
from typing import Final

SECRET: Final = "whsec_" + base64.b64encode(b"twenty-four bytes, a key.").decode()

ENV_SECRET: Final = '{ env = "GOOD" }'

LOOPBACK: Final = ("allow_http = true", 'allow_networks = ["127.0.0.0/8", "::1/128"]')
"""The deliveries that an endpoint on this machine takes."""


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


def to_loopback(text: str, url: str, *lines: str) -> str:
    """Return an example with another URL for all endpoints, and more lines for each."""
    return re.sub(r'^url = ".+?"', "\n".join([f'url = "{url}"', *LOOPBACK, *lines]), text, flags=re.MULTILINE)
