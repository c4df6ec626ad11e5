#!lua flags=allow-oom
-- Forgets a member that left or whose connection is gone, and rings for those who should take what it held (design §5).
--
-- KEYS[1]   the registry: member id → "<milliseconds of the last beat> <connection>"
-- ARGV      the member's id, the connection that is gone ("" for any), the channel for changes
-- Returns   1, or 0 where it is not registered, or with another connection

local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known then return 0 end
if ARGV[2] ~= '' and string.match(known, '^%d+ (.*)$') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[3], 'workers')
return 1
