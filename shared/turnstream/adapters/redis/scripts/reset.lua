#!lua flags=allow-oom
-- Sets the checkpoint of a subscription in a partition, and fences the partition's present owner (design §6).
--
-- KEYS      the lease, and the subscription's hash in the partition
-- ARGV      the generation, the sequence
-- Returns   OK

local generation, sequence = ARGV[1], ARGV[2]

redis.call('HSET', KEYS[2], 'generation', generation, 'sequence', sequence)
redis.call('HDEL', KEYS[2], 'token')
redis.call('UNLINK', KEYS[1])
return 'OK'
