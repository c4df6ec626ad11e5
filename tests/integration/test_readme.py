"""The README and the pages of `docs/` are true: their examples run, and the names in them exist."""

import ast
import asyncio
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import asdict
from typer.testing import CliRunner

import turnstream_alerts.main
import turnstream_relay.main
from turnstream import Settings, errors, sync
from turnstream.adapters.embedded.binary import SERVER_VARIABLE
from turnstream.adapters.redis.keys import Keys, PartitionKeys
from turnstream.catalogue import ModelCatalogue
from turnstream_cli.main import app

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
OPERATIONS = ROOT / "docs" / "operations.md"
DESIGN = ROOT / "docs" / "design.md"
RELAY = ROOT / "docs" / "relay.md"  # its examples are run by tests/relay and tests/e2e
RECORDS = sorted((ROOT / "docs" / "adr").glob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *RECORDS]
SOURCES = (ROOT, ROOT / "shared" / "turnstream", ROOT / "services" / "turnstream_relay")

ADR_LINES = 40
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|[\w.-]+\.(?:py|lua|toml|yml|conf|md))`")


class Block(NamedTuple):
    """A fenced block of a page; `line` is the number of lines before its first one."""

    page: Path
    line: int
    language: str
    text: str


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    text = page.read_text()
    for match in BLOCK.finditer(text):
        if match[2] in languages:
            yield Block(page, text[: match.start(3)].count("\n"), match[2], match[3])


def with_blocks(*languages: str) -> list[Path]:
    return [page for page in PAGES if page != RELAY and any(blocks(page, *languages))]


def typed_lines() -> Iterator[tuple[Path, str]]:
    """The shell commands of a text, without prompts and comments."""
    for page in PAGES:
        for block in blocks(page, "sh", "console"):
            for line in block.text.splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words:
                    yield page, shlex.join(words)


# ── examples ──


@pytest.fixture(scope="module")
def url() -> Generator[str]:
    """A real server with a worker, as a reader would have one."""
    with sync.Turnstream.embedded() as ts:
        yield ts._target._settings.redis_url.get_secret_value()


def run(block: Block, names: dict[str, object], runner: asyncio.Runner) -> None:
    """Run an example as a REPL would: `await` is allowed, and names stay for the next one."""
    source = "\n" * block.line + block.text
    code = compile(source, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result: object = eval(code, names)  # noqa: S307 - our own examples
    if inspect.iscoroutine(result):
        runner.run(result)


@pytest.mark.parametrize("page", with_blocks("python"), ids=name)
def test_the_examples_run(page: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNSTREAM_REDIS_URL", url)
    names: dict[str, object] = {"__name__": "__main__"}
    with asyncio.Runner() as runner:
        for block in blocks(page, "python"):
            run(block, names, runner)


def test_the_quick_start_has_a_complete_example(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TURNSTREAM_REDIS_URL", url)
    first = next(blocks(README, "python"))
    assert len([line for line in first.text.splitlines() if line]) <= 10
    assert first.text in README.read_text().partition("\n## Quick start\n")[2].partition("\n## ")[0]
    with asyncio.Runner() as runner:
        run(first, {}, runner)
    assert "has version 2" in capsys.readouterr().out


def test_the_fixtures_of_the_readme_run(tmp_path: Path) -> None:
    """By a pytest without any configuration, with a loop for each test."""
    example = next(block.text for block in blocks(README, "python") if "pytest_asyncio" in block.text)
    (tmp_path / "test_example.py").write_text(example)
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", ".", ".")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("page", with_blocks("toml"), ids=name)
def test_the_catalogue_files_can_be_read(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "toml"):
        (tmp_path / "models.toml").write_text(block.text)
        catalogue = ModelCatalogue.from_file(tmp_path / "models.toml")
        for model, entry in tomllib.loads(block.text)["models"].items():
            if "window" in entry:
                assert catalogue.context_window(model) == entry["window"]


# ── commands ──

TURNSTREAM_LINES = sorted({line for _, line in typed_lines() if line.startswith("turnstream ")})
ALERTS_LINES = sorted({line for _, line in typed_lines() if line.startswith("turnstream-alerts")})
MAKE_TARGETS = sorted(
    {line.split()[1] for _, line in typed_lines() if line.startswith("make ")}
    | {target for page in PAGES for target in re.findall(r"`make ([\w-]+)", page.read_text())},
)


