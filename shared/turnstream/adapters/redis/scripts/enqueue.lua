#!lua
-- Appends commands to a partition's stream, unless too many wait there already (design §4).
--
-- KEYS[1]   the partition's command stream
-- ARGV      the largest backlog, the number of commands, then each: the number of its words, then its fields
-- Returns   -1, or the backlog that it was refused for

local backlog = redis.call('XLEN', KEYS[1])
if backlog + tonumber(ARGV[2]) > tonumber(ARGV[1]) then return backlog end
local at, last = 3, #ARGV
while at <= last do
  local words = tonumber(ARGV[at])
  redis.call('XADD', KEYS[1], '*', unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return -1
