"""A virtual environment for each contender, so that none decides the versions of another's dependencies."""

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final, Self

import msgspec

ROOT: Final = Path(__file__).resolve().parents[2]
REQUIREMENTS: Final = Path(__file__).parent / "requirements"


class Environment(msgspec.Struct, frozen=True):
    """An environment's interpreter, and the versions of what its requirements name."""

    python: Path
    versions: dict[str, str]

    @classmethod
    def ours(cls) -> Self:
        """Return the environment that this program runs in: the project's own."""
        return cls(Path(sys.executable), _versions(Path(sys.executable), ["turnstream", "redis", "hiredis"]))

    @classmethod
    def of(cls, name: str) -> Self:
        """Make the environment of `requirements/<name>.txt`, or take the one that was made from the same lines.

        Raises subprocess.CalledProcessError when pip cannot install them; its output goes to standard error.
        """
        requirements = REQUIREMENTS / f"{name}.txt"
        folder = ROOT / ".venv-peers" / name
        python, stamp = folder / "bin" / "python", folder / "installed.txt"
        if not stamp.exists() or stamp.read_text() != requirements.read_text():
            venv.create(folder, with_pip=True, clear=True)
            pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-qq", "-r", str(requirements)]
            subprocess.run(pip, check=True)  # noqa: S603 - the requirements are ours
            stamp.write_text(requirements.read_text())
        names = [
            line.split("=")[0].split("[")[0].split(">")[0].strip() for line in requirements.read_text().splitlines()
        ]
        return cls(python, _versions(python, [name for name in names if name and not name.startswith("#")]))


def _versions(python: Path, packages: list[str]) -> dict[str, str]:
    asked = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    printed = subprocess.run([python, "-c", asked, *packages], check=True, capture_output=True, text=True)  # noqa: S603
    found: dict[str, str] = json.loads(printed.stdout)
    return found
