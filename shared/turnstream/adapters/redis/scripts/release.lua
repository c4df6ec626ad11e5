#!lua flags=allow-oom
-- Gives a partition up (design §5).
--
-- KEYS[1]   the partition's lease
-- ARGV[1]   the token
-- Returns   1, or 0 where the partition has another owner

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
