#!lua flags=allow-oom
-- Keeps a partition for another lease time; it must work when memory is full (design §5).
--
-- KEYS      the lease of a partition, and the hash with its token
-- ARGV      the token, the lease time in milliseconds, the replication id at the take ("" where the server has none, or
--           where it does not matter)
-- Returns   1, or 0 where the partition has another owner, or the server another history

if redis.call('HGET', KEYS[2], 'token') ~= ARGV[1] then return 0 end
-- The token may have survived what the owner wrote after it: it must take the partition again, and see where that stands.
if ARGV[3] ~= '' and not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. ARGV[3], 1, true) then
  return 0
end
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if owner then return 0 end
-- The lease ran out, but nobody took the partition: it is still ours.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
