#!lua flags=allow-oom
-- Makes a member of a subscription the owner of a partition that is free (design §6).
--
-- KEYS      the lease, and the subscription's hash in the partition
-- ARGV      the token of the member's earlier life ("" for none), a random text for the new token, the lease time in
--           milliseconds, the token of an owner that is dead ("" for none)
-- Returns   {the owner's token} while it has one, else {token, generation and sequence of the checkpoint, "" for none}

local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] and owner ~= ARGV[4] then return {owner} end

local mark = redis.call('HMGET', KEYS[2], 'generation', 'sequence')
local token = redis.call('HINCRBY', KEYS[2], 'epoch', 1) .. '-' .. ARGV[2]
redis.call('SET', KEYS[1], token, 'PX', ARGV[3])
redis.call('HSET', KEYS[2], 'token', token)
return {token, mark[1] or '', mark[2] or ''}
