#!lua flags=allow-oom
-- Records that the command after the cursor is about to be tried alone, before it is decoded (design §4).
--
-- KEYS[1]   the partition's hash
-- ARGV      the token, the command's entry id
-- Returns   how many owners have died of this command; -1 if the partition has another owner

local token, entry_id = ARGV[1], ARGV[2]

local state = redis.call('HMGET', KEYS[1], 'token', 'cursor', 'attemptAt', 'attempted', 'attempts')
local cursor, attempt_at, attempted = state[2], state[3], state[4]
if state[1] ~= token then return -1 end
if attempt_at == cursor and attempted == entry_id then return tonumber(state[5]) end
redis.call('HSET', KEYS[1], 'attemptAt', cursor, 'attempted', entry_id, 'attempts', '0')
return 0
