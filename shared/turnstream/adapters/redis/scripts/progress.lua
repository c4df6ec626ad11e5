#!lua flags=allow-oom
-- Shows a partition's progress to tools that read consumer groups (design §1), finds out whether entries were removed
-- from its command stream, and replaces a stream whose last id is ahead of the clock: later entries would all get that
-- id's time, or none could be added.
--
-- KEYS      the partition's hash and its command stream
-- ARGV      the token, the name of the group (it is only for display), the milliseconds by which ids may be ahead, the
--           time by which outcomes are kept
-- Returns   the server's time in milliseconds; the last id of a stream that was replaced ("" if none was), after which
--           the owner must take the partition again; how many entries are neither there nor passed, -1 if the stream is
--           another one; nothing if the partition is gone or has another owner

local token, group, max_ahead_ms, outcomes_at = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local state = redis.call('HMGET', KEYS[1], 'token', 'cursor', 'passed', 'lost', 'offset', 'added')
local cursor, passed, offset, known = state[2], state[3] or 0, state[5] or 0, state[6]
if state[1] ~= token or not cursor then return {} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The first time there is no such group, and perhaps no such stream.
if redis.call('EXISTS', KEYS[2]) == 0 then
  if known then return {now, '', -1} end
  redis.call('XGROUP', 'CREATE', KEYS[2], group, cursor, 'MKSTREAM')
end
local numbers, about = {}, redis.call('XINFO', 'STREAM', KEYS[2])
for i = 1, #about, 2 do numbers[about[i]] = about[i + 1] end
local added, length, last = numbers['entries-added'], numbers['length'], numbers['last-generated-id']
local lost = tonumber(state[4] or 0)
local missing = added - length - passed - lost - offset

local applied = string.format('%.0f', added - length)
local shown = redis.pcall('XGROUP', 'SETID', KEYS[2], group, cursor, 'ENTRIESREAD', applied)
if type(shown) == 'table' and shown.err then
  if known then return {now, '', -1} end
  redis.call('XGROUP', 'CREATE', KEYS[2], group, cursor, 'ENTRIESREAD', applied)
end
if known ~= tostring(added) then redis.call('HSET', KEYS[1], 'added', added) end
if missing < 0 then
  -- Entries that were counted as lost were only late. Not `-late`: for 0 that is -0, which Redis 7 does not accept.
  local late = math.min(lost, -missing)
  redis.call('HINCRBY', KEYS[1], 'lost', 0 - late)
  redis.call('HINCRBY', KEYS[1], 'offset', missing + late)
  missing = 0
end

-- Only when all entries are applied.
if length == 0 and missing == 0 and tonumber(string.match(last, '^%d+')) > now + max_ahead_ms then
  redis.call('UNLINK', KEYS[2])
  -- A resend of an earlier command must still be recognised, although its new entry has an earlier time.
  redis.call('HSET', KEYS[1], 'cursor', '0-0', 'outcomesAt', outcomes_at)
  redis.call('HINCRBY', KEYS[1], 'offset', 0 - added)
  redis.call('HDEL', KEYS[1], 'added')
  redis.call('HINCRBY', KEYS[1], 'streamsReplaced', 1)
  return {now, last, 0}
end
return {now, '', missing}
