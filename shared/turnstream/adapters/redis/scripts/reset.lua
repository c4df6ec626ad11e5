#!lua flags=allow-oom
-- Sets the checkpoint of a subscription in a partition, and fences who owns it (design §6).
--
-- KEYS      the lease, and the subscription's hash in the partition
-- ARGV      the generation, the sequence
-- Returns   OK

redis.call('HSET', KEYS[2], 'generation', ARGV[1], 'sequence', ARGV[2])
redis.call('HDEL', KEYS[2], 'token')
redis.call('UNLINK', KEYS[1])
return 'OK'
