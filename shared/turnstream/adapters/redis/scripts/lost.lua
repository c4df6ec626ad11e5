#!lua flags=allow-oom
-- Counts commands that somebody else took from a partition's stream before they were applied, or the stream with them,
-- and tells all clients, which send again what is unanswered (design §4).
--
-- KEYS      the partition's hash and its command stream
-- ARGV      the token, the name of the group through which nobody reads, the channel of such news, the partition's
--           number, the time by which outcomes are kept, how many entries were missing some time ago, then the ids of the
--           entries that the owner has in hand, in their order
-- Returns   how many are lost, 1 where the owner must take the partition again, else 0, the cursor, and the last id of the
--           stream

local state = redis.call('HMGET', KEYS[1], 'token', 'cursor', 'passed', 'lost', 'offset', 'added')
local cursor, known = state[2], state[6]
if state[1] ~= ARGV[1] or not cursor or not known then return {0, 0, '', ''} end
local before = (state[3] or 0) + (state[4] or 0) + (state[5] or 0)

local numbers = {['entries-added'] = 0, length = 0, ['last-generated-id'] = cursor}
local exists, is_same = redis.call('EXISTS', KEYS[2]) == 1, false
if exists then
  local about = redis.call('XINFO', 'STREAM', KEYS[2])
  for i = 1, #about, 2 do numbers[about[i]] = about[i + 1] end
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do is_same = is_same or group[2] == ARGV[2] end
end
local gone = numbers['entries-added'] - numbers['length']

-- What the owner has read will be applied, whether or not it is still there; some of it may be by now.
local function is_behind(id, other)
  local time, number = string.match(id, '^(%d+)-(%d+)$')
  local of, its = string.match(other, '^(%d+)-(%d+)$')
  if time == of then time, of = number, its end
  return #time > #of or #time == #of and time > of
end
local in_hand = 0
for i = 7, #ARGV do
  if is_behind(ARGV[i], cursor) then in_hand = in_hand + 1 end
end
local taken = in_hand
if in_hand > 0 and exists then taken = in_hand - #redis.call('XRANGE', KEYS[2], '(' .. cursor, ARGV[#ARGV]) end

local lost, restart = 0, 0
if is_same then
  lost = math.min(gone - before - taken, tonumber(ARGV[6]))
  if lost <= 0 then return {0, 0, cursor, cursor} end
else
  -- Entries of a stream that was made since may lie where the cursor has been; none of them was applied.
  local first = exists and redis.call('XRANGE', KEYS[2], '-', '(' .. cursor, 'COUNT', 1)[1]
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if first or tonumber(string.match(cursor, '^%d+')) > now then
    restart, taken = 1, 0
    redis.call('HSET', KEYS[1], 'cursor', '0-0', 'outcomesAt', ARGV[5])
  end
  lost = math.max(0, known - before - taken)
  redis.call('HSET', KEYS[1], 'added', numbers['entries-added'], 'offset', gone - before + (state[5] or 0) - taken - lost)
  redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[2], '0', 'MKSTREAM')
end
redis.call('HINCRBY', KEYS[1], 'lost', lost)
redis.call('PUBLISH', ARGV[3], '{"partition":' .. ARGV[4] .. ',"lost":' .. string.format('%.0f', lost) .. '}')
return {lost, restart, cursor, numbers['last-generated-id']}
