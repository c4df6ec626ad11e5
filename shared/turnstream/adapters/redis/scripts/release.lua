#!lua flags=allow-oom
-- Gives up the ownership of a partition (design §5).
--
-- KEYS      the lease of the partition, and the hash with its token
-- ARGV[1]   the token
-- Returns   1, or 0 if the partition has another owner

local token = ARGV[1]

if redis.call('GET', KEYS[1]) ~= token then return 0 end
redis.call('HSET', KEYS[2], 'released', token)
return redis.call('UNLINK', KEYS[1])
