#!lua
-- Appends an event to the dead-letter queue of its session, or counts it as lost if the partition has no room for it
-- (design §6).
--
-- KEYS      the subscription's hash in the partition, its retried and parked sessions, the session's queue, the retried
--           sessions by the time of their next attempt
-- ARGV      the token, the session's id, the event's sequence, its envelope, the class of its error, the failed attempts
--           (0: it only waits after others), the most events and the most bytes in all queues of the partition, "1" if
--           the event may be lost; for a session without a queue: how often its limits were doubled, "1" if it is
--           parked, milliseconds until the next attempt ("" for never); the replication id at the take ("" if the server
--           has none)
-- Returns   1; 0 if the event is lost; 2 if it is neither lost nor kept; 3 if it should wait after others and there are
--           none; -1 if the partition has another owner, or the server another history

local token, session_id, sequence, envelope, error_class, attempts = unpack(ARGV, 1, 6)
local max_events, max_bytes, may_be_lost, doublings, is_parked, retry_ms, replid = unpack(ARGV, 7, 13)

local state = redis.call('HMGET', KEYS[1], 'token', 'parked', 'parkedBytes')
if state[1] ~= token then return -1 end
-- The token may have survived what the owner wrote after it, such as events in the queues of sessions. A checkpoint or a
-- queued event on top of that would skip them. The owner must take the partition again, and continue from its state.
if replid ~= '' and not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. replid, 1, true) then
  return -1
end
local known = redis.call('HGET', KEYS[2], session_id)
if not known and attempts == '0' then return 3 end
-- Both reads come before the first write because they fail if the key has another type.
local queued, retries = redis.call('XLEN', KEYS[3]), redis.call('ZCARD', KEYS[4])
local size = #envelope
local parked, bytes = tonumber(state[2] or 0) + 1, tonumber(state[3] or 0) + size
local fits = parked <= tonumber(max_events) and bytes <= tonumber(max_bytes)

-- A session's record: events, bytes, since (milliseconds), newest sequence, lost, and of its first event
-- attempts:first failure (milliseconds):doublings:parked, and the error's class.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count, total, since, newest, lost = 0, 0, now, '0', 0
local failure = table.concat({attempts, now, doublings, is_parked}, ':') .. ' ' .. error_class
if known then
  count, total, since, newest, lost, failure = string.match(known, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%S+ .*)$')
  if not count then return redis.error_reply('BADRECORD ' .. session_id .. ' of ' .. KEYS[2]) end
end

if tonumber(sequence) <= tonumber(newest) then return 1 end
if not fits and may_be_lost ~= '1' then return 2 end
if fits then
  redis.call('XADD', KEYS[3], sequence .. '-0', 'event', envelope)
  redis.call('HSET', KEYS[1], 'parked', parked, 'parkedBytes', bytes)
  count, total = count + 1, total + size
else
  lost = lost + 1
end
redis.call('HSET', KEYS[2], session_id, table.concat({count, total, since, sequence, lost, failure}, ' '))
if not known and retry_ms ~= '' then redis.call('ZADD', KEYS[4], now + retry_ms, session_id) end
return fits and 1 or 0
