#!lua flags=allow-oom
-- Tells of a batch that is safe by now: its live events and its replies (design §7).
--
-- KEYS[1]   the partition's hash
-- ARGV      token, replication id ("" where the server has none), the sequence of the batch's last event, the number of
--           words of its events, then channels and payloads, one after the other: of the events, then of the replies

local state = redis.call('HMGET', KEYS[1], 'token', 'sequence', 'stable')
if state[1] ~= ARGV[1] then return redis.error_reply('FENCED token') end
if ARGV[2] ~= '' and not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. ARGV[2], 1, true) then
  return redis.error_reply('FENCED replid')
end
local first = 5
if tonumber(state[3] or 0) < tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], 'stable', ARGV[3])
else
  -- Its events were told before, in a call whose answer was lost.
  first = 5 + ARGV[4]
end
for i = first, #ARGV, 2 do redis.call('PUBLISH', ARGV[i], ARGV[i + 1]) end
return 'OK'
