#!lua flags=allow-oom
-- Makes retried sessions due now instead of later (design §6).
--
-- KEYS      the subscription's hash in the partition, its retried sessions by the time of their next attempt
-- ARGV      the token, how many sessions at most
-- Returns   how many were made due, or -1 if the partition has another owner

local token, limit = ARGV[1], ARGV[2]

if redis.call('HGET', KEYS[1], 'token') ~= token then return -1 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local later = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf', 'LIMIT', 0, limit)
for _, session in ipairs(later) do redis.call('ZADD', KEYS[2], now, session) end
return #later
