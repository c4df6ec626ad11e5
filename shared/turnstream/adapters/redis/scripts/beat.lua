#!lua flags=allow-oom
-- Notes that a member lives, forgets those that were silent for too long, and says who is left (design §5).
--
-- KEYS      the registry: member id → "<milliseconds of the last beat> <connection>"; for a subscription also the list
--           of their names
-- ARGV      the member's id, its connection's id ("" where the server has none), the milliseconds after which a silent
--           member is forgotten, the channel for changes, the subscription's name ("" for workers)
-- Returns   the ids of the living members and their connections, one after the other

local connection = ''
if ARGV[2] ~= '' then
  -- A server counts its connections anew when it starts, so the id alone could be another's.
  connection = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') .. ':' .. ARGV[2]
end
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
if KEYS[2] then redis.call('SADD', KEYS[2], ARGV[5]) end
local changes = redis.call('HSET', KEYS[1], ARGV[1], ms .. ' ' .. connection)
local known = redis.call('HGETALL', KEYS[1])
local alive = {}
for i = 1, #known, 2 do
  local beaten, of = string.match(known[i + 1], '^(%d+) (.*)$')
  if not beaten or ms - tonumber(beaten) > tonumber(ARGV[3]) then
    changes = changes + redis.call('HDEL', KEYS[1], known[i])
  else
    -- A clock that was set back must not keep the dead among the living.
    if tonumber(beaten) > ms then redis.call('HSET', KEYS[1], known[i], ms .. ' ' .. of) end
    alive[#alive + 1] = known[i]
    alive[#alive + 1] = of
  end
end
if changes > 0 then redis.call('PUBLISH', ARGV[4], 'workers') end
return alive
