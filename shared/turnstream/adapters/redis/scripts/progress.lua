#!lua flags=allow-oom
-- Shows how far a partition's commands are applied to tools that look at consumer groups (design §1), sees whether
-- entries were taken from its command stream, and replaces a stream whose ids are ahead of the clock: all that follow
-- would have the same time, or there are none left.
--
-- KEYS      the partition's hash and its command stream
-- ARGV      the token, the name of the group, through which nobody reads, the milliseconds by which ids may be ahead, the
--           time by which outcomes are kept
-- Returns   the server's time in milliseconds; the last id of a stream that was replaced ("" if none was): then its
--           owner must take the partition again; how many entries are neither there nor passed, -1 where the stream is
--           another one; nothing where the partition is gone or has another owner

local state = redis.call('HMGET', KEYS[1], 'token', 'cursor', 'passed', 'lost', 'offset', 'added')
local cursor, known = state[2], state[6]
if state[1] ~= ARGV[1] or not cursor then return {} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The first time there is no such group, and perhaps no such stream.
if redis.call('EXISTS', KEYS[2]) == 0 then
  if known then return {now, '', -1} end
  redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[2], cursor, 'MKSTREAM')
end
local numbers, about = {}, redis.call('XINFO', 'STREAM', KEYS[2])
for i = 1, #about, 2 do numbers[about[i]] = about[i + 1] end
local added, length, last = numbers['entries-added'], numbers['length'], numbers['last-generated-id']
local lost = tonumber(state[4] or 0)
local missing = added - length - (state[3] or 0) - lost - (state[5] or 0)

local applied = string.format('%.0f', added - length)
local shown = redis.pcall('XGROUP', 'SETID', KEYS[2], ARGV[2], cursor, 'ENTRIESREAD', applied)
if type(shown) == 'table' and shown.err then
  if known then return {now, '', -1} end
  redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[2], cursor, 'ENTRIESREAD', applied)
end
if known ~= tostring(added) then redis.call('HSET', KEYS[1], 'added', added) end
if missing < 0 then
  -- What was counted as lost came late. Not `-late`: that is -0 for none, and no integer to Redis 7.
  local late = math.min(lost, -missing)
  redis.call('HINCRBY', KEYS[1], 'lost', 0 - late)
  redis.call('HINCRBY', KEYS[1], 'offset', missing + late)
  missing = 0
end

-- Only when all of it is applied.
if length == 0 and missing == 0 and tonumber(string.match(last, '^%d+')) > now + ARGV[3] then
  redis.call('UNLINK', KEYS[2])
  -- A command that is sent again has an entry of an earlier time, and must be recognised.
  redis.call('HSET', KEYS[1], 'cursor', '0-0', 'outcomesAt', ARGV[4])
  redis.call('HINCRBY', KEYS[1], 'offset', 0 - added)
  redis.call('HDEL', KEYS[1], 'added')
  redis.call('HINCRBY', KEYS[1], 'streamsReplaced', 1)
  return {now, last, 0}
end
return {now, '', missing}
