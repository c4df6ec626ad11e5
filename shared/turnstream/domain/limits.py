"""Bounds that hold for every deployment; sizes that an operator may choose are in `turnstream.settings`."""

import msgspec

MAX_ITEMS = 5_000
"""Content parts of a message, messages of a command, ids of a removal: more than this is refused."""

MAX_ID_LENGTH = 256
"""Characters of a session id or a message id."""

MAX_TOKENS = 10**15
"""Tokens of one report, so that sums and prices stay finite numbers."""

MAX_PAGE = 1_000
"""Sessions of one page of a listing."""

AtMostMaxItems = msgspec.Meta(max_length=MAX_ITEMS)
WithTimezone = msgspec.Meta(tz=True)
