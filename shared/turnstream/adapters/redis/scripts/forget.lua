#!lua flags=allow-oom
-- Removes a member that has left or lost its connection, and notifies the others to take its partitions (design §5).
--
-- KEYS[1]   the registry: member id → "<milliseconds of the last beat> <connection>"
-- ARGV      the member's id, the connection that is gone ("" for any), the channel for changes
-- Returns   1, or 0 if it is not registered, or has another connection

local member_id, connection, changes_channel = ARGV[1], ARGV[2], ARGV[3]

local known = redis.call('HGET', KEYS[1], member_id)
if not known then return 0 end
if connection ~= '' and string.match(known, '^%d+ (.*)$') ~= connection then return 0 end
redis.call('HDEL', KEYS[1], member_id)
redis.call('PUBLISH', changes_channel, 'workers')
return 1
