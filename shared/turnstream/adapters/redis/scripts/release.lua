#!lua flags=allow-oom
-- Gives a partition up (design §5).
--
-- KEYS      the lease of a partition, and the hash with its token
-- ARGV[1]   the token
-- Returns   1, or 0 where the partition has another owner

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], 'released', ARGV[1])
return redis.call('UNLINK', KEYS[1])
