#!lua
-- Appends commands to a partition's stream, unless the backlog would become too large (design §4).
--
-- KEYS[1]   the partition's command stream
-- ARGV      the largest backlog, then for each command: its id, type and data, the number of arguments for its optional
--           fields, and these arguments
-- Returns   -1, or the backlog because of which the commands were refused

local max_backlog = ARGV[1]

local starts, at, last = {}, 2, #ARGV
while at <= last do
  starts[#starts + 1] = at
  at = at + 4 + ARGV[at + 3]
end
local backlog = redis.call('XLEN', KEYS[1])
if backlog + #starts > tonumber(max_backlog) then return backlog end
for _, i in ipairs(starts) do
  local id, command_type, data, optional = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  redis.call('XADD', KEYS[1], '*', 'id', id, 'type', command_type, 'data', data, unpack(ARGV, i + 4, i + 3 + optional))
end
return -1
