#!lua flags=allow-oom
-- Shows how far a partition's commands are applied to tools that look at consumer groups (design §1), and replaces a
-- command stream whose ids are ahead of the clock: all that follow would have the same time, or there are none left.
--
-- KEYS      the partition's hash and its command stream
-- ARGV      the token, the name of the group, through which nobody reads, the milliseconds by which ids may be ahead, the
--           time by which outcomes are kept
-- Returns   the server's time in milliseconds, and the last id of a stream that was replaced ("" if none was): then its
--           owner must take the partition again; nothing where the partition is gone or has another owner

local state = redis.call('HMGET', KEYS[1], 'token', 'cursor')
local cursor = state[2]
if state[1] ~= ARGV[1] or not cursor then return {} end
-- The first time there is no such group, and perhaps no such stream.
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[2], cursor, 'MKSTREAM') end
local numbers, about = {}, redis.call('XINFO', 'STREAM', KEYS[2])
for i = 1, #about, 2 do numbers[about[i]] = about[i + 1] end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = numbers['last-generated-id']
-- Only when all of it is applied.
if numbers['length'] == 0 and last == cursor and tonumber(string.match(last, '^%d+')) > now + ARGV[3] then
  redis.call('UNLINK', KEYS[2])
  -- A command that is sent again has an entry of an earlier time, and must be recognised.
  redis.call('HSET', KEYS[1], 'cursor', '0-0', 'outcomesAt', ARGV[4])
  redis.call('HINCRBY', KEYS[1], 'streamsReplaced', 1)
  return {now, last}
end

-- What was added and is not there any more was applied: nothing else takes an entry.
local applied = string.format('%.0f', numbers['entries-added'] - numbers['length'])
local shown = redis.pcall('XGROUP', 'SETID', KEYS[2], ARGV[2], cursor, 'ENTRIESREAD', applied)
if type(shown) == 'table' and shown.err then
  redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[2], cursor, 'ENTRIESREAD', applied)
end
return {now, ''}
