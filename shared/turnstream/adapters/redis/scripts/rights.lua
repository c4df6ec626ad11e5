#!lua flags=allow-oom
-- Tries every kind of write of a commit on a separate key, and returns which ones the user may not do (design §11).
--
-- KEYS[1]   the key; it is removed afterwards
-- ARGV      channels on which a worker publishes
-- Returns   the commands and channels that were refused, each with the server's error

local refused = {}
local function try(name, ...)
  local reply = redis.pcall(...)
  local denied = type(reply) == 'table' and reply.err
  if denied then refused[#refused + 1] = name .. ' (' .. denied .. ')' end
  return not denied
end

-- UNLINK comes first: without it the key could not be removed again.
if try('UNLINK', 'UNLINK', KEYS[1]) then
  for _, write in ipairs({
    {'HSET', 'f', 'v'}, {'HDEL', 'f'}, {'ZADD', '1', 'm'}, {'ZREM', 'm'}, {'XADD', '1-0', 'f', 'v'}, {'XDEL', '1-0'},
    {'XTRIM', 'MAXLEN', '0'},
  }) do
    try(write[1], write[1], KEYS[1], unpack(write, 2))
  end
  redis.call('UNLINK', KEYS[1])
end
for _, channel in ipairs(ARGV) do try('the channel ' .. channel, 'PUBLISH', channel, '') end
return refused
