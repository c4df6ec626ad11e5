"""`make sync`: write the sync client; with `--check` fail if a file is not as it would be written."""

import argparse
import sys

from tools.generate_sync.modules import formatted, generated
from tools.generate_sync.sources import ROOT, UnknownShape


def main() -> None:
    """Write or check the files."""
    parser = argparse.ArgumentParser(prog="python -m tools.generate_sync", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    check = parser.parse_args().check
    try:
        texts = {path: formatted(text, path) for path, text in generated().items()}
    except UnknownShape as unknown:
        sys.exit(f"{unknown}\nAdd a rule to tools/generate_sync, or a line to its plan.")
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if check:
        if stale:
            names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
            sys.exit(f"Not as generated from the async client: {names}. Run `make sync`.")
        return
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")
        print(f"Wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
