#!lua flags=allow-oom
-- Drops the first event of a session's queue, and with the last one the queue and all that is noted of it (design §6).
--
-- KEYS      the subscription's hash in the partition, its sessions that are set aside, the session's queue, the
--           sessions that are to be tried again
-- ARGV      the token, the session's id, the sequence that the first event must have, how many lost events may be
--           forgotten with the last one ("" for any number)
-- Returns   how many events are left, or -1 where the partition has another owner

local state = redis.call('HMGET', KEYS[1], 'token', 'parked', 'parkedBytes')
if state[1] ~= ARGV[1] then return -1 end
local known = redis.call('HGET', KEYS[2], ARGV[2])
local left, retries = redis.call('XLEN', KEYS[3]), redis.call('ZCARD', KEYS[4])
if not known then
  redis.call('ZREM', KEYS[4], ARGV[2])
  return left
end
local count, size, rest, lost, tries = string.match(known, '^(%d+) (%d+)( %d+ %d+ (%d+)) (%S+) .*$')
if not count then return redis.error_reply('BADRECORD ' .. ARGV[2] .. ' of ' .. KEYS[2]) end

local first = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)[1]
local parked, bytes = tonumber(state[2] or 0), tonumber(state[3] or 0)
if left > 0 and first[1] ~= ARGV[3] .. '-0' then return left end
if left <= 1 and ARGV[4] ~= '' and tonumber(lost) > tonumber(ARGV[4]) then return 1 end
if left > 1 then
  local dropped = #first[2][2]
  -- Nothing is known of the event that comes first now.
  local fresh = string.match(tries, ':0$') and ' 0:0:0:0 ' or ' 0:0:0:1 '
  redis.call('XDEL', KEYS[3], first[1])
  redis.call('HSET', KEYS[2], ARGV[2], (count - 1) .. ' ' .. (size - dropped) .. rest .. fresh)
  count, size = 1, dropped
else
  redis.call('UNLINK', KEYS[3])
  redis.call('HDEL', KEYS[2], ARGV[2])
  redis.call('ZREM', KEYS[4], ARGV[2])
end
redis.call('HSET', KEYS[1], 'parked', math.max(0, parked - count), 'parkedBytes', math.max(0, bytes - size))
return math.max(0, left - 1)
