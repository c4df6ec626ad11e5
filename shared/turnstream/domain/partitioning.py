"""Which partition a session belongs to (design §1)."""

from binascii import crc_hqx

BUCKETS = 4096
"""Buckets of session ids: partitions are made of whole buckets, so that their number can be doubled."""


def partition_of(session_id: str, partitions: int) -> int:
    """Return the partition of a session: CRC16-XMODEM of its id picks a bucket, the bucket a partition."""
    return crc_hqx(session_id.encode(), 0) % BUCKETS * partitions // BUCKETS
