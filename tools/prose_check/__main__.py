"""Check that documents, docstrings, comments, help and messages are plain English: `python -m tools.prose_check`.

It looks for constructions that are rare in well-kept English documentation (`words.py` lists them, with what to write
instead) and fails above one hit in 1,000 words.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tools.prose_check.report import Count, count
from tools.prose_check.texts import texts_of

MAX_PER_THOUSAND: Final = 1.0
DEFAULT_PATHS: Final = ("README.md", "CHANGELOG.md", "docs", "shared", "services", "tests", "benchmarks", "tools")
SUFFIXES: Final = frozenset({".md", ".py", ".lua"})
TOP_FILES: Final = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the paths and print what was found.

    Args:
        arguments: of the command line; `sys.argv` without.

    Returns:
        The exit status: 0, or 1 above one hit in 1,000 words.

    """
    parser = argparse.ArgumentParser(
        "python -m tools.prose_check", description="Check that the prose is plain English."
    )
    parser.add_argument("paths", nargs="*", type=Path, help="files and folders; without any, the whole project")
    parser.add_argument("--all", action="store_true", help="print every hit, with the reason")
    options = parser.parse_args(arguments)
    missing = [str(path) for path in options.paths if not path.exists()]
    if missing:
        parser.error(f"no such file or folder: {', '.join(missing)}")
    counts = {path: count(texts_of(path)) for path in _files(options.paths or map(Path, DEFAULT_PATHS))}
    if options.all:
        _print_hits(counts.values())
    return _print_summary(counts)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in found if file.suffix in SUFFIXES and file.is_file())


def _print_hits(counts: Iterable[Count]) -> None:
    for counted in counts:
        for hit in sorted(counted.hits, key=lambda hit: hit.line):
            print(f"{hit.path}:{hit.line}: {hit.rule}: {hit.excerpt!r} ({hit.reason})")


def _print_summary(counts: dict[Path, Count]) -> int:
    total = Count(sum(each.words for each in counts.values()), [hit for each in counts.values() for hit in each.hits])
    by_rule = Counter(hit.rule for hit in total.hits)
    for rule, hits in by_rule.most_common():
        print(f"{hits:6}  {rule}")
    worst = sorted(counts.items(), key=lambda item: -len(item[1].hits))[:TOP_FILES]
    for path, counted in worst:
        if counted.hits:
            print(f"{counted.per_thousand:6.1f} per 1,000 words, {len(counted.hits):4} hits  {path}")
    rate = f"{total.per_thousand:.2f} per 1,000 words, at most {MAX_PER_THOUSAND} allowed"
    print(f"{len(total.hits)} hits in {total.words:,} words: {rate}")
    return int(total.per_thousand > MAX_PER_THOUSAND)


if __name__ == "__main__":
    sys.exit(main())
