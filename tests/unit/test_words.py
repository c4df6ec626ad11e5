"""Commands as scripts take them: counted words, and long ones cut so that Lua can unpack them."""

from hypothesis import given as for_all
from hypothesis import strategies as st
from tests.unit.given import unhurried

from turnstream.adapters.redis.connection.pipelined import Word
from turnstream.adapters.redis.server import MAX_WORDS, ScriptArgs, portions_of


def commands(words: list[Word]) -> list[list[Word]]:
    """Read words as a script does."""
    read: list[list[Word]] = []
    at = 0
    while at < len(words):
        count = words[at]
        assert isinstance(count, int)
        read.append(words[at + 1 : at + 1 + count])
        at += count + 1
    return read


def test_a_command_is_counted() -> None:
    words = ScriptArgs(["token"])
    words.add("HSET", "key", "field", b"value")
    words.add("XTRIM", "stream", "MINID", "1-0")
    assert words.words == ["token", 4, "HSET", "key", "field", b"value", 4, "XTRIM", "stream", "MINID", "1-0"]


@unhurried
@for_all(st.integers(0, 3 * MAX_WORDS), st.sampled_from([1, 2, 3]), st.integers(1, 5))
def test_many_items_are_cut_into_commands_that_hold_all_of_them(count: int, group: int, head_length: int) -> None:
    items: list[Word] = list(range(count * group))
    head: list[Word] = [f"head{number}" for number in range(head_length)]
    words = ScriptArgs()
    appended = words.add_many(head, items, group=group)
    written = commands(words.words)
    assert len(written) == appended
    assert all(command[:head_length] == head and len(command) <= MAX_WORDS for command in written)
    assert all((len(command) - head_length) % group == 0 for command in written)
    assert [item for command in written for item in command[head_length:]] == items


def test_no_items_are_no_command() -> None:
    words = ScriptArgs()
    assert words.add_many(("HDEL", "key"), []) == 0
    assert words.words == []


@unhurried
@for_all(st.integers(0, 3 * MAX_WORDS))
def test_portions_hold_everything_and_leave_room_for_a_name_and_a_key(count: int) -> None:
    items = [str(number) for number in range(count)]
    portions = portions_of(items)
    assert [item for portion in portions for item in portion] == items
    assert all(0 < len(portion) <= MAX_WORDS - 2 for portion in portions)
