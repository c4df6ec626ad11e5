#!lua flags=allow-oom
-- Renews the lease of a partition; it must work when memory is full (design §5).
--
-- KEYS      the lease of the partition, and the hash with its token
-- ARGV      the token, the lease time in milliseconds, the replication id when the partition was taken ("" if the server
--           has none, or if it does not matter)
-- Returns   1, or 0 if the partition has another owner or the server has another replication id

local token, lease_ms, replication_id = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HGET', KEYS[2], 'token') ~= token then return 0 end
-- A failover may have kept the token and lost later writes: the owner must take the partition again to read its state.
if replication_id ~= ''
  and not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. replication_id, 1, true) then
  return 0
end
local owner = redis.call('GET', KEYS[1])
if owner == token then return redis.call('PEXPIRE', KEYS[1], lease_ms) end
if owner then return 0 end
-- The lease has expired, but no other worker has taken the partition.
redis.call('SET', KEYS[1], token, 'PX', lease_ms)
return 1
