"""The document's text, with the numbers that the code has."""

from pathlib import Path
from string import Template

from tools.asyncapi.recording import DEFAULTS, KEYS
from tools.asyncapi.replies import rejections
from tools.asyncapi.schemas import words_of
from turnstream.adapters.redis.connection.slots import SLOTS
from turnstream.adapters.redis.keys import CLIENT_ID, LAYOUT, TAGS
from turnstream.application.queries.query_handler import MAX_ANSWER_BYTES
from turnstream.codec.envelope import MAX_NAME_BYTES
from turnstream.codec.records import REJECTIONS
from turnstream.domain.json_input import MAX_DEPTH
from turnstream.domain.limits import MAX_ID_LENGTH, MAX_ITEMS, MAX_PAGE, MAX_TOKENS
from turnstream.domain.models import SESSION_BUCKETS


def guide() -> str:
    """Return how to write a producer or a subscriber, as Markdown."""
    text = Template(Path(__file__).with_name("guide.md").read_text(encoding="utf-8"))
    return text.substitute(
        namespace=DEFAULTS.namespace,
        partitions=DEFAULTS.partitions,
        layout=LAYOUT,
        tags=TAGS,
        buckets=SESSION_BUCKETS,
        slots=SLOTS,
        example_key=KEYS.commands,
        client_id=CLIENT_ID,
        max_backlog=DEFAULTS.max_backlog,
        max_message=DEFAULTS.max_message_bytes,
        window=f"{DEFAULTS.deduplication_window:g}",
        retention=DEFAULTS.event_retention,
        max_answer=MAX_ANSWER_BYTES,
        max_depth=MAX_DEPTH,
        max_name=MAX_NAME_BYTES,
        max_id=MAX_ID_LENGTH,
        max_items=MAX_ITEMS,
        max_page=MAX_PAGE,
        max_tokens=MAX_TOKENS,
        errors="\n".join(_row(code) for code in REJECTIONS),
    )


def _row(code: str) -> str:
    names = ", ".join(f"`{name}`" for name in rejections()[code].fields)
    return f"| `{code}` | {words_of(REJECTIONS[code])} | {names} |"
