#!lua
-- Applies one batch of a partition in one step, or nothing (design §3).
--
-- KEYS[1]   the partition's hash
-- ARGV      token, replication id ("" where the server has none), cursor, sequence
--           n, then n times: a session's key and the version it must have ("" for no session)
--           then the writes: each the number of its words, then the words
--
-- Numbers are compared as text: a Lua number loses integers above 2^53.

local function refuse(reason)
  return redis.error_reply('FENCED ' .. reason)
end

local state = redis.call('HMGET', KEYS[1], 'token', 'cursor', 'sequence')
if state[1] ~= ARGV[1] then return refuse('token') end
if ARGV[2] ~= '' and not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. ARGV[2], 1, true) then
  return refuse('replid')
end
if state[2] ~= ARGV[3] then return refuse('cursor') end
if state[3] ~= ARGV[4] then return refuse('sequence') end

local at = 6
for _ = 1, tonumber(ARGV[5]) do
  if (redis.call('HGET', ARGV[at], 'version') or '') ~= ARGV[at + 1] then return refuse('version') end
  at = at + 2
end

-- After the first write nothing may fail: the shape of every write is checked before.
local ALLOWED = {HSET = 1, HDEL = 1, ZADD = 1, ZREM = 1, XADD = 1, XTRIM = 1, UNLINK = 1, PUBLISH = 1}
local last, first = #ARGV, at
while at <= last do
  local words = tonumber(ARGV[at])
  if not words or words > 4000 or at + words > last or not ALLOWED[ARGV[at + 1]] then
    return redis.error_reply('BADBATCH write at argument ' .. at)
  end
  at = at + words + 1
end

at = first
while at <= last do
  local words = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return 'OK'
