"""The README as a package index shows it: a relative link leads nowhere there.

The `Repository` of `[project.urls]` is the repository's public address. With one, relative links become links to the
files of this version there. Without one they become text: the files are in the source distribution.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE_LINK = re.compile(r"(?<!!)\[(?P<text>[^]]+)]\((?!\w+:|#)(?P<path>[^)\s]+)\)")


class PackageReadme(MetadataHookInterface):
    """Gives the metadata of a package its readme."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the readme."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        base = f"{repository.rstrip('/')}/blob/v{metadata['version']}/" if repository else None
        metadata["readme"] = {"content-type": "text/markdown", "text": for_an_index(text, base)}


def for_an_index(text: str, base: str | None) -> str:
    """Return Markdown without relative links.

    Args:
        text: the Markdown.
        base: the URL under which the files of the repository are, with a slash at its end; None if there is none.

    """
    return RELATIVE_LINK.sub(r"\g<text>" if base is None else rf"[\g<text>]({base}\g<path>)", text)
