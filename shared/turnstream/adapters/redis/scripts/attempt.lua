#!lua flags=allow-oom
-- Notes that the command behind the cursor is tried alone, before anybody looks at it (design §4).
--
-- KEYS[1]   the partition's hash
-- ARGV      the token, the command's stream id
-- Returns   how many owners have died of this command; -1 where the partition has another owner

local state = redis.call('HMGET', KEYS[1], 'token', 'cursor', 'attemptAt', 'attempted', 'attempts')
if state[1] ~= ARGV[1] then return -1 end
if state[3] == state[2] and state[4] == ARGV[2] then return tonumber(state[5]) end
redis.call('HSET', KEYS[1], 'attemptAt', state[2], 'attempted', ARGV[2], 'attempts', '0')
return 0
