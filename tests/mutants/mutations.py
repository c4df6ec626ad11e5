"""The checks of the scripts, and how each is removed.

The checks prevent writes by a process that is not the owner, repeated writes, and that unconfirmed batches are
published or removed. A mutation replaces an exact text that a script has once; otherwise `applied_to` raises.
"""

from pathlib import Path

import msgspec


class Mutation(msgspec.Struct, frozen=True):
    """A check of a script, its text, and the text that replaces it to remove the check."""

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
            LookupError: the script does not have the text, or has it several times.

        """
        found = source.count(self.text)
        if found != 1:
            raise LookupError(f"{self.name}: expected the text once, found it {found} times: {self.text}")
        return source.replace(self.text, self.instead)


MUTATIONS = (
    Mutation("commit", "token", "if state[1] ~= token then return refuse('token') end"),
    Mutation("commit", "replication id", "return refuse('replid')"),
    Mutation("commit", "cursor", "if state[2] ~= cursor then return refuse('cursor') end"),
    Mutation("commit", "sequence", "if state[3] ~= sequence then return refuse('sequence') end"),
    Mutation("commit", "deadline", "if deadline ~= '' then", "if false then"),
    Mutation("commit", "version", "then return refuse('version') end", "then end"),
    Mutation("commit", "deduplication", "if found then return redis.error_reply('COLLISION ' .. ARGV[key]) end"),
    Mutation("commit", "size of a write", " or count > 4000"),
    Mutation("commit", "kind of a write", " or not wanted then", " then wanted = wanted or 'any' end if false then"),
    Mutation("commit", "type of a key", "return redis.error_reply('BADBATCH ' .. key .. ' is a ' .. types[key])"),
    Mutation("commit", "last id of a stream", "if about == LAST_ID then", "if false then"),
    Mutation("settle", "token", "if state[1] ~= token then return redis.error_reply('FENCED token') end"),
    Mutation("settle", "replication id", "return redis.error_reply('FENCED replid')"),
    Mutation("settle", "published before", "first = 5 + event_arguments"),
    Mutation("take", "owner", "if owner and owner ~= former_token and owner ~= dead_token then return {owner} end"),
    Mutation("take", "layout", "return redis.error_reply('LAYOUT ' .. stored[1] .. ' ' .. tostring(stored[2]))"),
    Mutation(
        "take", "replication id", "elseif stored[3] ~= replication_id or is_cut_short then", "elseif is_cut_short then"
    ),
    Mutation("take", "new generation", " or is_cut_short then", " then"),
    Mutation("take", "fields of an event", "if #kept[i][2] == 2 then", "do"),
    Mutation("take", "commit that was cut short", "last ~= nil and tonumber(last) > tonumber(sequence)", "false"),
    Mutation("take", "lost hash: events", "last and #last <= 15 and last or '0'", "'0'"),
    Mutation("take", "lost hash: entries", "if exists or numbers['groups'] > 0 then", "if exists then"),
    Mutation("progress", "token", "state[1] ~= token or "),
    Mutation("progress", "time of outcomes", ", 'outcomesAt', outcomes_at"),
    Mutation("progress", "waiting commands", "length == 0 and missing == 0 and "),
    Mutation(
        "progress",
        "another stream",
        "if known then return {now, '', -1} end\n  redis.call('XGROUP', 'CREATE', KEYS[2], group, cursor, 'E",
        "redis.call('XGROUP', 'CREATE', KEYS[2], group, cursor, 'E",
    ),
    Mutation("lost", "token", "state[1] ~= token or "),
    Mutation("lost", "commands applied since", "if is_after(ARGV[i], cursor) then", "do"),
    Mutation("lost", "commands in flight", "gone - before - removed", "gone - before"),
    Mutation("lost", "missing for some time", "tonumber(missing_before)", "gone"),
    Mutation("lost", "ids before the cursor", "if first or ", "if "),
    Mutation("trim", "token", "if state[1] ~= token then return 0 end"),
    Mutation("trim", "confirmation", "wanted = math.min(wanted, tonumber(stable or sequence))"),
    Mutation("trim", "bytes", "not fits and "),
    Mutation("trim", "newest event", "tonumber(last) < sequence", "true"),
    Mutation("trim", "marks of bytes", "if tonumber(last) <= removed then left_sizes = {} end"),
    Mutation("commit", "bytes of events", "size = size + #payload"),
    Mutation("events", "confirmation", "stable or "),
    Mutation("beat", "heartbeats in the future", "if tonumber(beat_at) > now then", "if false then"),
    Mutation("forget", "connection", "~= connection then return 0 end", "~= connection then end"),
    Mutation("renew", "token", "if redis.call('HGET', KEYS[2], 'token') ~= token then return 0 end"),
    Mutation("renew", "replication id", "1, true) then\n  return 0\nend", "1, true) then end"),
    Mutation("renew", "owner", "if owner then return 0 end"),
    Mutation("release", "owner", "if redis.call('GET', KEYS[1]) ~= token then return 0 end"),
    Mutation("attempt", "token", "if state[1] ~= token then return -1 end"),
    Mutation(
        "subscription_take",
        "owner",
        "if owner and owner ~= former_token and owner ~= dead_token then return {owner} end",
    ),
    Mutation("checkpoint", "token", "if redis.call('HGET', KEYS[1], 'token') ~= token then return -1 end"),
    Mutation("checkpoint", "replication id", "1, true) then\n  return -1\nend", "1, true) then end"),
    Mutation("park", "replication id", "1, true) then\n  return -1\nend", "1, true) then end"),
    Mutation("park", "waits after none", "if not known and attempts == '0' then return 3 end"),
    Mutation("park", "no room", "if not fits and may_be_lost ~= '1' then return 2 end"),
    Mutation("park", "retries of another type", "redis.call('ZCARD', KEYS[4])", "0"),
    Mutation("park", "token", "if state[1] ~= token then return -1 end"),
    Mutation("park", "queued before", "tonumber(sequence) <= tonumber(newest)", "false"),
    Mutation("park", "events", "parked <= tonumber(max_events) and "),
    Mutation("park", "bytes", " and bytes <= tonumber(max_bytes)"),
    Mutation("unpark", "token", "if state[1] ~= token then return -1 end"),
    Mutation("unpark", "head", "if left > 0 and first[1] ~= sequence .. '-0' then return left end"),
    Mutation(
        "unpark", "lost", "if left <= 1 and max_lost ~= '' and tonumber(lost) > tonumber(max_lost) then return 1 end"
    ),
    Mutation("unpark", "retries of another type", "redis.call('ZCARD', KEYS[4])", "0"),
    Mutation("postpone", "token", "if redis.call('HGET', KEYS[1], 'token') ~= token then return -1 end"),
    Mutation("postpone", "unknown session", "if not known then return 0 end"),
    Mutation(
        "postpone",
        "record",
        "if not kept then return redis.error_reply('BADRECORD ' .. session_id .. ' of ' .. KEYS[2]) end",
    ),
    Mutation("postpone", "retries of another type", "redis.call('ZCARD', KEYS[3])", "0"),
    Mutation("hasten", "token", "if redis.call('HGET', KEYS[1], 'token') ~= token then return -1 end"),
    Mutation("reset", "token", "redis.call('HDEL', KEYS[2], 'token')"),
    Mutation("reset", "lease", "redis.call('UNLINK', KEYS[1])"),
    Mutation("requeue", "backlog", "if backlog >= tonumber(max_backlog) then return -backlog end"),
    Mutation(
        "move", "something in the way", "if present_type ~= 'none' and present_type ~= 'stream' then return 'TAKEN' end"
    ),
    Mutation("move", "former replies", "string.sub(fields[i + 1], 1, #reply_prefix) ~= reply_prefix", "true"),
    Mutation("move", "too many fields", "local some = #all > 4000 and few or all", "local some = all"),
    Mutation("move", "an id that is taken", "if type(added) == 'table' and added.err then", "if false then"),
    Mutation(
        "move", "entries added", "math.max(about[1]['entries-added'], about[2]['entries-added'])", "about[2].length"
    ),
    Mutation("enqueue", "backlog", "if backlog + #starts > tonumber(max_backlog) then return backlog end"),
    Mutation("enqueue_freeing", "backlog", "if backlog + #starts > tonumber(max_backlog) then return backlog end"),
    Mutation("enqueue_freeing", "kind of a command", "not FREEING[command_type] or "),
    Mutation("enqueue_freeing", "size of a command", " or #data > LARGEST"),
    Mutation("enqueue_freeing", "size of its id and optional fields", " or extra > LARGEST"),
)


def script_in(package: Path, name: str) -> Path:
    """Return the path of a script in the package, or in a copy of it."""
    return package / "adapters" / "redis" / "scripts" / f"{name}.lua"
