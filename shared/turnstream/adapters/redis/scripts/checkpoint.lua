#!lua flags=allow-oom
-- Notes how far a subscription has handled a partition (design §6).
--
-- KEYS[1]   the subscription's hash in the partition
-- ARGV      the token, the generation, the sequence
-- Returns   1, or -1 where the partition has another owner

if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return -1 end
redis.call('HSET', KEYS[1], 'generation', ARGV[2], 'sequence', ARGV[3])
return 1
