"""The check of users' other packages, with a resolver whose answers are known."""

from pathlib import Path

import pytest
from packaging.version import Version
from tests.coinstall import __main__ as coinstall
from tests.coinstall.comparison import Downgrade, downgrades, versions_in
from tests.coinstall.resolver import ATTEMPTS, RegistryError, Resolver, UnsolvableError

ALONE = "echo langgraph==1.2.24; echo uuid-utils==0.19.0"
UNSOLVABLE = "echo 'No solution found when resolving dependencies' >&2; exit 1"
AWAY = "echo 'error: Failed to fetch' >&2; exit 2"


def uv_that(folder: Path, alone: str, beside: str = "") -> Path:
    """Write a program that counts its calls and prints one answer, or another one if Turnstream is required too."""
    program = folder / "uv"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/calls\ncase "$*" in *--extra*) {beside or alone};; *) {alone};; esac\n'
    )
    program.chmod(0o755)
    return program


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


def test_older_entries_are_found_whatever_else_changes() -> None:
    alone = versions_in("Redis_Thing[hiredis]==8.1.0\nrich==14.3.4\nold==1.9\ngone==1\n")
    beside = versions_in("redis-thing==8.1.0\nrich==15.0.0\nold==1.10.0\nturnstream==1\n")
    assert downgrades(alone, beside) == []
    assert downgrades(beside, alone) == [
        Downgrade("old", Version("1.10.0"), Version("1.9")),
        Downgrade("rich", Version("15.0.0"), Version("14.3.4")),
    ]


class TestResolver:
    def test_a_registry_that_is_away_for_a_moment_is_asked_again(self, tmp_path: Path) -> None:
        uv = uv_that(tmp_path, f"if test $(wc -l < {tmp_path}/calls) -lt 3; then {AWAY}; fi; echo rich==14.0.0")
        assert Resolver(uv, pause=0).resolve(["rich"]) == {"rich": Version("14.0.0")}
        assert calls(tmp_path) == 3

    def test_one_that_stays_away_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(RegistryError, match="Failed to fetch"):
            Resolver(uv_that(tmp_path, AWAY), pause=0).resolve(["rich"])
        assert calls(tmp_path) == ATTEMPTS

    def test_contradictory_options_are_refused_without_a_request(self, tmp_path: Path) -> None:
        with pytest.raises(UnsolvableError, match="No solution found"):
            Resolver(uv_that(tmp_path, UNSOLVABLE), pause=0).resolve(["rich"])
        assert calls(tmp_path) == 1


class TestVerdict:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(coinstall, "PACKAGES", ("langgraph",))

        def at_once(_: float) -> None:
            """Do not sleep."""

        monkeypatch.setattr("time.sleep", at_once)

    @pytest.mark.parametrize(
        ("alone", "beside", "status", "text"),
        [
            (ALONE, ALONE, 0, "1 passed, 0 failed, 0 skipped"),
            (ALONE, "echo langgraph==0.6.1", 1, "langgraph: 1.2.24 alone, 0.6.1 beside turnstream"),
            (ALONE, "echo uuid-utils==0.9", 1, "uuid-utils: 0.19.0 alone, 0.9 beside turnstream"),
            (UNSOLVABLE, "echo rich==1", 1, "0 passed, 0 failed, 1 skipped"),
            (AWAY, "echo rich==1", 1, "Not checked: error: Failed to fetch"),
            (ALONE, UNSOLVABLE, 1, "Not checked: No solution found"),
        ],
    )
    def test_it_is_said_and_is_the_exit_status(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, alone: str, beside: str, status: int, text: str
    ) -> None:
        assert coinstall.main(uv_that(tmp_path, alone, beside)) == status
        assert text in capsys.readouterr().out
