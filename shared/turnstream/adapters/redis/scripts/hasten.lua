#!lua flags=allow-oom
-- Has sessions that are set aside tried again now, and not later (design §6).
--
-- KEYS      the subscription's hash in the partition, the sessions that are to be tried again by the time of that
-- ARGV      the token, how many sessions at most
-- Returns   how many there were, or -1 where the partition has another owner

if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return -1 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local later = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf', 'LIMIT', 0, ARGV[2])
for _, session in ipairs(later) do redis.call('ZADD', KEYS[2], now, session) end
return #later
