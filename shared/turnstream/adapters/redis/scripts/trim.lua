#!lua flags=allow-oom
-- Takes events that retention keeps no longer, only so many in one call; nothing that is not safe yet (design §2, §7).
--
-- An event's id says nothing of its age, nor does its timestamp: that is its command's, which may have been parked for
-- days. So who tidies leaves marks, "by this time there were so many events". They stand in the partition's hash: there
-- they outlast an owner and a restart, and after a failover they go back together with the events. Marks of the commit say
-- how many bytes all events up to one had: the first mark behind which there are no more than are kept is the place.
-- The newest event stays, however large it is.
--
-- KEYS      the partition's hash and its event stream
-- ARGV      the token, how many events are kept, for how many milliseconds, the milliseconds between two marks, how many
--           events are taken in one call, how many bytes are kept
-- Returns   1 where there are more to take, else 0

local state = redis.call('HMGET', KEYS[1], 'token', 'sequence', 'stable', 'marks', 'eventBytes', 'eventMarks')
if state[1] ~= ARGV[1] then return 0 end
local sequence, marks = tonumber(state[2]), state[4] or ''
local oldest = sequence - redis.call('XLEN', KEYS[2]) + 1
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local wanted, marked_at, marked = sequence - ARGV[2], 0, 0
for at, last in string.gmatch(marks, '(%d+):(%d+)') do
  marked_at, marked = tonumber(at), tonumber(last)
  if now - marked_at >= tonumber(ARGV[3]) then wanted = math.max(wanted, marked) end
end
local size, sizes, most = tonumber(state[5]) or 0, state[6] or '', tonumber(ARGV[6])
local fits = size <= most
for last, before in string.gmatch(sizes, '(%d+):(%d+)') do
  if not fits and tonumber(last) < sequence then
    wanted, fits = math.max(wanted, tonumber(last)), size - before <= most
  end
end
wanted = math.min(wanted, tonumber(state[3] or sequence))
local taken = math.max(math.min(wanted, oldest - 1 + ARGV[5]), oldest - 1)

local left = {}
for at, last in string.gmatch(marks, '(%d+):(%d+)') do
  if tonumber(last) > taken then left[#left + 1] = at .. ':' .. last end
end
-- The clock may have been set back.
if sequence > marked and math.abs(now - marked_at) >= tonumber(ARGV[4]) then
  left[#left + 1] = string.format('%.0f', now) .. ':' .. state[2]
end
left = table.concat(left, ' ')
-- The newest of those that are gone tells where the kept ones begin.
local left_sizes = {}
for mark, last in string.gmatch(sizes, '((%d+):%d+)') do
  if tonumber(last) <= taken then left_sizes = {} end
  left_sizes[#left_sizes + 1] = mark
end
left_sizes = table.concat(left_sizes, ' ')

if taken >= oldest then redis.call('XTRIM', KEYS[2], 'MINID', string.format('%.0f-0', taken + 1)) end
if left ~= marks then redis.call('HSET', KEYS[1], 'marks', left) end
if left_sizes ~= sizes then redis.call('HSET', KEYS[1], 'eventMarks', left_sizes) end
return taken < wanted and 1 or 0