@pytest.mark.parametrize("line", TURNSTREAM_LINES)
def test_the_command_line_accepts_typed_values(line: str) -> None:
    # `--help` after the rest: every option before it must exist, and nothing is carried out.
    _, *words = shlex.split(line)
    of_relay = words[0] == "relay"
    result = CliRunner().invoke(turnstream_relay.main.app if of_relay else app, [*words[of_relay:], "--help"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("line", ALERTS_LINES)
def test_the_example_of_a_service_has_the_options_that_are_typed(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        turnstream_alerts.main.main(["--help"])
    described = capsys.readouterr().out.split()
    assert [word for word in shlex.split(line) if word.startswith("-") and word not in described] == []


def test_the_readme_shows_every_command() -> None:
    commands = set(re.findall(r"^\s*│?\s*(\w+)\s{2,}", CliRunner().invoke(app, ["--help"]).output, re.MULTILINE))
    shown = {shlex.split(line)[1] for line in TURNSTREAM_LINES}
    assert shown
    assert shown <= commands
    assert {"demo", "worker", "dev", "send", "get", "list", "tail", "relay"} <= shown


@pytest.mark.parametrize("target", MAKE_TARGETS)
def test_the_makefile_has_the_targets(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_extras_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for page in PAGES for extra in re.findall(r"(?:turnstream|'\.)\[(\w+)\]", page.read_text())}
    assert named
    assert named <= set(extras)


# ── names ──


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        if path.startswith("https://"):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_exist(page: Path) -> None:
    for path in PATH.findall(page.read_text()):
        assert any((folder / path).exists() for folder in (*SOURCES, page.parent)), path


def test_the_tree_of_the_architecture_is_the_tree() -> None:
    page = ROOT / "docs" / "architecture.md"
    tree = next(blocks(page, "text")).text
    library = {entry for line in re.findall(r"^  (\S.*?)(?:  \s+\S|$)", tree, re.MULTILINE) for entry in line.split()}
    assert {entry.rstrip("/") for entry in library} == {
        *(
            f"adapters/{path.name}"
            for path in (SOURCES[1] / "adapters").iterdir()
            if path.is_dir() and path.name[0] != "_"
        ),
        *(
            path.name
            for path in SOURCES[1].iterdir()
            if path.name[0] != "_" and path.name not in {"adapters", "py.typed"}
        ),
    }


def setting_rows() -> Mapping[str, str]:
    """The settings of the page on operations, with their defaults as written there."""
    row = re.compile(r"^\| `(TURNSTREAM_\w+)` \| (\S+) \|", re.MULTILINE)
    return {variable: default.strip("`") for variable, default in row.findall(OPERATIONS.read_text())}


def test_the_settings_are_listed_with_their_defaults() -> None:
    defaults = {f"TURNSTREAM_{field.upper()}": value for field, value in asdict(Settings()).items()}
    plain = {variable: getattr(value, "get_secret_value", lambda v=value: v)() for variable, value in defaults.items()}
    assert dict(setting_rows()) == {variable: str(value).lower() for variable, value in plain.items()}


def test_no_other_settings_are_named() -> None:
    named = {variable for page in PAGES for variable in re.findall(r"TURNSTREAM_[A-Z_]+", page.read_text())}
    assert named <= {*setting_rows(), SERVER_VARIABLE}


def test_every_public_error_is_explained() -> None:
    explained = set(re.findall(r"`([A-Z]\w+)`", README.read_text()))
    assert set(errors.__all__) <= explained


@pytest.mark.parametrize("page", [OPERATIONS, DESIGN], ids=name)
def test_every_key_is_explained(page: Path) -> None:
    own = PartitionKeys("ts", "tag")
    made_of_ids = [
        own.session("<id>"),
        own.messages("<id>"),
        own.order("<id>"),
        own.queue("<id>"),
        own.reply_channel("<client>"),
    ]
    of_subscription = own.subscription("<name>")
    subscription = [*of_subscription.types, of_subscription.queue("<id>")]
    outcomes = own.outcomes(0).removesuffix("0") + "<bucket>"
    others = ("tag", "outcomes_prefix")
    fixed = [
        value for key, value in vars(own).items() if isinstance(value, str) and key[0] != "_" and key not in others
    ]
    every = Keys("ts", 1)
    members = every.members("<name>")
    shared = [*members[:3], every.layout, every.workers, every.changes]
    channels = [every.event_channel("<type>"), every.session_channel("<id>")]
    text = page.read_text()
    assert [
        key for key in (*made_of_ids, *subscription, outcomes, *fixed, *shared, *channels) if f"`{key}`" not in text
    ] == []


def test_log_messages_to_watch_for_are_logged() -> None:
    watched = re.search(r"Worth\s+an\s+alarm\s+when\s+they\s+repeat: (.+?)\n\n", OPERATIONS.read_text(), re.DOTALL)
    assert watched
    messages = re.findall(r"`([^`]+)`", watched[1])
    source = "".join(path.read_text() for path in SOURCES[1].rglob("*.py"))
    assert messages
    assert [message for message in messages if f'"{message}"' not in source] == []


@pytest.mark.parametrize("record", RECORDS, ids=name)
def test_decisions_are_short_records(record: Path) -> None:
    text = record.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= ADR_LINES
    assert text.startswith(f"# {int(record.name[:4])}. ")


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(record.name[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))
