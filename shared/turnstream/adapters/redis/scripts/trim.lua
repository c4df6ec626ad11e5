#!lua flags=allow-oom
-- Removes events that exceed the retention, a limited number in one call, and none that is not confirmed (design §2, §7).
--
-- Neither an event's id nor its timestamp gives its age: the timestamp is the command's, which may have been parked for
-- days. So this script records marks in the partition's hash, "by this time there were so many events". Stored there,
-- marks survive a change of owner and a restart, and a failover rolls them back together with the events. The commit
-- script adds other marks, "up to this event all events had so many bytes": events are removed up to the first mark
-- after which the remaining bytes are within the limit. The newest event stays, however large it is.
--
-- KEYS      the partition's hash and its event stream
-- ARGV      the token, how many events are kept, for how many milliseconds, the milliseconds between two marks, how many
--           events to remove in one call, how many bytes are kept
-- Returns   1 if there are more to remove, otherwise 0

local token, keep_events, keep_ms, mark_every_ms, max_removed, keep_bytes = unpack(ARGV, 1, 6)

local state = redis.call('HMGET', KEYS[1], 'token', 'sequence', 'stable', 'marks', 'eventBytes', 'eventMarks')
if state[1] ~= token then return 0 end
local sequence, stable, marks = tonumber(state[2]), state[3], state[4] or ''
local oldest = sequence - redis.call('XLEN', KEYS[2]) + 1
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The last sequence to remove: by count, by age, then by bytes.
local wanted, marked_at, marked = sequence - keep_events, 0, 0
for at, last in string.gmatch(marks, '(%d+):(%d+)') do
  marked_at, marked = tonumber(at), tonumber(last)
  if now - marked_at >= tonumber(keep_ms) then wanted = math.max(wanted, marked) end
end
local size, sizes, most = tonumber(state[5]) or 0, state[6] or '', tonumber(keep_bytes)
local fits = size <= most
for last, before in string.gmatch(sizes, '(%d+):(%d+)') do
  if not fits and tonumber(last) < sequence then
    wanted, fits = math.max(wanted, tonumber(last)), size - before <= most
  end
end
wanted = math.min(wanted, tonumber(stable or sequence))
local removed = math.max(math.min(wanted, oldest - 1 + max_removed), oldest - 1)

local left = {}
for at, last in string.gmatch(marks, '(%d+):(%d+)') do
  if tonumber(last) > removed then left[#left + 1] = at .. ':' .. last end
end
-- The difference is absolute because the clock may have been set back.
if sequence > marked and math.abs(now - marked_at) >= tonumber(mark_every_ms) then
  left[#left + 1] = string.format('%.0f', now) .. ':' .. state[2]
end
left = table.concat(left, ' ')
-- The newest mark of a removed event is kept: the bytes of the remaining events count from it.
local left_sizes = {}
for mark, last in string.gmatch(sizes, '((%d+):%d+)') do
  if tonumber(last) <= removed then left_sizes = {} end
  left_sizes[#left_sizes + 1] = mark
end
left_sizes = table.concat(left_sizes, ' ')

if removed >= oldest then redis.call('XTRIM', KEYS[2], 'MINID', string.format('%.0f-0', removed + 1)) end
if left ~= marks then redis.call('HSET', KEYS[1], 'marks', left) end
if left_sizes ~= sizes then redis.call('HSET', KEYS[1], 'eventMarks', left_sizes) end
return removed < wanted and 1 or 0
