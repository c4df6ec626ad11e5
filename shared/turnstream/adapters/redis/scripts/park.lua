#!lua
-- Puts an event at the end of its session's queue, or counts it as lost where the partition has too many (design §6).
--
-- KEYS      the subscription's hash in the partition, its sessions that are set aside, the session's queue, the
--           sessions that are to be tried again by the time of that
-- ARGV      the token, the session's id, the event's sequence, its envelope, the class of its error, how often it was
--           handled in vain (0: it waits after others), the most events and the most bytes that may be set aside in the
--           partition, "1" if it may be lost; for a session that was not set aside: how often its limits were doubled,
--           "1" if it is parked, milliseconds until it is tried again ("" for never)
-- Returns   1; 0 where the event was lost; 2 where it is neither lost nor kept; 3 where there are no others after which
--           it could wait; or -1 where the partition has another owner

local state = redis.call('HMGET', KEYS[1], 'token', 'parked', 'parkedBytes')
if state[1] ~= ARGV[1] then return -1 end
local known = redis.call('HGET', KEYS[2], ARGV[2])
if not known and ARGV[6] == '0' then return 3 end
local queued, retries = redis.call('XLEN', KEYS[3]), redis.call('ZCARD', KEYS[4])
local parked, bytes, size = tonumber(state[2] or 0) + 1, tonumber(state[3] or 0) + #ARGV[4], #ARGV[4]
local fits = parked <= tonumber(ARGV[7]) and bytes <= tonumber(ARGV[8])

-- A session is written as: events, bytes, since (milliseconds), newest sequence, lost, and of the event at its head
-- attempts:first failure (milliseconds):doublings:parked, and the reason.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count, sized, since, newest, lost = 0, 0, now, '0', 0
local failure = table.concat({ARGV[6], now, ARGV[10], ARGV[11]}, ':') .. ' ' .. ARGV[5]
if known then
  count, sized, since, newest, lost, failure = string.match(known, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%S+ .*)$')
  if not count then return redis.error_reply('BADRECORD ' .. ARGV[2] .. ' of ' .. KEYS[2]) end
end

if tonumber(ARGV[3]) <= tonumber(newest) then return 1 end
if not fits and ARGV[9] ~= '1' then return 2 end
if fits then
  redis.call('XADD', KEYS[3], ARGV[3] .. '-0', 'event', ARGV[4])
  redis.call('HSET', KEYS[1], 'parked', parked, 'parkedBytes', bytes)
  count, sized = count + 1, sized + size
else
  lost = lost + 1
end
redis.call('HSET', KEYS[2], ARGV[2], table.concat({count, sized, since, ARGV[3], lost, failure}, ' '))
if not known and ARGV[12] ~= '' then redis.call('ZADD', KEYS[4], now + ARGV[12], ARGV[2]) end
return fits and 1 or 0
