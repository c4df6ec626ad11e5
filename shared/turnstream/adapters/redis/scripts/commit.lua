#!lua
-- Applies one batch of a partition in one step, or nothing (design §3).
--
-- KEYS      the partition's hash and its event stream; in a cluster also a key that never exists
-- ARGV      token, replication id ("" if the server has none), cursor, sequence
--           the deadline, in milliseconds since 1970 ("" for none)
--           the bytes of events between two marks
--           n, then n times: a session's key and the version it must have ("" for no session)
--           n, then n times insert-only fields: the number of hashes, the number of fields and values, "1" to write
--           them, the hashes' keys, then the fields and their values: no hash may have one of the fields, the last hash
--           gets them
--           n, then n times: an event's stream id, two channels ("" for none) and the payload
--           then the writes: each the number of its arguments, then the arguments
-- Returns   OK; an error FENCED <reason>, TOOLATE <time>, COLLISION <key> or BADBATCH <reason> if nothing was applied
--
-- Numbers are compared as text: a Lua number loses integers above 2^53.

local token, replication_id, cursor, sequence, deadline, bytes_per_mark, sessions = unpack(ARGV, 1, 7)

local function refuse(reason)
  return redis.error_reply('FENCED ' .. reason)
end

-- The checks read these keys as hashes, so each is a hash or does not exist.
local types = {[KEYS[1]] = 'hash'}

local state = redis.call('HMGET', KEYS[1], 'token', 'cursor', 'sequence', 'eventBytes')
if state[1] ~= token then return refuse('token') end
if replication_id ~= ''
  and not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. replication_id, 1, true) then
  return refuse('replid')
end
if state[2] ~= cursor then return refuse('cursor') end
if state[3] ~= sequence then return refuse('sequence') end
if deadline ~= '' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if now >= tonumber(deadline) then return redis.error_reply(string.format('TOOLATE %.0f', now)) end
end

local at = 8
for _ = 1, tonumber(sessions) do
  local key, version = ARGV[at], ARGV[at + 1]
  if (redis.call('HGET', key, 'version') or '') ~= version then return refuse('version') end
  types[key] = 'hash'
  at = at + 2
end

local inserts, first_insert = tonumber(ARGV[at]), at + 1
at = first_insert
for _ = 1, inserts do
  local hashes, count = ARGV[at], ARGV[at + 1]
  local pairs_at = at + 3 + hashes
  local fields = {}
  for field = pairs_at, pairs_at + count - 1, 2 do
    fields[#fields + 1] = ARGV[field]
  end
  for key = at + 3, pairs_at - 1 do
    for _, found in ipairs(redis.call('HMGET', ARGV[key], unpack(fields))) do
      if found then return redis.error_reply('COLLISION ' .. ARGV[key]) end
    end
  end
  at = pairs_at + count
end

-- After the first write nothing may fail: so each write's shape and the type of its key are checked before.
local TYPES = {
  HSET = 'hash', HDEL = 'hash', ZADD = 'zset', ZREM = 'zset', XADD = 'stream', XDEL = 'stream',
  XTRIM = 'stream', UNLINK = 'any', PUBLISH = 'any', SPUBLISH = 'any',
}
local LAST_ID = '18446744073709551615-18446744073709551615'
local events, writes, last = at + 1, at + 1 + 4 * tonumber(ARGV[at]), #ARGV
at = writes
while at <= last do
  local count, command = tonumber(ARGV[at]), ARGV[at + 1]
  local wanted = TYPES[command]
  if not count or count > 4000 or at + count > last or not wanted then
    return redis.error_reply('BADBATCH write at argument ' .. at)
  end
  if wanted ~= 'any' then
    local key = ARGV[at + 2]
    types[key] = types[key] or redis.call('TYPE', key).ok
    if types[key] ~= wanted and types[key] ~= 'none' then
      return redis.error_reply('BADBATCH ' .. key .. ' is a ' .. types[key])
    end
    if command == 'XADD' and types[key] == 'stream' then
      for _, about in ipairs(redis.call('XINFO', 'STREAM', key)) do
        if about == LAST_ID then return redis.error_reply('BADBATCH ' .. key .. ' has the last id') end
      end
    end
  end
  at = at + count + 1
end

-- The bytes of all events so far. From marks, "up to this event there were so many", retention finds the bytes of the
-- events that are still there (trim.lua).
local size, every, marks = tonumber(state[4]) or 0, tonumber(bytes_per_mark), ''
for i = events, writes - 1, 4 do
  local id, channel, other_channel, payload = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local before = size
  size = size + #payload
  if math.floor(size / every) > math.floor(before / every) then
    marks = marks .. string.format(' %s:%.0f', string.match(id, '%d+'), size)
  end
  redis.call('XADD', KEYS[2], id, 'event', payload)
  if channel ~= '' then redis.call('PUBLISH', channel, payload) end
  if other_channel ~= '' then redis.call('PUBLISH', other_channel, payload) end
end
if writes > events then redis.call('HSET', KEYS[1], 'eventBytes', string.format('%.0f', size)) end
if marks ~= '' then
  redis.call('HSET', KEYS[1], 'eventMarks', (redis.call('HGET', KEYS[1], 'eventMarks') or '') .. marks)
end
at = first_insert
for _ = 1, inserts do
  local hashes, count, is_written = ARGV[at], ARGV[at + 1], ARGV[at + 2] == '1'
  local pairs_at = at + 3 + hashes
  local after = pairs_at + count
  if is_written then redis.call('HSET', ARGV[pairs_at - 1], unpack(ARGV, pairs_at, after - 1)) end
  at = after
end
at = writes
while at <= last do
  local count = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + count))
  at = at + count + 1
end
return 'OK'
