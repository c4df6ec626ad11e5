"""`turnstream setup` and `turnstream migrate`: on one server, behind Sentinels and on a cluster."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from redis.exceptions import MovedError
from tests.topologies import PRIMARIES, RunningCluster, RunningSentinels
from typer.testing import CliRunner, Result

from turnstream.adapters.embedded import EmbeddedServer
from turnstream.adapters.redis.function_library import library
from turnstream.adapters.redis.keys import tags
from turnstream_cli.main import app

OLD = "turnstream_01234567"


class Site:
    """A namespace on some servers, whose primaries a test looks at itself."""

    def __init__(self, servers: EmbeddedServer | RunningSentinels | RunningCluster) -> None:
        self.url = servers.url
        self.namespace = f"setup-{uuid4().hex[:8]}"
        if isinstance(servers, EmbeddedServer):
            self.primaries = [Redis(port=servers.port, protocol=2, decode_responses=True)]
        else:
            nodes = servers.nodes[:PRIMARIES] if isinstance(servers, RunningCluster) else servers.servers[:1]
            self.primaries = [node.raw for node in nodes]

    def run(self, *words: str, **environment: str) -> Result:
        variables = {"TURNSTREAM_NAMESPACE": self.namespace, "TURNSTREAM_PARTITIONS": "4", **environment}
        return CliRunner(env=variables).invoke(app, [*words, "--redis-url", self.url], prog_name="turnstream")

    def done(self, *words: str) -> dict[str, Any]:
        result = self.run(*words, "--json")
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        return found

    def libraries(self) -> list[set[str]]:
        return [{entry[1] for entry in self.ask(primary, "FUNCTION", "LIST")} for primary in self.primaries]

    def give_all(self, *words: str) -> None:
        for primary in self.primaries:
            self.ask(primary, *words)

    @staticmethod
    def ask(primary: "Redis", *words: str) -> Any:  # noqa: ANN401 - whatever the server answers
        return primary.execute_command(*words)  # pyright: ignore[reportUnknownVariableType]


@pytest.fixture(params=["server", "sentinels", "cluster"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Servers without functions, and afterwards without anything that was made."""
    made = Site(request.getfixturevalue(request.param))
    made.give_all("FUNCTION", "FLUSH")
    yield made
    for primary in made.primaries:
        for key in made.ask(primary, "KEYS", f"{made.namespace}:*"):
            made.ask(primary, "DEL", key)
    made.give_all("FUNCTION", "FLUSH")


def test_it_makes_the_deployment_and_loads_the_functions_onto_every_primary(site: Site) -> None:
    first = site.done("setup")
    assert (first["partitions"], first["layout"], first["made"]) == (4, 2, True)
    assert [primary["loaded"] for primary in first["primaries"]] == [True] * len(site.primaries)
    assert site.libraries() == [{library().name}] * len(site.primaries)
    again = site.done("setup")
    assert (again["made"], {primary["loaded"] for primary in again["primaries"]}) == (False, {False})
    text = site.run("setup").output
    assert "deployment: 4 partitions, layout 2, was there" in text
    assert text.count(f"{library().name} was there") == len(site.primaries)
    assert "secret" not in text


def test_it_removes_other_versions_on_request(site: Site) -> None:
    for name in (OLD, "turnstream_of_somebody", "another"):
        site.give_all("FUNCTION", "LOAD", f"#!lua name={name}\nredis.register_function('{name}_f', function() end)")
    kept = site.done("setup")
    assert [primary["others"] for primary in kept["primaries"]] == [[OLD]] * len(site.primaries)
    assert f"{OLD} stays" in site.run("setup").output
    removed = site.done("setup", "--remove-old")
    assert [primary["removed"] for primary in removed["primaries"]] == [[OLD]] * len(site.primaries)
    assert site.libraries() == [{library().name, "turnstream_of_somebody", "another"}] * len(site.primaries)


def test_it_loads_nothing_where_scripts_are_wanted(site: Site) -> None:
    result = site.run("setup", TURNSTREAM_SCRIPTS="evalsha")
    assert (result.exit_code, site.libraries()) == (0, [set()] * len(site.primaries))
    assert "TURNSTREAM_SCRIPTS is evalsha" in result.output


def test_it_refuses_another_deployment(site: Site) -> None:
    site.done("setup")
    other = site.run("setup", TURNSTREAM_PARTITIONS="8")
    assert (other.exit_code, other.stdout) == (2, "")
    assert "set TURNSTREAM_PARTITIONS to 4" in other.stderr


def test_a_migration_prints_its_plan_and_its_result(site: Site) -> None:
    refused = site.run("migrate", "--yes")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "no deployment" in refused.stderr
    site.done("setup")
    assert site.done("migrate", "--yes")["status"] == "nothing to do"
    assert "nothing to do" in site.run("migrate", "--yes").stdout
    holder = next(primary for primary in site.primaries if site.ask(primary, "KEYS", f"{site.namespace}:layout"))
    site.ask(holder, "SET", f"{site.namespace}:layout", "4 1")
    for number, tag in enumerate(tags(4)):
        # Each primary of a cluster holds its keys; the others redirect.
        key = f"{site.namespace}:{{{tag}}}:session:s{number}"
        next(primary for primary in site.primaries if holds(site, primary, key))
    dry = site.done("migrate", "--dry-run")
    assert (dry["dryRun"], dry["keys"]) == (True, {"session": 4})
    assert "4 keys to rename (4 session)" in site.run("migrate", "--dry-run").stdout
    # Of another number of partitions: those of the deployment count.
    done = site.run("migrate", "--yes", TURNSTREAM_PARTITIONS="64")
    assert (done.exit_code, done.stdout) == (0, "done: 4 keys renamed (4 session), 0 entries in their streams\n")
    assert site.done("setup")["made"] is False


def holds(site: Site, primary: "Redis", key: str) -> bool:
    """Write a session, if this is the server for it."""
    try:
        site.ask(primary, "HSET", key, "version", "1")
    except MovedError:
        return False
    return True
