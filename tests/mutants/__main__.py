"""`make mutants`: takes the checks out of the scripts one at a time; some test must fail each time, and is named."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.mutations import MUTATIONS, Mutation, script_in

ROOT = Path(__file__).parents[2]

SUITE = (
    "tests/contract/test_store.py",
    "tests/contract/test_ownership.py",
    "tests/contract/test_queue.py",
    "tests/contract/test_dedup.py",
    "tests/contract/test_deaths.py",
    "tests/contract/test_expiry.py",
    "tests/contract/test_parking.py",
    "tests/contract/test_event_log.py",
    "tests/contract/test_retention.py",
    "tests/contract/test_subscriptions_port.py",
    "tests/integration/test_scripts.py",
    "tests/integration/test_ownership_redis.py",
    "tests/integration/test_tidying.py",
    "tests/integration/test_subscriptions_redis.py",
    "tests/integration/test_migrate.py",
    "tests/integration/test_foreign_keys.py::test_a_stream_to_which_nothing_can_be_added_leaves_no_half_of_a_batch",
    "tests/integration/test_full_server.py::test_only_commands_that_free_memory_count_as_such",
    "tests/integration/test_full_server.py::test_and_it_is_small",
    "tests/integration/test_foreign_partitions.py::test_a_member_that_another_program_has_written_ends_no_worker_and_holds_no_partition",
)
"""The quick tests of the scripts; those of the whole suite, and chaos, could find more."""

ONE_SERVER = "not cluster and not sentinel"
"""The scripts are the same in every topology; groups of servers take long to start."""

TOGETHER = 2
PASSED, FAILED = 0, 1
"""The exit codes of pytest that decide; any other code does not."""


def main() -> int:
    """Try every mutant; return 0 if all of them were killed."""
    with tempfile.TemporaryDirectory(prefix="turnstream-mutants-") as folder:
        status, output = tested(Path(folder) / "original", None)
        if status != PASSED:
            print(f"The scripts as they are do not pass:\n{output}")
            return 1
        print(f"The scripts as they are pass {output.splitlines()[-1].strip('= ')}", flush=True)
        with ThreadPoolExecutor(TOGETHER) as pool:
            survived = sum(not killed for killed in pool.map(tried, enumerated(Path(folder))))
    print(f"{len(MUTATIONS)} checks removed, {survived} of them without any test that failed")
    return min(survived, 1)


def enumerated(folder: Path) -> list[tuple[Path, Mutation]]:
    """Give each mutant a folder."""
    return [(folder / str(number), mutation) for number, mutation in enumerate(MUTATIONS)]


def tried(where: tuple[Path, Mutation]) -> bool:
    """Run the suite on a mutant and print by which test it was killed."""
    copy, mutation = where
    began = time.monotonic()
    status, output = tested(copy, mutation)
    killer = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", output, re.MULTILINE)
    killed = status == FAILED and killer is not None
    verdict = f"killed by {killer[1]}" if killed and killer else f"SURVIVED (pytest exited with {status})"
    print(f"  {mutation.name:<28} {verdict} ({time.monotonic() - began:.0f} s)", flush=True)
    return killed


def tested(copy: Path, mutation: Mutation | None) -> tuple[int, str]:
    """Run the suite, until a test fails, on a copy of the library with a check less."""
    shutil.copytree(ROOT / "shared" / "turnstream", copy / "turnstream")
    if mutation:
        script = script_in(copy / "turnstream", mutation.script)
        script.write_text(mutation.applied_to(script.read_text()))
    path = os.pathsep.join([str(copy), str(ROOT / "services")])
    done = subprocess.run(
        (
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-rfE",
            "--tb=no",
            "-p",
            "no:cacheprovider",
            "-k",
            ONE_SERVER,
            *SUITE,
        ),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


if __name__ == "__main__":
    sys.exit(main())
