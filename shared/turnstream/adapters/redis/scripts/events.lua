#!lua flags=no-writes
-- Reads events of a partition together with the state of its event log, as of one point in time (design §6).
--
-- KEYS      the partition's hash and its event stream; then a session's hash, if its last sequence is wanted
-- ARGV      the sequence after which to read, how many events at most, the number of bytes at which to stop, how many
--           events to read at a time at most
-- Returns   {generation, former generations, sequence, the sequence up to which batches are confirmed, type sequences},
--           the id of the oldest event, the session's last sequence, then ids and payloads, alternating
--
-- Sequences are text: a Lua number loses integers above 2^53.

local after, limit, max_bytes, max_step = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local state = redis.call('HMGET', KEYS[1], 'generation', 'formerGenerations', 'sequence', 'stable', 'types')
local sequence, stable = state[3], state[4]
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1] or false
local session = KEYS[3] and redis.call('HGET', KEYS[3], 'lastSequence')

local events, last = {}, after .. '-0'
local head = (stable or sequence or '0') .. '-0'
local left, room, most = tonumber(limit), tonumber(max_bytes), tonumber(max_step)
-- The first event is read alone. Each next step reads as many events as fit if none is larger than the largest so far.
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
