"""How deep JSON is nested, before it is parsed: a parser recurses, and hostile input must not choose how far."""

import re

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SQUARE = bytes.maketrans(b"{}", b"[]")


def deeper_than(data: bytes, limit: int) -> bool:
    """Tell whether JSON has more than `limit` levels of arrays and objects; of other bytes, whether it may have."""
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    brackets = _STRINGS.sub(b"", data).translate(_SQUARE, _NOT_BRACKETS)
    for _ in range(limit):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)
