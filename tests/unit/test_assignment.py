"""Assignment: every worker computes it alone, so together they must own every partition once, in equal shares."""

from random import Random

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from tests.unit.given import unhurried

from turnstream.worker.assignment import assigned

names = st.lists(st.text("abc-1", min_size=1), min_size=1, max_size=9, unique=True)


def owners(workers: list[str], partitions: int) -> dict[int, str]:
    """Let every worker compute what is its own; return whose each partition is."""
    own = [(partition, worker) for worker in workers for partition in assigned(worker, workers, partitions)]
    assert len({partition for partition, _ in own}) == len(own), "two workers own a partition"
    return dict(own)


@unhurried
@for_all(names, st.integers(0, 7).map(lambda power: 2**power))
def test_every_partition_has_one_owner_and_no_owner_more_than_a_fair_share(workers: list[str], partitions: int) -> None:
    owned = owners(workers, partitions)
    assert set(owned) == set(range(partitions))
    fair_share = -(-partitions // len(workers))
    assert all(list(owned.values()).count(worker) <= fair_share for worker in workers)


@unhurried
@for_all(names, st.randoms(use_true_random=False))
def test_the_order_in_which_workers_are_listed_does_not_matter(workers: list[str], shuffle: Random) -> None:
    listed = [*workers, workers[0]]
    shuffle.shuffle(listed)
    assert assigned(workers[0], listed, 64) == assigned(workers[0], workers, 64)


def test_a_worker_that_is_not_listed_yet_counts_as_alive() -> None:
    assert assigned("new", ["old"], 64) == assigned("new", ["old", "new"], 64)
    assert assigned("only", [], 64) == set(range(64))


def test_a_restarted_instance_gets_its_former_partitions() -> None:
    others = ["b:1", "c:1"]
    assert assigned("a:1", others, 64) == assigned("a:2", others, 64)
    assert owners(["a:1", "a:2"], 64).keys() == set(range(64))  # while the earlier life is still registered


@pytest.mark.parametrize("partitions", [64, 256])
@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 12])
def test_few_partitions_move_when_one_worker_leaves(count: int, partitions: int) -> None:
    """Besides the partitions of the one that left, at most one in five of the others' changes hands."""
    workers = [f"worker-{number}" for number in range(count)]
    before = owners(workers, partitions)
    for gone in workers:
        after = owners([worker for worker in workers if worker != gone], partitions)
        moved = [p for p, owner in before.items() if owner not in {gone, after[p]}]
        assert len(moved) <= partitions / 5


def test_more_workers_than_partitions_leave_some_without() -> None:
    workers = [f"worker-{number}" for number in range(10)]
    assert sorted(len(assigned(worker, workers, 4)) for worker in workers) == [0] * 6 + [1] * 4


def test_workers_agree_across_processes_and_versions() -> None:
    """Workers of two versions may run together: this can never change (Python's own hash does, in every process)."""
    assert assigned("a", ["a", "b"], 8) == {0, 3, 6, 7}
