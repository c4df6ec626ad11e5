"""Finds the hits of the word list in texts, and counts them."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tools.prose_check.texts import Text
from tools.prose_check.words import MAX_FIRST_SENTENCE_WORDS, RULES

LONG_SENTENCE: Final = "long first sentence"
_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
_SENTENCE_END = re.compile(r"[.!?][\"')]*(?=\s|\Z)|¶|\n\s*[:-]")
_CONTEXT: Final = 60


class Hit(NamedTuple):
    """A place that the word list objects to."""

    path: Path
    line: int
    rule: str
    reason: str
    excerpt: str


class Count(NamedTuple):
    """The words of some texts, and the hits in them."""

    words: int
    hits: list[Hit]

    @property
    def per_thousand(self) -> float:
        """Hits in 1,000 words; 0 without words."""
        return 1000 * len(self.hits) / self.words if self.words else 0.0


def count(texts: Iterable[Text]) -> Count:
    """Count the words of texts and collect the hits."""
    words, hits = 0, list[Hit]()
    for text in texts:
        words += len(_WORD.findall(text.text))
        hits += hits_in(text)
    return Count(words, hits)


def hits_in(text: Text) -> Iterator[Hit]:
    """Yield the hits of one text; of two rules that object to the same words, the first."""
    taken = list[tuple[int, int]]()
    for rule in RULES:
        allowed = [match.span() for match in rule.allowed.finditer(text.text)] if rule.allowed else []
        for match in rule.pattern.finditer(text.text):
            word = _WORD.search(text.text, match.start())
            start = word.start() if word else match.start()
            if any(begin < match.end() and start < end for begin, end in (*taken, *allowed)):
                continue
            taken.append((start, match.end()))
            yield _hit(text, start, rule.name, rule.reason)
    if text.kind == "docstring":
        yield from _long_first_sentence(text)


def _hit(text: Text, start: int, rule: str, reason: str) -> Hit:
    line = text.line + text.text.count("\n", 0, start)
    excerpt = " ".join(text.text[max(0, start - _CONTEXT // 2) : start + _CONTEXT].replace("¶", " ").split())
    return Hit(text.path, line, rule, reason, excerpt)


def _long_first_sentence(text: Text) -> Iterator[Hit]:
    end = _SENTENCE_END.search(text.text)
    words = len(_WORD.findall(text.text[: end.start() if end else None]))
    if words > MAX_FIRST_SENTENCE_WORDS:
        reason = f"{words} words: say in {MAX_FIRST_SENTENCE_WORDS} what the thing is or does, and the rest after it"
        yield _hit(text, 0, LONG_SENTENCE, reason)
