"""The reader of one stream of a cluster, at the moments that a real one hardly shows."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from redis.exceptions import MovedError
from tests.waiting import wait_until

from turnstream.adapters.redis.backend import one_server
from turnstream.adapters.redis.command_stream.cluster_reader import _PartitionReader
from turnstream.adapters.redis.server import Scripts
from turnstream.errors import Unavailable
from turnstream.ports import RawEntry
from turnstream.settings import Settings


async def test_a_failure_after_a_redirection_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reader = _PartitionReader(
        one_server(Settings(), cast("Any", None), Scripts()), cast("Any", None), 0, asyncio.Event()
    )
    away = Unavailable("away")
    answers: list[Exception | None] = [MovedError("1 127.0.0.1:7000"), away, MovedError("1 127.0.0.1:7001"), away, None]

    async def once(_cursor: str, _count: int) -> Sequence[RawEntry]:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return [RawEntry("11-0", {})]

    monkeypatch.setattr(reader, "_once", once)
    assert [entry.entry_id for entry in await reader._persistently("10-0", 10)] == ["11-0"]
    assert [(record.message, vars(record)["error"]) for record in caplog.records] == [
        ("command stream cannot be read", "away")
    ]


async def test_entries_read_from_another_cursor_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to the old question comes in the same moment in which the new one is asked."""
    reader = _PartitionReader(
        one_server(Settings(), cast("Any", None), Scripts()), cast("Any", None), 0, asyncio.Event()
    )
    loop = asyncio.get_running_loop()
    answers: dict[str, asyncio.Future[Sequence[RawEntry]]] = {"10-0": loop.create_future(), "5-0": loop.create_future()}

    async def persistently(cursor: str, _count: int) -> Sequence[RawEntry]:
        return await answers[cursor]

    monkeypatch.setattr(reader, "_persistently", persistently)
    assert list(reader.ask("10-0", 10)) == []
    await asyncio.sleep(0)
    answers["10-0"].set_result([RawEntry("11-0", {})])
    assert list(reader.ask("5-0", 10)) == []
    answers["5-0"].set_result([RawEntry("6-0", {})])
    await wait_until(lambda: reader._task is None)
    assert [entry.entry_id for entry in reader.ask("5-0", 10)] == ["6-0"]
    await reader.aclose()
