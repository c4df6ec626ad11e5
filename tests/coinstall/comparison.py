"""The versions that a package gets alone, and together with Turnstream."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from packaging.version import Version

PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)

Versions = Mapping[str, Version]


class Downgrade(NamedTuple):
    """A package that Turnstream forces to an older version."""

    name: str
    alone: Version
    beside: Version

    def __str__(self) -> str:
        """Describe the requirements and the result."""
        return f"{self.name}: {self.alone} alone, {self.beside} beside turnstream"


def versions_in(resolution: str) -> Versions:
    """Return the versions that a resolution in the format of requirements files holds, by canonical name."""
    return {canonical(match["name"]): Version(match["version"]) for match in PIN.finditer(resolution)}


def downgrades(alone: Versions, beside: Versions) -> list[Downgrade]:
    """Return the packages that get older with Turnstream than alone; one that is no longer needed does not count."""
    both = sorted(alone.keys() & beside.keys())
    return [Downgrade(name, alone[name], beside[name]) for name in both if beside[name] < alone[name]]


def canonical(name: str) -> str:
    """Return the one spelling of a package's name, without its extras."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()
