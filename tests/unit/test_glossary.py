"""docs/glossary.md: each term once, with its meaning in a sentence or two of plain English."""

import re
from collections import Counter
from pathlib import Path

from tools.prose_check.report import count
from tools.prose_check.texts import texts_of

PAGE = Path(__file__).parents[2] / "docs" / "glossary.md"
MAX_SENTENCES = 2

TERMS, REFUSED = PAGE.read_text().split("\n## Words we do not use\n")
ROW = re.compile(r"^\| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
MEANINGS = [row for row in ROW.findall(TERMS) if row[0] != "term"]


def test_each_term_is_listed_once() -> None:
    listed = Counter(term for term, _, _ in MEANINGS)
    assert len(listed) > 50
    assert [term for term, times in listed.items() if times > 1] == []


def test_each_meaning_is_a_sentence_or_two() -> None:
    assert [
        term for term, meaning, _ in MEANINGS if not re.fullmatch(rf"(?:[^.]+\.){{1,{MAX_SENTENCES}}}", meaning)
    ] == []


def test_no_term_is_a_word_that_is_not_used() -> None:
    refused = {
        word for cell in re.findall(r"^\| (.+?) \|", REFUSED, re.MULTILINE) for word in re.findall("`(.+?)`", cell)
    }
    assert len(refused) > 30
    assert [term for term, _, _ in MEANINGS if term in refused] == []


def test_it_is_plain_english() -> None:
    assert count(texts_of(PAGE)).hits == []
