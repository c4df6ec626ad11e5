"""What a program imports before it does something: a slow import is paid by every command and every process."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("genai_prices", "pydantic", "redis", "rich", "structlog")


def imported(code: str, *arguments: str) -> set[str]:
    """The modules that a new process has imported after this code."""
    program = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return set(result.stderr.splitlines()[-1].split())


def test_the_library_is_imported_without_what_it_may_not_need() -> None:
    assert imported("import turnstream") & set(HEAVY) == set()


def test_in_memory_nothing_is_imported_for_a_server() -> None:
    code = "import asyncio, turnstream; asyncio.run(turnstream.Turnstream.in_memory().__aenter__())"
    assert "redis" not in imported(code)


@pytest.mark.parametrize("option", ["--help", "--version"])
@pytest.mark.parametrize("package", ["turnstream_cli", "turnstream_relay", "turnstream_worker"])
def test_a_program_that_only_says_what_it_is_does_not_import_the_library(package: str, option: str) -> None:
    code = f"from {package}.main import main; main()"
    assert "turnstream" not in imported(code, option)


@pytest.mark.parametrize("package", ["turnstream_alerts", "turnstream_cli", "turnstream_relay", "turnstream_worker"])
def test_every_program_has_a_version(package: str) -> None:
    result = subprocess.run([sys.executable, "-m", package, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("turnstream ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
@pytest.mark.parametrize(
    "arguments", [("turnstream_cli", "acl"), ("turnstream_cli", "--help"), ("turnstream_relay", "--help")]
)
def test_an_output_that_takes_no_more_is_reported_in_one_line(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (result.returncode, result.stderr) == (2, "error: The output cannot be written: No space left on device\n")
