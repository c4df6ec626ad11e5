#!lua flags=allow-oom
-- Notes how the first event of a session's queue failed, and when it is to be tried again (design §6).
--
-- KEYS      the subscription's hash in the partition, its sessions that are set aside, those that are to be tried again
-- ARGV      the token, the session's id, the class of the error, how often the event was handled in vain, since when in
--           milliseconds ("" for now), how often its limits were doubled, "1" if the session is parked, milliseconds
--           until it is tried again ("" for never)
-- Returns   1, 0 where the session is not set aside, or -1 where the partition has another owner

if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return -1 end
local known = redis.call('HGET', KEYS[2], ARGV[2])
local retries = redis.call('ZCARD', KEYS[3])
if not known then return 0 end
local kept = string.match(known, '^(%d+ %d+ %d+ %d+ %d+) %S+ .*$')
if not kept then return redis.error_reply('BADRECORD ' .. ARGV[2] .. ' of ' .. KEYS[2]) end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local first = ARGV[5] == '' and now or ARGV[5]
local failure = table.concat({ARGV[4], first, ARGV[6], ARGV[7]}, ':') .. ' ' .. ARGV[3]
redis.call('HSET', KEYS[2], ARGV[2], kept .. ' ' .. failure)
if ARGV[8] == '' then
  redis.call('ZREM', KEYS[3], ARGV[2])
else
  redis.call('ZADD', KEYS[3], now + ARGV[8], ARGV[2])
end
return 1
