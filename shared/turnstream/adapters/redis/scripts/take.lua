#!lua flags=allow-oom
-- Makes a worker the owner of a partition that is free (design §5).
--
-- KEYS      the partition's lease, hash, command stream and event stream
-- ARGV      the worker's former token ("" for none), a random text for the new token, the lease time in milliseconds,
--           the number of partitions, the layout, a new generation, "1" if the server has a replication id, the token of
--           an owner that is dead ("" for none), "1" if batches are published only when they are confirmed, the
--           milliseconds for which outcomes are kept
-- Returns   {the owner's token} if the partition has one; otherwise {token, replication id, cursor, generation, sequence,
--           type sequences, how many commands the former owner may have died of, the sequence up to which batches are
--           confirmed, the time by which outcomes are kept whose ids have no time ("0" if they always had), the server's
--           time, how many commands were passed};
--           an error LAYOUT <partitions> <layout> if the partition was created with other values

local former_token, random, lease_ms, partitions, layout, new_generation = unpack(ARGV, 1, 6)
local has_replication_id, dead_token, confirms, outcome_ms = ARGV[7] == '1', ARGV[8], ARGV[9] == '1', ARGV[10]
local lease, hash, commands, log = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local owner = redis.call('GET', lease)
if owner and owner ~= former_token and owner ~= dead_token then return {owner} end

local stored = redis.call('HMGET', hash, 'partitions', 'layout', 'replicationId', 'generation', 'sequence',
  'formerGenerations')
local exists = stored[1]
if exists and (stored[1] ~= partitions or stored[2] ~= layout) then
  return redis.error_reply('LAYOUT ' .. stored[1] .. ' ' .. tostring(stored[2]))
end

-- Read before the first write, because it fails if the key has another type.
local waiting = redis.call('XLEN', commands)

-- The sequence of the last event on the stream. It is above the hash's sequence if a commit was cut short, for example
-- because a permission was withdrawn. If the hash is gone, numbering continues from it.
local sequence, last = stored[5] or '0', nil
local about = redis.call('TYPE', log).ok == 'stream' and redis.call('XINFO', 'STREAM', log) or {}
for i = 1, #about, 2 do
  if about[i] == 'last-generated-id' then last = string.match(about[i + 1], '^%d+') end
end
if not exists then sequence = last and #last <= 15 and last or '0' end
local is_cut_short = last ~= nil and tonumber(last) > tonumber(sequence)

-- Entries that were added to the command stream, and are neither there nor passed, are lost. A stream that is seen for
-- the first time is complete. If it has a group, an owner has used it before: the hash, with the count of passed
-- entries, is gone.
local counted = redis.call('HMGET', hash, 'passed', 'lost', 'offset')
local offset = counted[3]
if not offset then
  local numbers = {['entries-added'] = 0, length = 0, groups = 0}
  local stream = redis.call('EXISTS', commands) == 1 and redis.call('XINFO', 'STREAM', commands) or {}
  for i = 1, #stream, 2 do numbers[stream[i]] = stream[i + 1] end
  offset = 0
  if exists or numbers['groups'] > 0 then
    offset = numbers['entries-added'] - numbers['length'] - (counted[1] or 0) - (counted[2] or 0)
  end
end

local replication_id = ''
if has_replication_id then
  replication_id = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
if not exists then
  -- The hash is gone, but outcomes may still be there.
  if last then redis.call('HSET', hash, 'outcomesAt', string.format('%.0f', now - 3 * outcome_ms)) end
  redis.call('HSET', hash, 'partitions', partitions, 'layout', layout, 'cursor', '0-0', 'generation', new_generation,
    'sequence', sequence, 'types', '{}', 'epoch', '0')
elseif stored[3] ~= replication_id or is_cut_short then
  -- The server continues from the part of the log that survived. Later sequences may be used a second time, so they
  -- belong to a new generation (design §6).
  local former = {stored[4] .. ':' .. stored[5]}
  for earlier in string.gmatch(stored[6] or '', '%S+') do
    if #former < 32 then former[#former + 1] = earlier end
  end
  redis.call('HSET', hash, 'generation', new_generation, 'formerGenerations', table.concat(former, ' '))
end

if is_cut_short then
  -- A stream's last id never decreases, so the stream is created again from its latest events; older ones are dropped,
  -- as retention would.
  local kept = redis.call('XREVRANGE', log, sequence .. '-0', '-', 'COUNT', 1000)
  redis.call('UNLINK', log)
  for i = #kept, 1, -1 do
    -- An event has one field; Lua cannot unpack 8,000 values.
    if #kept[i][2] == 2 then redis.call('XADD', log, kept[i][1], unpack(kept[i][2])) end
  end
end

-- An owner that neither released the partition nor advanced the cursor may have died of a command (design §4).
local past = redis.call('HMGET', hash, 'cursor', 'token', 'released', 'takenAt', 'attemptAt', 'deaths', 'attempts')
local cursor, last_token, released, taken_at, attempt_at = unpack(past, 1, 5)
local deaths, attempts = 0, tonumber(past[7] or 0)
if cursor == taken_at or cursor == attempt_at then
  local died = last_token and last_token ~= released and last_token ~= former_token
  deaths = tonumber(past[6] or 0) + (died and 1 or 0)
  attempts = attempts + (died and cursor == attempt_at and 1 or 0)
end
local suspects = deaths > 0 and waiting or 0
redis.call('HSET', hash, 'takenAt', cursor, 'deaths', deaths, 'attempts', attempts)

local token = redis.call('HINCRBY', hash, 'epoch', 1) .. '-' .. random
redis.call('SET', lease, token, 'PX', lease_ms)
redis.call('HSET', hash, 'token', token, 'replicationId', replication_id, 'offset', offset)
local state = redis.call('HMGET', hash, 'cursor', 'generation', 'sequence', 'types', 'outcomesAt', 'passed')

local stable = state[3]
if confirms then
  local known = redis.call('HGET', hash, 'stable')
  if known and tonumber(known) < tonumber(stable) then stable = known end
  redis.call('HSET', hash, 'stable', stable)
else
  redis.call('HDEL', hash, 'stable')
end
return {token, replication_id, state[1], state[2], state[3], state[4], suspects, stable, state[5] or '0', now,
  state[6] or '0'}
