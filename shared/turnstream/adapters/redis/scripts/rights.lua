#!lua flags=allow-oom
-- Tries every kind of write of a commit on a key that nothing else uses, and says what the user may not (design §11).
--
-- KEYS[1]   the key; it is gone again afterwards
-- ARGV      channels on which a worker publishes
-- Returns   what was refused: commands and channels, each with the server's words

local refused = {}
local function may(what, ...)
  local answer = redis.pcall(...)
  local denied = type(answer) == 'table' and answer.err
  if denied then refused[#refused + 1] = what .. ' (' .. denied .. ')' end
  return not denied
end

-- First of all, so that nothing is left behind.
if may('UNLINK', 'UNLINK', KEYS[1]) then
  for _, words in ipairs({
    {'HSET', 'f', 'v'}, {'HDEL', 'f'}, {'ZADD', '1', 'm'}, {'ZREM', 'm'}, {'XADD', '1-0', 'f', 'v'}, {'XDEL', '1-0'},
    {'XTRIM', 'MAXLEN', '0'},
  }) do
    may(words[1], words[1], KEYS[1], unpack(words, 2))
  end
  redis.call('UNLINK', KEYS[1])
end
for _, channel in ipairs(ARGV) do may('the channel ' .. channel, 'PUBLISH', channel, '') end
return refused
