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
    Mutation("commit", "deadline", "if ARGV[5] ~= '' then", "if false then"),
    Mutation("commit", "version", "then return refuse('version') end", "then end"),
    Mutation("commit", "deduplication", "if found then return redis.error_reply('COLLISION ' .. ARGV[key]) end"),
    Mutation("commit", "size of a write", " or words > 4000"),
    Mutation("commit", "kind of a write", " or not wanted then", " then wanted = wanted or 'any' end if false then"),
    Mutation("commit", "type of a key", "return redis.error_reply('BADBATCH ' .. key .. ' is a ' .. types[key])"),
    Mutation("commit", "last id of a stream", "if about == LAST_ID then", "if false then"),
    Mutation("settle", "token", "if state[1] ~= ARGV[1] then return redis.error_reply('FENCED token') end"),
    Mutation("settle", "replication id", "return redis.error_reply('FENCED replid')"),
    Mutation("settle", "told before", "first = 5 + ARGV[4]"),
    Mutation("take", "owner", "if owner and owner ~= ARGV[1] and owner ~= ARGV[8] then return {owner} end"),
    Mutation("take", "layout", "return redis.error_reply('LAYOUT ' .. made[1] .. ' ' .. tostring(made[2]))"),
    Mutation("take", "history", "elseif made[3] ~= replid or broken then", "elseif broken then"),
    Mutation("take", "new generation", " or broken then", " then"),
    Mutation("take", "words of an event", "if #kept[i][2] == 2 then", "do"),
    Mutation("take", "broken commit", "last ~= nil and tonumber(last) > tonumber(sequence)", "false"),
    Mutation("take", "lost hash: events", "last and #last <= 15 and last or '0'", "'0'"),
    Mutation("take", "lost hash: entries", "if made[1] or numbers['groups'] > 0 then", "if made[1] then"),
    Mutation("progress", "token", "state[1] ~= ARGV[1] or "),
    Mutation("progress", "time of outcomes", ", 'outcomesAt', ARGV[4]"),
    Mutation("progress", "waiting commands", "length == 0 and missing == 0 and "),
    Mutation(
        "progress",
        "another stream",
        "if known then return {now, '', -1} end\n  redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[2], cursor, 'E",
        "redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[2], cursor, 'E",
    ),
    Mutation("lost", "token", "state[1] ~= ARGV[1] or "),
    Mutation("lost", "commands applied since", "if is_behind(ARGV[i], cursor) then", "do"),
    Mutation("lost", "commands in hand", "gone - before - taken", "gone - before"),
    Mutation("lost", "missing for some time", "tonumber(ARGV[6])", "gone"),
    Mutation("lost", "ids behind the cursor", "if first or ", "if "),
    Mutation("trim", "token", "if state[1] ~= ARGV[1] then return 0 end"),
    Mutation("trim", "safety", "wanted = math.min(wanted, tonumber(state[3] or sequence))"),
    Mutation("trim", "bytes", "not fits and "),
    Mutation("trim", "newest event", "tonumber(last) < sequence", "true"),
    Mutation("trim", "marks of bytes", "if tonumber(last) <= taken then left_sizes = {} end"),
    Mutation("commit", "bytes of events", "size = size + #payload"),
    Mutation("events", "safety", "state[4] or "),
    Mutation("beat", "signs of life of the future", "if tonumber(beaten) > ms then", "if false then"),
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
    Mutation("park", "waits after none", "if not known and ARGV[6] == '0' then return 3 end"),
    Mutation("park", "no room", "if not fits and ARGV[9] ~= '1' then return 2 end"),
    Mutation("park", "retries of another type", "redis.call('ZCARD', KEYS[4])", "0"),
    Mutation("park", "token", "if state[1] ~= ARGV[1] then return -1 end"),
    Mutation("park", "queued before", "tonumber(ARGV[3]) <= tonumber(newest)", "false"),
    Mutation("park", "events", "parked <= tonumber(ARGV[7]) and "),
    Mutation("park", "bytes", " and bytes <= tonumber(ARGV[8])"),
    Mutation("unpark", "token", "if state[1] ~= ARGV[1] then return -1 end"),
    Mutation("unpark", "head", "if left > 0 and first[1] ~= ARGV[3] .. '-0' then return left end"),
    Mutation(
        "unpark", "lost", "if left <= 1 and ARGV[4] ~= '' and tonumber(lost) > tonumber(ARGV[4]) then return 1 end"
    ),
    Mutation("unpark", "retries of another type", "redis.call('ZCARD', KEYS[4])", "0"),
    Mutation("postpone", "token", "if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return -1 end"),
    Mutation("postpone", "unknown session", "if not known then return 0 end"),
    Mutation(
        "postpone",
        "record",
        "if not kept then return redis.error_reply('BADRECORD ' .. ARGV[2] .. ' of ' .. KEYS[2]) end",
    ),
    Mutation("postpone", "retries of another type", "redis.call('ZCARD', KEYS[3])", "0"),
    Mutation("hasten", "token", "if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return -1 end"),
    Mutation("reset", "token", "redis.call('HDEL', KEYS[2], 'token')"),
    Mutation("reset", "lease", "redis.call('UNLINK', KEYS[1])"),
    Mutation("requeue", "backlog", "if backlog >= tonumber(ARGV[2]) then return -backlog end"),
    Mutation("move", "something in the way", "if now ~= 'none' and now ~= 'stream' then return 'TAKEN' end"),
    Mutation("move", "former replies", "string.sub(words[i + 1], 1, #ARGV[1]) ~= ARGV[1]", "true"),
    Mutation("move", "too many words", "local some = #all > 4000 and few or all", "local some = all"),
    Mutation("move", "an id that is taken", "if type(added) == 'table' and added.err then", "if false then"),
    Mutation(
        "move", "entries added", "math.max(about[1]['entries-added'], about[2]['entries-added'])", "about[2].length"
    ),
    Mutation("enqueue", "backlog", "if backlog + #starts > tonumber(ARGV[1]) then return backlog end"),
    Mutation("enqueue_freeing", "backlog", "if backlog + #starts > tonumber(ARGV[1]) then return backlog end"),
    Mutation("enqueue_freeing", "kind of a command", "not FREEING[ARGV[at + 1]] or "),
    Mutation("enqueue_freeing", "size of a command", " or #ARGV[at + 2] > LARGEST"),
    Mutation("enqueue_freeing", "size of what is said about it", " or about > LARGEST"),
)


def script_in(package: Path, name: str) -> Path:
    """Return where a script stands in the package, or in a copy of it."""
    return package / "adapters" / "redis" / "scripts" / f"{name}.lua"
