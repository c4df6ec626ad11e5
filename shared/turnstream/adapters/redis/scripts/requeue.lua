#!lua
-- Moves an entry that could not be read to the end of the command stream (design §4).
--
-- KEYS      the malformed entries and the command stream
-- ARGV      the entry's id, the largest backlog
-- Returns   1, 0 where there is no such entry, -1 where too many commands wait

local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then return 0 end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[2]) then return -1 end
local words = found[1][2]
-- Behind the id that it had and its error; what had no fields cannot be a command.
if #words > 4 then redis.call('XADD', KEYS[2], '*', unpack(words, 5)) end
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
