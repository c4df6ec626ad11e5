"""`make coinstall`: users' other packages stay as new with Turnstream as without it; nothing is installed."""

import platform
import sys
from pathlib import Path
from textwrap import indent

from tests.coinstall.comparison import canonical, downgrades
from tests.coinstall.resolver import RegistryError, Resolver, UnsolvableError

ROOT = Path(__file__).parents[2]

PACKAGES = (
    "langgraph",
    "langchain",
    "openai-agents",
    "google-adk[redis]",
    "agent-framework-redis",
    "crewai",
    "semantic-kernel",
    "instructor",
    "browser-use",
    "strands-agents",
    "pydantic-ai",
    "llama-index-core",
    "fastapi",
    "celery",
    "taskiq-redis",
)

TURNSTREAM = (str(ROOT / "pyproject.toml"), "--extra", "all")


def main(uv: Path) -> int:
    """Check every package; return 0 if none has to give way."""
    resolver = Resolver(uv)
    try:
        turnstream = len(resolver.resolve([], *TURNSTREAM))
        print(f"turnstream[all] alone, on Python {platform.python_version()}: {turnstream} packages", flush=True)
        verdicts = [checked(resolver, package) for package in PACKAGES]
    except (RegistryError, UnsolvableError) as error:
        print(f"Not checked: {error}")
        return 1
    print(f"{verdicts.count(True)} passed, {verdicts.count(False)} failed, {verdicts.count(None)} skipped")
    return 0 if True in verdicts and False not in verdicts else 1


def checked(resolver: Resolver, package: str) -> bool | None:
    """Compare a package alone and together with Turnstream; print the verdict, and return whether it is well.

    Returns:
        None for a package that cannot be installed on this Python at all.

    """
    try:
        alone = resolver.resolve([package])
    except UnsolvableError as error:
        return told(package, None, f"SKIPPED: it cannot be installed on this Python, even alone\n{error}")
    try:
        beside = resolver.resolve([package], *TURNSTREAM)
    except UnsolvableError as error:
        return told(package, False, f"FAILED: it cannot be installed beside turnstream\n{error}")
    older = downgrades(alone, beside)
    if older:
        causes = "\n".join(map(str, older))
        return told(package, False, f"FAILED: turnstream forces older versions\n{causes}")
    return told(package, True, f"{alone[canonical(package)]}, {len(alone)} packages, none older beside turnstream")


def told(package: str, verdict: bool | None, text: str) -> bool | None:
    """Print what came of a package."""
    first, *rest = text.splitlines()
    print(f"  {package:<22} {first}", flush=True)
    if rest:
        print(indent("\n".join(rest), " " * 8), flush=True)
    return verdict


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
