"""The result of the jobs: no job is lost or done twice, and a session's are in order."""

from collections.abc import Sequence

import redis

from benchmarks.peers.queues import work
from benchmarks.peers.queues.contender import Contender, Stored

Counts = dict[str, int]


def outcome(contender: Contender, store: redis.Redis, jobs: Sequence[work.Job]) -> Counts:
    """Count the messages that are missing, repeated, and out of order.

    `mismatched` counts sessions whose own count, order and messages do not agree on how many there are.
    """
    queued: dict[str, list[str]] = {}
    for job in jobs:
        queued.setdefault(job.session, []).append(job.message_id)
    total = {"lost": 0, "duplicated": 0, "out_of_order": 0, "mismatched": 0}
    for session, message_ids in queued.items():
        for name, number in _of_session(message_ids, contender.stored(store, session)).items():
            total[name] += number
    return total


def _of_session(queued: Sequence[str], stored: Stored) -> Counts:
    once = list(dict.fromkeys(stored.order))
    return {
        "lost": len(set(queued) - set(once)),
        "duplicated": len(stored.order) - len(once),
        "out_of_order": _overtaken([queued.index(message_id) for message_id in once]),
        "mismatched": int(not stored.counted == len(stored.order) == stored.messages),
    }


def _overtaken(positions: Sequence[int]) -> int:
    furthest, overtaken = -1, 0
    for position in positions:
        overtaken += position < furthest
        furthest = max(furthest, position)
    return overtaken
