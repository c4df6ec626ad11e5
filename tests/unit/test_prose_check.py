"""The check of the project's English: its objections, the texts it accepts, and the texts it reads."""

from pathlib import Path

import pytest
from tools.prose_check.__main__ import main
from tools.prose_check.report import LONG_SENTENCE, count, hits_in
from tools.prose_check.texts import Text, texts_of
from tools.prose_check.words import MAX_FIRST_SENTENCE_WORDS, RULES

OBJECTIONABLE = {
    "where (condition), first in a sentence": "It waits. Where the server is full, it retries.",
    "where (condition), after a conjunction": "A lease is renewed also where the server is full.",
    "where (condition), of something missing": "Returns None where there is no session.",
    "where (condition), of a failure": "Retries the read, and raises where it fails.",
    "where (condition), after a participle": "A command is refused where the id is in use.",
    "whoever": "The lock goes to whoever asks first.",
    "who (actor)": "Who waits for a reply sends again.",
    "who (actor), inside a sentence": "A reply is published for who waits.",
    "nobody": "Nobody reads the stream.",
    "what (as a subject)": "What cannot be read is rejected.",
    "what (as a subject), inside a sentence": "The worker stops, and what waits is lost.",
    "all that": "The client sends all that was queued.",
    "tell": "The producer is told of it.",
    "hear": "The subscriber hears the event.",
    "stand": "The entry stands in the stream.",
    "lie": "The event lies on the stream.",
    "go on": "The subscription goes on at its checkpoint.",
    "come again": "The event comes again after an error.",
    "take away": "Retention takes away old events.",
    "take back": "A failover takes it back.",
    "rest": "The endpoint rests for a second.",
    "look whether": "The worker looks whether a lease has ended.",
    "is let": "The operator is let in.",
    "come on top": "Reads in flight come on top.",
    "behind (time or order)": "The second command is applied behind the first.",
    "is none": "One of the arguments is none.",
    "is there": "It reads everything that is there.",
    "in hand": "The batch in hand is finished.",
    "meanwhile": "Events published meanwhile are read.",
    "anew": "The price is computed anew.",
    "by itself": "A client reconnects by itself.",
    "all the same": "The reply is sent all the same.",
    "of its own": "It starts a server of its own.",
    "now and then": "The position is saved now and then.",
    "aside": "The entry is set aside.",
    "mend": "An operator mends the key.",
    "road": "This is the road of a command.",
    "lest": "Save it, lest it be lost.",
    "beside": "The worker runs beside the client.",
    "for ever": "It retries for ever.",
    "foreign": "A foreign key blocks the queue.",
    "rights": "The user has no rights.",
    "no more (time)": "The session exists no more.",
    "old adverb": "Messages are added singly.",
    "at its start": "It checks the server at its start.",
}

PLAIN = [
    "The server runs behind a proxy, behind the load balancer or behind its own firewall.",
    "The consumer is 300 events behind, and falls behind further; a command waits behind it.",
    "The directory where the socket is created; a case where no key exists.",
    "Where is the file? Say where to look.",
    "Who may call it? A client that waits for a reply; users who wait.",
    "What is a stream? What to do about it.",
    "An id by which two clients can be told apart; we tell one from the other.",
    "If there is none, it returns None; the value is None.",
    "`ts` stands for the namespace.",
    "The ratio lies between 0 and 1.",
    "The list goes on the stack.",
    "Use `told`, `whoever` and `behind`.",
]


def document(text: str, kind: str = "document") -> Text:
    return Text(Path("page.md"), 1, kind, text)


def test_every_rule_has_an_example_here() -> None:
    assert set(OBJECTIONABLE) == {rule.name for rule in RULES}


@pytest.mark.parametrize(("rule", "sentence"), OBJECTIONABLE.items())
def test_each_construction_is_found(rule: str, sentence: str) -> None:
    assert rule in {hit.rule for hit in hits_in(document(sentence))}


@pytest.mark.parametrize("sentence", PLAIN)
def test_right_english_passes(sentence: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(sentence)
    assert count(texts_of(page)).hits == []


def test_two_rules_count_one_word_once() -> None:
    assert len(list(hits_in(document("Nobody hears of it.")))) == 2
    assert len(list(hits_in(document("A read stops where nothing fails.")))) == 1


def test_a_long_first_sentence_of_a_docstring() -> None:
    sentence = "word " * MAX_FIRST_SENTENCE_WORDS
    assert [hit.rule for hit in hits_in(document(f"{sentence}more. Short.", "docstring"))] == [LONG_SENTENCE]
    assert list(hits_in(document(f"{sentence}. {sentence}more.", "docstring"))) == []
    assert list(hits_in(document(f"{sentence}more.", "comment"))) == []


PYTHON = '''\
"""A module
that nobody reads."""

LIMIT = 1
"""How often nobody tries."""


class Unread(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(f"nobody reads {name}")  # nobody knows
        # A comment of two lines, which
        # nobody reads.


def call(log, option) -> None:
    """Call nobody.

    >>> nobody()
    """
    log.warning("nobody answers", nobody="a field")
    option(help="For nobody.", name="nobody at all")
    raise ValueError("nobody " + "waits" if option else f"{option}: nobody there")  # noqa: nobody


def test_nobody_waits() -> None:
    pass
'''


def test_the_prose_of_a_python_file(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(PYTHON)
    found = [(text.kind, hit.line) for text in texts_of(source) for hit in hits_in(text)]
    assert sorted(found) == [
        ("comment", 10),
        ("comment", 12),
        ("docstring", 2),
        ("docstring", 5),
        ("docstring", 16),
        ("help", 21),
        ("log", 20),
        ("message", 10),
        ("message", 22),
        ("message", 22),
        ("test name", 25),
    ]


def test_the_prose_of_a_lua_file(tmp_path: Path) -> None:
    source = tmp_path / "script.lua"
    source.write_text("#!lua flags=allow-oom\n-- Two lines that\n-- nobody reads.\nlocal nobody = '' -- nobody\n")
    assert [(text.kind, hit.line) for text in texts_of(source) for hit in hits_in(text)] == [
        ("comment", 3),
        ("comment", 4),
    ]


def test_the_prose_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Nobody\n\n```python\nnobody()\n```\n\nCode as `nobody`, [nobody](nobody.md).\n\n"
        "| nobody | other |\n| --- | --- |\n| who | Where it ends, it ends. |\n\n**Where** it ends, it ends.\n"
    )
    assert sorted(hit.line for text in texts_of(page) for hit in hits_in(text)) == [1, 7, 9, 11, 13]


def test_other_files_have_no_prose(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"text": "Nobody"}')
    assert list(texts_of(tmp_path / "data.json")) == []


def test_one_hit_in_a_thousand_words_is_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("word " * 999 + "nobody")
    assert main([str(tmp_path)]) == 0
    page.write_text("word " * 998 + "nobody")
    assert main([str(page)]) == 1
    assert "1 hits in 999 words: 1.00 per 1,000 words" in capsys.readouterr().out


def test_every_hit_is_printed_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("One line.\nNobody reads it.\n")
    main([str(page), "--all"])
    printed = capsys.readouterr().out
    assert f"{page}:2: nobody: " in printed
    assert next(rule.reason for rule in RULES if rule.name == "nobody") in printed


def test_a_file_that_does_not_exist_is_no_clean_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "missing.md")])
    assert ended.value.code == 2
    assert "missing.md" in capsys.readouterr().err
