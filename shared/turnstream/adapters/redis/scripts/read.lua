#!lua flags=no-writes
-- Runs several reading commands and returns their replies, all as of one point in time (design §2).
--
-- KEYS[1]   any key of the partition: it routes the script
-- ARGV      the commands: for each the number of its arguments, then the arguments
-- Returns   the replies, in order

local replies = {}
local at, last = 1, #ARGV
while at <= last do
  local count = tonumber(ARGV[at])
  replies[#replies + 1] = redis.call(unpack(ARGV, at + 1, at + count))
  at = at + count + 1
end
return replies
