#!lua flags=allow-oom
-- Records the heartbeat of a worker or consumer, removes those that were silent for too long, and returns the others
-- (design §5).
--
-- KEYS      the registry: member id → "<milliseconds of the last beat> <connection>"; for a subscription also the set
--           of all subscriptions' names
-- ARGV      the member's id, its connection's id ("" if the server has none), the milliseconds after which a silent
--           member is removed, the channel for changes, the subscription's name ("" for workers)
-- Returns   the ids of the living members and their connections, alternating

local member_id, connection_id, expiry_ms = ARGV[1], ARGV[2], ARGV[3]
local changes_channel, subscription = ARGV[4], ARGV[5]

local connection = ''
if connection_id ~= '' then
  -- A server that restarts counts its connections from 1 again, so the id alone could be another connection's.
  connection = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') .. ':' .. connection_id
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if KEYS[2] then redis.call('SADD', KEYS[2], subscription) end
local changes = redis.call('HSET', KEYS[1], member_id, now .. ' ' .. connection)
local members = redis.call('HGETALL', KEYS[1])
local alive = {}
for i = 1, #members, 2 do
  local id = members[i]
  local beat_at, its_connection = string.match(members[i + 1], '^(%d+) (.*)$')
  if not beat_at or now - tonumber(beat_at) > tonumber(expiry_ms) then
    changes = changes + redis.call('HDEL', KEYS[1], id)
  else
    -- After the clock was set back, a dead member would otherwise seem alive until the clock has caught up.
    if tonumber(beat_at) > now then redis.call('HSET', KEYS[1], id, now .. ' ' .. its_connection) end
    alive[#alive + 1] = id
    alive[#alive + 1] = its_connection
  end
end
if changes > 0 then redis.call('PUBLISH', changes_channel, 'workers') end
return alive
