#!lua flags=allow-oom
-- Publishes the live events and replies of a batch whose durability is confirmed (design §7).
--
-- KEYS[1]   the partition's hash
-- ARGV      the token, the replication id ("" if the server has none), the sequence of the batch's last event, the
--           number of arguments for its events, then channels and payloads, alternating: of the events, then of the
--           replies

local token, replication_id, sequence, event_arguments = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local state = redis.call('HMGET', KEYS[1], 'token', 'sequence', 'stable')
if state[1] ~= token then return redis.error_reply('FENCED token') end
if replication_id ~= ''
  and not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. replication_id, 1, true) then
  return redis.error_reply('FENCED replid')
end
local first = 5
if tonumber(state[3] or 0) < tonumber(sequence) then
  redis.call('HSET', KEYS[1], 'stable', sequence)
else
  -- An earlier call, whose reply was lost, has published the events.
  first = 5 + event_arguments
end
for i = first, #ARGV, 2 do redis.call('PUBLISH', ARGV[i], ARGV[i + 1]) end
return 'OK'
