#!lua flags=allow-oom
-- Records how the first event of a session's dead-letter queue failed, and when to try it again (design §6).
--
-- KEYS      the subscription's hash in the partition, its retried and parked sessions, the retried sessions by the time
--           of their next attempt
-- ARGV      the token, the session's id, the error's class, the failed attempts, the time of the first failure in
--           milliseconds ("" for now), how often its limits were doubled, "1" if the session is parked, milliseconds
--           until the next attempt ("" for never)
-- Returns   1, 0 if the session is neither retried nor parked, or -1 if the partition has another owner

local token, session_id, error_class, attempts, failed_at, doublings, is_parked, retry_ms = unpack(ARGV, 1, 8)

if redis.call('HGET', KEYS[1], 'token') ~= token then return -1 end
local known = redis.call('HGET', KEYS[2], session_id)
-- Read before the first write, because it fails if the key has another type.
local retries = redis.call('ZCARD', KEYS[3])
if not known then return 0 end
local kept = string.match(known, '^(%d+ %d+ %d+ %d+ %d+) %S+ .*$')
if not kept then return redis.error_reply('BADRECORD ' .. session_id .. ' of ' .. KEYS[2]) end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local first = failed_at == '' and now or failed_at
local failure = table.concat({attempts, first, doublings, is_parked}, ':') .. ' ' .. error_class
redis.call('HSET', KEYS[2], session_id, kept .. ' ' .. failure)
if retry_ms == '' then
  redis.call('ZREM', KEYS[3], session_id)
else
  redis.call('ZADD', KEYS[3], now + retry_ms, session_id)
end
return 1
