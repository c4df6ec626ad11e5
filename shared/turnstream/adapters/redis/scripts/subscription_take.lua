#!lua flags=allow-oom
-- Makes a consumer of a subscription the owner of a partition that is free (design §6).
--
-- KEYS      the lease, and the subscription's hash in the partition
-- ARGV      the consumer's former token ("" for none), a random text for the new token, the lease time in milliseconds,
--           the token of an owner that is dead ("" for none), "1" if the server has a replication id
-- Returns   {the owner's token} if the partition has one; otherwise {token, generation and sequence of the checkpoint
--           (both "" if there is none), replication id ("" if the server has none)}

local former_token, random, lease_ms, dead_token, knows_replication = unpack(ARGV, 1, 5)

local owner = redis.call('GET', KEYS[1])
if owner and owner ~= former_token and owner ~= dead_token then return {owner} end

local checkpoint = redis.call('HMGET', KEYS[2], 'generation', 'sequence')
local token = redis.call('HINCRBY', KEYS[2], 'epoch', 1) .. '-' .. random
redis.call('SET', KEYS[1], token, 'PX', lease_ms)
redis.call('HSET', KEYS[2], 'token', token)
local replid = knows_replication == '1' and string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or ''
return {token, checkpoint[1] or '', checkpoint[2] or '', replid}
