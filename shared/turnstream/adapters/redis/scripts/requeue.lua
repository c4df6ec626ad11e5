#!lua
-- Moves a malformed entry from the quarantine to the end of the command stream (design §4).
--
-- KEYS      the quarantine and the command stream
-- ARGV      the entry's id, the largest backlog
-- Returns   1, 0 if there is no such entry, or minus the backlog because of which it was refused

local entry_id, max_backlog = ARGV[1], ARGV[2]

local found = redis.call('XRANGE', KEYS[1], entry_id, entry_id)
if #found == 0 then return 0 end
local backlog = redis.call('XLEN', KEYS[2])
if backlog >= tonumber(max_backlog) then return -backlog end
-- The first two fields are the id that the entry had in the command stream, and the error; the others are its own.
local fields = found[1][2]
if #fields > 4 then redis.call('XADD', KEYS[2], '*', unpack(fields, 5)) end
redis.call('XDEL', KEYS[1], entry_id)
return 1
