#!lua flags=allow-oom
-- Keeps a partition for another lease time; it must work when memory is full (design §5).
--
-- KEYS      the lease of a partition, and the hash with its token
-- ARGV      the token, the lease time in milliseconds
-- Returns   1, or 0 where the partition has another owner

if redis.call('HGET', KEYS[2], 'token') ~= ARGV[1] then return 0 end
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if owner then return 0 end
-- The lease ran out, but nobody took the partition: it is still ours.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
