#!lua flags=allow-oom
-- Notes that a worker lives, forgets those that were silent for too long, and says who is left (design §5).
--
-- KEYS[1]   the registry
-- ARGV      the worker's id, the milliseconds after which a silent worker is forgotten, the channel for changes
-- Returns   the ids of the living workers

local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local added = redis.call('ZADD', KEYS[1], ms, ARGV[1])
local gone = redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ms - ARGV[2])
if added + gone > 0 then redis.call('PUBLISH', ARGV[3], 'workers') end
return redis.call('ZRANGE', KEYS[1], 0, -1)
