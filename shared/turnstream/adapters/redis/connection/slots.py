"""The hash slots of a cluster: 16,384 equal parts of all keys."""

from binascii import crc_hqx

SLOTS = 16_384


def slot_of(key: str) -> int:
    """Return the slot of a key or a sharded channel: that of its tag in braces, if it has one."""
    _, _, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    return crc_hqx((tag if tag and closed else key).encode(), 0) % SLOTS
