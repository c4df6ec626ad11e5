#!lua
-- Applies one batch of a partition in one step, or nothing (design §3).
--
-- KEYS      the partition's hash and its event stream; in a cluster also a key that never exists
-- ARGV      token, replication id ("" where the server has none), cursor, sequence
--           the time at which it is too late, in milliseconds since 1970 ("" for never)
--           the bytes of events between two marks
--           n, then n times: a session's key and the version it must have ("" for no session)
--           n, then n times new fields: the number of hashes, the number of words, "1" to write them, the hashes'
--           keys, then the fields and their values: no hash may have one of the fields, the last hash gets them
--           n, then n times: an event's stream id, two channels ("" for none) and the payload
--           then the writes: each the number of its words, then the words
--
-- Numbers are compared as text: a Lua number loses integers above 2^53.

local function refuse(reason)
  return redis.error_reply('FENCED ' .. reason)
end

-- What the checks have read as a hash is one, or can become one.
local types = {[KEYS[1]] = 'hash'}

local state = redis.call('HMGET', KEYS[1], 'token', 'cursor', 'sequence', 'eventBytes')
if state[1] ~= ARGV[1] then return refuse('token') end
if ARGV[2] ~= '' and not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. ARGV[2], 1, true) then
  return refuse('replid')
end
if state[2] ~= ARGV[3] then return refuse('cursor') end
if state[3] ~= ARGV[4] then return refuse('sequence') end
if ARGV[5] ~= '' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if now >= tonumber(ARGV[5]) then return redis.error_reply(string.format('TOOLATE %.0f', now)) end
end

local at = 8
for _ = 1, tonumber(ARGV[7]) do
  if (redis.call('HGET', ARGV[at], 'version') or '') ~= ARGV[at + 1] then return refuse('version') end
  types[ARGV[at]] = 'hash'
  at = at + 2
end

local news, first_new = tonumber(ARGV[at]), at + 1
at = first_new
for _ = 1, news do
  local pairs_at = at + 3 + ARGV[at]
  local fields = {}
  for field = pairs_at, pairs_at + ARGV[at + 1] - 1, 2 do
    fields[#fields + 1] = ARGV[field]
  end
  for key = at + 3, pairs_at - 1 do
    for _, found in ipairs(redis.call('HMGET', ARGV[key], unpack(fields))) do
      if found then return redis.error_reply('COLLISION ' .. ARGV[key]) end
    end
  end
  at = pairs_at + ARGV[at + 1]
end

-- After the first write nothing may fail: every write's shape, and the type of its key, is checked before.
local TYPES = {
  HSET = 'hash', HDEL = 'hash', ZADD = 'zset', ZREM = 'zset', XADD = 'stream', XDEL = 'stream',
  XTRIM = 'stream', UNLINK = 'any', PUBLISH = 'any', SPUBLISH = 'any',
}
local LAST_ID = '18446744073709551615-18446744073709551615'
local events, writes, last = at + 1, at + 1 + 4 * tonumber(ARGV[at]), #ARGV
at = writes
while at <= last do
  local words = tonumber(ARGV[at])
  local wanted = TYPES[ARGV[at + 1]]
  if not words or words > 4000 or at + words > last or not wanted then
    return redis.error_reply('BADBATCH write at argument ' .. at)
  end
  if wanted ~= 'any' then
    local key = ARGV[at + 2]
    types[key] = types[key] or redis.call('TYPE', key).ok
    if types[key] ~= wanted and types[key] ~= 'none' then
      return redis.error_reply('BADBATCH ' .. key .. ' is a ' .. types[key])
    end
    if ARGV[at + 1] == 'XADD' and types[key] == 'stream' then
      for _, about in ipairs(redis.call('XINFO', 'STREAM', key)) do
        if about == LAST_ID then return redis.error_reply('BADBATCH ' .. key .. ' has the last id') end
      end
    end
  end
  at = at + words + 1
end

-- What all events ever had in bytes; by marks, "up to this event there were so many", retention knows what the kept ones
-- have (trim.lua).
local size, every, marks = tonumber(state[4]) or 0, tonumber(ARGV[6]), ''
for i = events, writes - 1, 4 do
  local payload = ARGV[i + 3]
  local before = size
  size = size + #payload
  if math.floor(size / every) > math.floor(before / every) then
    marks = marks .. string.format(' %s:%.0f', string.match(ARGV[i], '%d+'), size)
  end
  redis.call('XADD', KEYS[2], ARGV[i], 'event', payload)
  if ARGV[i + 1] ~= '' then redis.call('PUBLISH', ARGV[i + 1], payload) end
  if ARGV[i + 2] ~= '' then redis.call('PUBLISH', ARGV[i + 2], payload) end
end
if writes > events then redis.call('HSET', KEYS[1], 'eventBytes', string.format('%.0f', size)) end
if marks ~= '' then
  redis.call('HSET', KEYS[1], 'eventMarks', (redis.call('HGET', KEYS[1], 'eventMarks') or '') .. marks)
end
at = first_new
for _ = 1, news do
  local pairs_at = at + 3 + ARGV[at]
  local behind = pairs_at + ARGV[at + 1]
  if ARGV[at + 2] == '1' then redis.call('HSET', ARGV[pairs_at - 1], unpack(ARGV, pairs_at, behind - 1)) end
  at = behind
end
at = writes
while at <= last do
  local words = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return 'OK'
