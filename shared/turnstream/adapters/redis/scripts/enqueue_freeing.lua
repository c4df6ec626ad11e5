#!lua flags=allow-oom
-- Appends commands that only free memory. It runs on a full server too, so it checks each of them (design §4).
--
-- KEYS[1]   the partition's command stream
-- ARGV      as in enqueue.lua
-- Returns   -1, or the backlog because of which the commands were refused; an error FREEING <command id> for a command
--           that is too large or of another type

local FREEING, LARGEST = {['delete-session'] = true, ['remove-messages'] = true, ['discard-parked'] = true}, 65536
local max_backlog = ARGV[1]

local starts, at, last = {}, 2, #ARGV
while at <= last do
  local id, command_type, data, optional = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local extra = #id
  for i = at + 4, at + 3 + optional do extra = extra + #ARGV[i] end
  if not FREEING[command_type] or #data > LARGEST or extra > LARGEST then
    return redis.error_reply('FREEING ' .. string.sub(id, 1, 64))
  end
  starts[#starts + 1] = at
  at = at + 4 + optional
end
local backlog = redis.call('XLEN', KEYS[1])
if backlog + #starts > tonumber(max_backlog) then return backlog end
for _, i in ipairs(starts) do
  local id, command_type, data, optional = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  redis.call('XADD', KEYS[1], '*', 'id', id, 'type', command_type, 'data', data, unpack(ARGV, i + 4, i + 3 + optional))
end
return -1
