"""The checks of the scripts, and how each is removed.

They keep a stranger, a stale owner or a repetition from writing, and what is not safe yet from being told or taken.
A mutation replaces an exact text that stands once in a script; where it does not, the list is out of date, and says so.
"""

from pathlib import Path

import msgspec


class Mutation(msgspec.Struct, frozen=True):
    """A check of a script, and the text in place of which another one, by default none, removes it."""

    script: str
    check: str
    text: str
    instead: str = ""

    @property
    def name(self) -> str:
        return f"{self.script}.lua: {self.check}"

    def applied_to(self, source: str) -> str:
        """Return a script's text without the check.

        Raises:
            LookupError: the text stands there never, or several times.

        """
        found = source.count(self.text)
        if found != 1:
            raise LookupError(f"{self.name}: expected the text once, found it {found} times: {self.text}")
        return source.replace(self.text, self.instead)


MUTATIONS = (
    Mutation("commit", "token", "if state[1] ~= ARGV[1] then return refuse('token') end"),
    Mutation("commit", "replication id", "return refuse('replid')"),
    Mutation("commit", "cursor", "if state[2] ~= ARGV[3] then return refuse('cursor') end"),
    Mutation("commit", "sequence", "if state[3] ~= ARGV[4] then return refuse('sequence') end"),
    Mutation("commit", "version", "then return refuse('version') end", "then end"),
    Mutation("commit", "deduplication", "if found then return redis.error_reply('COLLISION ' .. ARGV[key]) end"),
    Mutation("commit", "size of a write", " or words > 4000"),
    Mutation("commit", "kind of a write", " or not wanted then", " then wanted = wanted or 'any' end if false then"),
    Mutation("commit", "type of a key", "return redis.error_reply('BADBATCH ' .. key .. ' is a ' .. types[key])"),
    Mutation("settle", "token", "if state[1] ~= ARGV[1] then return redis.error_reply('FENCED token') end"),
    Mutation("settle", "replication id", "return redis.error_reply('FENCED replid')"),
    Mutation("settle", "told before", "first = 5 + ARGV[4]"),
    Mutation("take", "owner", "if owner and owner ~= ARGV[1] and owner ~= ARGV[8] then return {owner} end"),
    Mutation("take", "layout", "return redis.error_reply('LAYOUT ' .. made[1] .. ' ' .. tostring(made[2]))"),
    Mutation("take", "history", "elseif made[3] ~= replid or broken then", "elseif broken then"),
    Mutation("take", "new generation", " or broken then", " then"),
    Mutation("take", "broken commit", "tonumber(string.match(about[i + 1], '^%d+')) > tonumber(sequence)", "false"),
    Mutation("trim", "token", "if state[1] ~= ARGV[1] then return 0 end"),
    Mutation("trim", "safety", "wanted = math.min(wanted, tonumber(state[3] or sequence))"),
    Mutation("trim", "bytes", "not fits and "),
    Mutation("trim", "newest event", "tonumber(last) < sequence", "true"),
    Mutation("trim", "marks of bytes", "if tonumber(last) <= taken then left_sizes = {} end"),
    Mutation("commit", "bytes of events", "size = size + #payload"),
    Mutation("events", "safety", "state[4] or "),
    Mutation("forget", "connection", "~= ARGV[2] then return 0 end", "~= ARGV[2] then end"),
    Mutation("renew", "token", "if redis.call('HGET', KEYS[2], 'token') ~= ARGV[1] then return 0 end"),
    Mutation("renew", "replication id", "1, true) then\n  return 0\nend", "1, true) then end"),
    Mutation("renew", "owner", "if owner then return 0 end"),
    Mutation("release", "owner", "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end"),
    Mutation("attempt", "token", "if state[1] ~= ARGV[1] then return -1 end"),
    Mutation(
        "subscription_take", "owner", "if owner and owner ~= ARGV[1] and owner ~= ARGV[4] then return {owner} end"
    ),
    Mutation("checkpoint", "token", "if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return -1 end"),
    Mutation("park", "token", "if state[1] ~= ARGV[1] then return -1 end"),
    Mutation("park", "queued before", "tonumber(ARGV[3]) <= tonumber(newest)", "false"),
    Mutation("park", "events", "parked <= tonumber(ARGV[7]) and "),
    Mutation("park", "bytes", " and bytes <= tonumber(ARGV[8])"),
    Mutation("unpark", "token", "if state[1] ~= ARGV[1] then return -1 end"),
    Mutation("unpark", "head", "if left > 0 and first[1] ~= ARGV[3] .. '-0' then return left end"),
    Mutation("reset", "token", "redis.call('HDEL', KEYS[2], 'token')"),
    Mutation("reset", "lease", "redis.call('UNLINK', KEYS[1])"),
    Mutation("requeue", "backlog", "if backlog >= tonumber(ARGV[2]) then return -backlog end"),
    Mutation("enqueue", "backlog", "if backlog + #starts > tonumber(ARGV[1]) then return backlog end"),
)


def script_in(package: Path, name: str) -> Path:
    """Return where a script stands in the package, or in a copy of it."""
    return package / "adapters" / "redis" / "scripts" / f"{name}.lua"
