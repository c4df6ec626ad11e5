#!lua
-- Moves an entry that could not be read to the end of the command stream (design §4).
--
-- KEYS      the malformed entries and the command stream
-- ARGV      the entry's id, the largest backlog
-- Returns   1, 0 where there is no such entry, or below 0 the backlog that it was refused for

local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then return 0 end
local backlog = redis.call('XLEN', KEYS[2])
if backlog >= tonumber(ARGV[2]) then return -backlog end
-- What was written to the command stream stands behind the id that it had there, and the error.
local words = found[1][2]
if #words > 4 then redis.call('XADD', KEYS[2], '*', unpack(words, 5)) end
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
