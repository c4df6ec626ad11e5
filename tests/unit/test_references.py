"""The targets of citations exist: sections of docs/design.md, records of decisions, pages, their headings."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RECORDS = {int(record.name[:4]) for record in (DOCS / "adr").glob("*.md")}
SUFFIXES = {".py", ".lua", ".toml", ".md", ".js", ".mjs", ".conf", ".acl", ".sh", ".yml"}

SECTIONS = re.compile(r"design §(\d+)((?:(?:,| and|, and) §\d+)*)")
RECORD = re.compile(r"\bADRs? (\d+)")
HEADING = re.compile(r"docs/([\w-]+)\.md, ([A-Z][\w ]*)")
PAGE = re.compile(r"\bdocs/[\w/-]+\.(?:md|json)\b")
ABSENT = re.compile(r"\bthe spec\b|\bspec §|\(spec[,)]", re.IGNORECASE)


def sources() -> Iterator[Path]:
    """Yield all files that people write: code, tests, benchmarks, configuration, documents."""
    for folder in ("shared", "services", "tools", "tests", "benchmarks", "deploy", "docs"):
        for path in sorted((ROOT / folder).rglob("*")):
            parts = path.relative_to(ROOT).parts
            if path.suffix in SUFFIXES and not {"node_modules", "secrets", "results"} & set(parts):
                yield path
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile", "pyproject.toml"))


def text_of(path: Path) -> str:
    """Return the text of a file as one line, without comment markers, so that a citation may span two lines."""
    lines = (re.sub(r"^\s*(?:#|--|//)?\s*", "", line) for line in path.read_text().splitlines())
    return " ".join(lines)


TEXTS = {path.relative_to(ROOT).as_posix(): text_of(path) for path in sources() if path != Path(__file__)}


def headings(page: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", (DOCS / f"{page}.md").read_text(), re.MULTILINE)


NUMBERED = {int(number) for heading in headings("design") for number in re.findall(r"^(\d+)\. ", heading)}


def faults(text: str) -> list[str]:
    """Return the citations in a text that lead nowhere."""
    cited = [int(number) for found in SECTIONS.findall(text) for number in re.findall(r"\d+", " ".join(found))]
    return [
        *(f"design §{number}" for number in cited if number not in NUMBERED),
        *(f"ADR {number}" for number in RECORD.findall(text) if int(number) not in RECORDS),
        *(page for page in PAGE.findall(text) if not (ROOT / page).exists()),
        *(
            f"{page}, {heading}"
            for page, heading in HEADING.findall(text)
            if not (DOCS / f"{page}.md").exists() or heading not in headings(page)
        ),
        *ABSENT.findall(text),
    ]


def test_every_citation_leads_somewhere() -> None:
    assert {name: found for name, text in TEXTS.items() if (found := faults(text))} == {}


def test_citations_are_found() -> None:
    """If comments cited in another form, the test above would pass without checking anything."""
    assert len([name for name, text in TEXTS.items() if SECTIONS.search(text)]) > 100
    assert sum(len(HEADING.findall(text)) for text in TEXTS.values()) > 10


@pytest.mark.parametrize(
    "text",
    [
        "a worker (design §99)",
        "(design §1, §99)",
        "design §4 and §99.",
        "as ADR 999 says",
        "see docs/no-such-page.md",
        "(docs/contract.md, No such heading)",
        "the commands of the spec",
        "(spec, step 4)",
    ],
)
def test_a_citation_that_leads_nowhere_is_found(text: str) -> None:
    assert faults(text) != []


def test_sections_of_the_design_are_numbered_without_gaps() -> None:
    numbers = re.findall(r"^## (\d+)\. ", (DOCS / "design.md").read_text(), re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, len(numbers) + 1))
    assert len(headings("design")) > len(numbers)
