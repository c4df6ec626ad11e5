#!lua flags=no-writes
-- Reads events of a partition and how things stand there, as of one moment (design §6).
--
-- KEYS      the partition's hash and its event stream; behind them a session's hash, if its last sequence is wanted
-- ARGV      the sequence behind which to read, how many events at most, the bytes at which to stop, how many to read at
--           a time at most
-- Returns   {generation, former generations, sequence, the sequence up to which batches are safe, type sequences}, the
--           id of the oldest event, the session's last sequence, ids and payloads one after the other
--
-- Sequences are text: a Lua number loses integers above 2^53.

local state = redis.call('HMGET', KEYS[1], 'generation', 'formerGenerations', 'sequence', 'stable', 'types')
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1] or false
local session = KEYS[3] and redis.call('HGET', KEYS[3], 'lastSequence')

local events, last = {}, ARGV[1] .. '-0'
local head = (state[4] or state[3] or '0') .. '-0'
local left, room, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- The first comes alone; then as many at a time as have room if they are no larger than the largest so far.
local step, largest = 1, 1
while left > 0 and room > 0 do
  local found = redis.call('XRANGE', KEYS[2], '(' .. last, head, 'COUNT', math.min(left, step))
  if #found == 0 then break end
  for _, entry in ipairs(found) do
    local payload = entry[2][2]
    events[#events + 1] = entry[1]
    events[#events + 1] = payload
    left, room, largest = left - 1, room - #payload, math.max(largest, #payload)
    if room <= 0 then break end
  end
  last = found[#found][1]
  step = math.max(1, math.min(most, math.floor(room / largest)))
end
return {state, oldest and oldest[1], session or false, events}
