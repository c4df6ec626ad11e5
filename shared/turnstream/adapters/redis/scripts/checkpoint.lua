#!lua flags=allow-oom
-- Stores a subscription's checkpoint in a partition (design §6).
--
-- KEYS[1]   the subscription's hash in the partition
-- ARGV      the token, the generation, the sequence, the replication id at the take ("" if the server has none)
-- Returns   1, or -1 if the partition has another owner, or the server another history

local token, generation, sequence, replid = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

if redis.call('HGET', KEYS[1], 'token') ~= token then return -1 end
-- The token may have survived what the owner wrote after it, such as events in the queues of sessions. A checkpoint or a
-- queued event on top of that would skip them. The owner must take the partition again, and continue from its state.
if replid ~= '' and not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. replid, 1, true) then
  return -1
end
redis.call('HSET', KEYS[1], 'generation', generation, 'sequence', sequence)
return 1
