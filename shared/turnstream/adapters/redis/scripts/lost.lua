#!lua flags=allow-oom
-- Counts commands that another program removed from a partition's stream before they were applied, or together with the
-- stream, and notifies all clients, which resend their unanswered commands (design §4).
--
-- KEYS      the partition's hash and its command stream
-- ARGV      the token, the name of the group (it is only for display), the channel for lost commands, the partition's
--           number, the time by which outcomes are kept, how many entries were missing some time ago, then the ids of the
--           entries that the owner has read and not applied, in order
-- Returns   how many are lost, 1 if the owner must take the partition again or else 0, the cursor, and the last id of the
--           stream

local token, group, channel, partition, outcomes_at, missing_before = unpack(ARGV, 1, 6)
local FIRST_ENTRY = 7

local state = redis.call('HMGET', KEYS[1], 'token', 'cursor', 'passed', 'lost', 'offset', 'added')
local cursor, known = state[2], state[6]
if state[1] ~= token or not cursor or not known then return {0, 0, '', ''} end
local before = (state[3] or 0) + (state[4] or 0) + (state[5] or 0)

local numbers = {['entries-added'] = 0, length = 0, ['last-generated-id'] = cursor}
local exists, is_same = redis.call('EXISTS', KEYS[2]) == 1, false
if exists then
  local about = redis.call('XINFO', 'STREAM', KEYS[2])
  for i = 1, #about, 2 do numbers[about[i]] = about[i + 1] end
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do is_same = is_same or info[2] == group end
end
local gone = numbers['entries-added'] - numbers['length']

-- The owner will apply the entries it has read, whether or not they are still on the stream. Since then it may have
-- applied some of them.
local function is_after(id, other)
  local time, number = string.match(id, '^(%d+)-(%d+)$')
  local other_time, other_number = string.match(other, '^(%d+)-(%d+)$')
  if time == other_time then time, other_time = number, other_number end
  return #time > #other_time or #time == #other_time and time > other_time
end
local in_flight = 0
for i = FIRST_ENTRY, #ARGV do
  if is_after(ARGV[i], cursor) then in_flight = in_flight + 1 end
end
-- Of the entries in flight, those that are no longer on the stream.
local removed = in_flight
if in_flight > 0 and exists then
  removed = in_flight - #redis.call('XRANGE', KEYS[2], '(' .. cursor, ARGV[#ARGV])
end

local lost, restart = 0, 0
if is_same then
  lost = math.min(gone - before - removed, tonumber(missing_before))
  if lost <= 0 then return {0, 0, cursor, cursor} end
else
  -- A stream that was created since then may have entries before the cursor; none of them was applied.
  local first = exists and redis.call('XRANGE', KEYS[2], '-', '(' .. cursor, 'COUNT', 1)[1]
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if first or tonumber(string.match(cursor, '^%d+')) > now then
    restart, removed = 1, 0
    redis.call('HSET', KEYS[1], 'cursor', '0-0', 'outcomesAt', outcomes_at)
  end
  lost = math.max(0, known - before - removed)
  local offset = gone - before + (state[5] or 0) - removed - lost
  redis.call('HSET', KEYS[1], 'added', numbers['entries-added'], 'offset', offset)
  redis.call('XGROUP', 'CREATE', KEYS[2], group, '0', 'MKSTREAM')
end
redis.call('HINCRBY', KEYS[1], 'lost', lost)
redis.call('PUBLISH', channel, '{"partition":' .. partition .. ',"lost":' .. string.format('%.0f', lost) .. '}')
return {lost, restart, cursor, numbers['last-generated-id']}
