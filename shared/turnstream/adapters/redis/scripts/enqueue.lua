#!lua
-- Appends commands to a partition's stream, unless too many wait there already (design §4).
--
-- KEYS[1]   the partition's command stream
-- ARGV      the largest backlog, then each command: its id, type and data, the number of words of its other fields,
--           and these
-- Returns   -1, or the backlog that it was refused for

local starts, at, last = {}, 2, #ARGV
while at <= last do
  starts[#starts + 1] = at
  at = at + 4 + ARGV[at + 3]
end
local backlog = redis.call('XLEN', KEYS[1])
if backlog + #starts > tonumber(ARGV[1]) then return backlog end
for _, i in ipairs(starts) do
  redis.call('XADD', KEYS[1], '*', 'id', ARGV[i], 'type', ARGV[i + 1], 'data', ARGV[i + 2],
    unpack(ARGV, i + 4, i + 3 + ARGV[i + 3]))
end
return -1
