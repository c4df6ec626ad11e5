"""Messages as the Standard Webhooks convention has them, and their signatures, by its own library."""

import base64
import binascii
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import quote

from pydantic import SecretStr
from standardwebhooks import Webhook

PREFIX: Final = "whsec_"

KEY_BYTES: Final = (24, 64)
"""How long the convention wants a key, from and to."""


class Message(NamedTuple):
    """A message to post: `id` is the same for every attempt, `type` is for logs, `body` is JSON."""

    id: str
    type: str
    body: bytes
    traceparent: str | None = None


def new_secret() -> str:
    """Return a new secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES[0])).decode()


def check_secret(secret: str) -> str:
    """Return a secret that can sign.

    Raises:
        ValueError: it is no base64, or its key is too short or too long; does not quote it.

    """
    try:
        text = secret.removeprefix(PREFIX).rstrip("=")
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"holds no secret: {PREFIX} and base64, as `turnstream relay secret` makes one") from None
    shortest, longest = KEY_BYTES
    if not shortest <= len(key) <= longest:
        raise ValueError(f"holds a key of {len(key)} bytes: it takes {shortest} to {longest}")
    return secret


class Signer:
    """Signs with one secret, or with two during a rotation."""

    def __init__(self, secrets: Sequence[SecretStr]) -> None:
        """Sign with each of these."""
        self._webhooks = [Webhook(secret.get_secret_value()) for secret in secrets]

    def headers(self, message: Message, now: datetime) -> dict[str, str]:
        """Return the headers of an attempt that is made now; the signature is over the body before any compression."""
        # An id may be any text that a producer chose; a header may not.
        message_id = quote(message.id, safe=":")
        text = message.body.decode()
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(webhook.sign(message_id, now, text) for webhook in self._webhooks),
        }
