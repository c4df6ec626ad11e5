#!lua flags=allow-oom
-- Removes the first event of a session's dead-letter queue; with the last event also the queue and the session's record
-- (design §6).
--
-- KEYS      the subscription's hash in the partition, its retried and parked sessions, the session's queue, the retried
--           sessions by the time of their next attempt
-- ARGV      the token, the session's id, the sequence that the first event must have, the most lost events that may be
--           forgotten together with the last event ("" for any number)
-- Returns   how many events are left, or -1 if the partition has another owner

local token, session_id, sequence, max_lost = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local state = redis.call('HMGET', KEYS[1], 'token', 'parked', 'parkedBytes')
if state[1] ~= token then return -1 end
local known = redis.call('HGET', KEYS[2], session_id)
-- Both reads come before the first write because they fail if the key has another type.
local left, retries = redis.call('XLEN', KEYS[3]), redis.call('ZCARD', KEYS[4])
if not known then
  redis.call('ZREM', KEYS[4], session_id)
  return left
end
local count, size, middle, lost, failure = string.match(known, '^(%d+) (%d+)( %d+ %d+ (%d+)) (%S+) .*$')
if not count then return redis.error_reply('BADRECORD ' .. session_id .. ' of ' .. KEYS[2]) end

local first = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)[1]
local parked, bytes = tonumber(state[2] or 0), tonumber(state[3] or 0)
if left > 0 and first[1] ~= sequence .. '-0' then return left end
if left <= 1 and max_lost ~= '' and tonumber(lost) > tonumber(max_lost) then return 1 end
if left > 1 then
  local removed = #first[2][2]
  -- The event that is first now has not failed yet; the session stays parked if it was.
  local fresh = string.match(failure, ':0$') and ' 0:0:0:0 ' or ' 0:0:0:1 '
  redis.call('XDEL', KEYS[3], first[1])
  redis.call('HSET', KEYS[2], session_id, (count - 1) .. ' ' .. (size - removed) .. middle .. fresh)
  count, size = 1, removed
else
  redis.call('UNLINK', KEYS[3])
  redis.call('HDEL', KEYS[2], session_id)
  redis.call('ZREM', KEYS[4], session_id)
end
redis.call('HSET', KEYS[1], 'parked', math.max(0, parked - count), 'parkedBytes', math.max(0, bytes - size))
return math.max(0, left - 1)
