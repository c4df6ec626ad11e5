"""The trace of a command, as `make trace` prints it: its contents, and that two runs find the same."""

import asyncio
import sys
from itertools import combinations

import msgspec
import pytest
from tools import trace_command
from tools.trace_command import PACKAGE, Entry, Figures, Road, Segment, segments, trace

from turnstream.messages import user_message

MAX_FILES, MAX_MOVES = 28, 60


@pytest.fixture(scope="module")
def road() -> Road:
    return asyncio.run(trace())


def names(walk: trace_command.Walk) -> list[str]:
    return [entry.function for entry in walk]


def test_a_move_is_from_one_file_to_another_and_a_return_one_to_a_file_left_before() -> None:
    walk = (Entry("a", "f", 1), Entry("a", "g", 2), Entry("b", "h", 3), Entry("a", "f", 2), Entry("c", "i", 1))

    assert Figures.of(walk) == Figures(entries=5, distinct=4, files=3, moves=3, returns=1, depth=3)
    assert segments(walk) == [
        Segment("a", ["f", "g"], again=False),
        Segment("b", ["h"], again=False),
        Segment("a", ["f"], again=True),
        Segment("c", ["i"], again=False),
    ]


def test_each_leg_has_its_functions(road: Road) -> None:
    assert all(len(walk) > 1 for walk in road.parts().values())
    assert names(road.producer)[0] == "Turnstream.execute"
    assert "add_message" in names(road.worker)
    assert "EventSubscription.__anext__" not in names(road.producer + road.queued + road.worker + road.reply)
    assert all((PACKAGE / entry.file).is_file() for walk in road.parts().values() for entry in walk)


async def test_two_runs_find_the_same_path() -> None:
    """On a busy machine, one of a few runs may meet something else on its way."""
    found = [await trace() for _ in range(3)]
    assert any(one == other for one, other in combinations(found, 2))


async def test_the_documented_path_is_the_traced_one() -> None:
    """Of a few runs, too; and it has no more files and moves than a reader can follow."""
    page = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text()
    _, listed = page.split("```text\nclient\n", 1)
    files = {line.strip() for line in listed.split("```", 1)[0].splitlines()} - {"worker"}
    roads = [await trace() for _ in range(3)]
    walks = [road.producer + road.queued + road.worker for road in roads]
    figures = [Figures.of(walk) for walk in walks]
    assert files in [{entry.file for entry in walk} for walk in walks]
    assert any(f"| **all three** | {each.files} | {each.moves} |" in page for each in figures)
    assert min(each.files for each in figures) <= MAX_FILES
    assert min(each.moves for each in figures) <= MAX_MOVES


async def test_work_beside_the_command_is_not_counted(road: Road) -> None:
    async def run_beside() -> None:
        while True:
            user_message("Beside the road")
            await asyncio.sleep(0)

    beside = asyncio.create_task(run_beside())
    found = await trace()
    beside.cancel()
    assert "user_message" not in names(found.producer + found.queued + found.worker + found.event + found.reply)


def test_nothing_is_traced_after_it(road: Road) -> None:
    assert road.worker
    assert sys.getprofile() is None


@pytest.mark.parametrize("option", ["--json", "--road"])
def test_it_prints_the_figures(
    option: str, road: Road, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async def traced() -> Road:
        return road

    monkeypatch.setattr(trace_command, "trace", traced)

    trace_command.main([option])

    printed = capfdbinary.readouterr().out
    moves = Figures.of(road.parts()["whole: execute → bytes of the commit"]).moves
    if option == "--json":
        assert msgspec.json.decode(printed)["whole: execute → bytes of the commit"]["figures"]["moves"] == moves
    else:
        assert str(moves) in printed.decode()
        assert "Turnstream.execute" in printed.decode()
