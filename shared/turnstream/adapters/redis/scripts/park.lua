#!lua
-- Puts an event at the end of its session's queue, or counts it as lost where the partition has too many (design §6).
--
-- KEYS      the subscription's hash in the partition, its parked sessions, the session's queue
-- ARGV      the token, the session's id, the event's sequence, its envelope, the class of its error, how often it was
--           handled in vain, the most events and the most bytes that may be parked in the partition
-- Returns   1, 0 where the event was lost, or -1 where the partition has another owner

local state = redis.call('HMGET', KEYS[1], 'token', 'parked', 'parkedBytes')
if state[1] ~= ARGV[1] then return -1 end
local known = redis.call('HGET', KEYS[2], ARGV[2])
local first = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)[1]
local parked, bytes, size = tonumber(state[2] or 0) + 1, tonumber(state[3] or 0) + #ARGV[4], #ARGV[4]
local fits = parked <= tonumber(ARGV[7]) and bytes <= tonumber(ARGV[8])

-- A session is written as: events, bytes, since (milliseconds), newest sequence, lost, attempts, reason.
local now = redis.call('TIME')
local count, sized, since, newest, lost = 0, 0, now[1] * 1000 + math.floor(now[2] / 1000), '0', 0
local failure = ARGV[6] .. ' ' .. ARGV[5]
if known then
  count, sized, since, newest, lost, failure = string.match(known, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+ .*)$')
  if not count then return redis.error_reply('BADRECORD ' .. ARGV[2] .. ' of ' .. KEYS[2]) end
end

if tonumber(ARGV[3]) <= tonumber(newest) then
  if first and first[1] == ARGV[3] .. '-0' then
    failure = ARGV[6] .. ' ' .. ARGV[5]
    redis.call('HSET', KEYS[2], ARGV[2], table.concat({count, sized, since, newest, lost, failure}, ' '))
  end
  return 1
end
if fits then
  redis.call('XADD', KEYS[3], ARGV[3] .. '-0', 'event', ARGV[4])
  redis.call('HSET', KEYS[1], 'parked', parked, 'parkedBytes', bytes)
  count, sized = count + 1, sized + size
else
  lost = lost + 1
end
redis.call('HSET', KEYS[2], ARGV[2], table.concat({count, sized, since, ARGV[3], lost, failure}, ' '))
return fits and 1 or 0
