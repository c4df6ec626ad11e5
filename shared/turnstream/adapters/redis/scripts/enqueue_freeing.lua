#!lua flags=allow-oom
-- Appends commands that only free memory: it does so on a full server, too, and so it looks at each (design §4).
--
-- KEYS[1]   the partition's command stream
-- ARGV      as in enqueue.lua
-- Returns   -1, or the backlog that it was refused for; an error FREEING <command id> for what does not only free

local FREEING, LARGEST = {['delete-session'] = true, ['remove-messages'] = true, ['discard-parked'] = true}, 65536

local starts, at, last = {}, 2, #ARGV
while at <= last do
  local about = #ARGV[at]
  for i = at + 4, at + 3 + ARGV[at + 3] do about = about + #ARGV[i] end
  if not FREEING[ARGV[at + 1]] or #ARGV[at + 2] > LARGEST or about > LARGEST then
    return redis.error_reply('FREEING ' .. string.sub(ARGV[at], 1, 64))
  end
  starts[#starts + 1] = at
  at = at + 4 + ARGV[at + 3]
end
local backlog = redis.call('XLEN', KEYS[1])
if backlog + #starts > tonumber(ARGV[1]) then return backlog end
for _, i in ipairs(starts) do
  redis.call('XADD', KEYS[1], '*', 'id', ARGV[i], 'type', ARGV[i + 1], 'data', ARGV[i + 2],
    unpack(ARGV, i + 4, i + 3 + ARGV[i + 3]))
end
return -1
