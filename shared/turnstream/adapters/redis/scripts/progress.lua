#!lua flags=allow-oom
-- Shows how far a partition's commands are applied to tools that look at consumer groups (design §1).
--
-- KEYS      the partition's hash and its command stream
-- ARGV[1]   the name of the group, through which nobody reads
-- Returns   1, or 0 where the partition is gone

local cursor = redis.call('HGET', KEYS[1], 'cursor')
if not cursor then return 0 end
-- The first time there is no such group, and perhaps no such stream.
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[1], cursor, 'MKSTREAM') end
local numbers, about = {}, redis.call('XINFO', 'STREAM', KEYS[2])
for i = 1, #about, 2 do numbers[about[i]] = about[i + 1] end
-- What was added and is not there any more was applied: nothing else takes an entry.
local applied = string.format('%.0f', numbers['entries-added'] - numbers['length'])
local shown = redis.pcall('XGROUP', 'SETID', KEYS[2], ARGV[1], cursor, 'ENTRIESREAD', applied)
if type(shown) == 'table' and shown.err then
  redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[1], cursor, 'ENTRIESREAD', applied)
end
return 1
