#!lua flags=allow-oom
-- Makes a worker the owner of a partition that is free (design §5).
--
-- KEYS      the partition's lease, hash, command stream and event stream
-- ARGV      the token of the worker's earlier life ("" for none), a random text for the new token, the lease time in
--           milliseconds, the number of partitions, the layout, a new generation, "1" where the server has a
--           replication id, the token of an owner that is dead ("" for none), "1" where batches are told of only when
--           they are safe, the milliseconds for which outcomes are kept
-- Returns   {the owner's token} while it has one, else {token, replication id, cursor, generation, sequence, type
--           sequences, the commands that the owner before may have died of, the sequence up to which batches are safe,
--           the time by which outcomes are kept where ids tell none ("0" if they always did), the server's time,
--           how many commands were passed};
--           an error LAYOUT <partitions> <layout> where the partition was made otherwise

local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] and owner ~= ARGV[8] then return {owner} end

local made = redis.call('HMGET', KEYS[2], 'partitions', 'layout', 'replicationId', 'generation', 'sequence',
  'formerGenerations')
if made[1] and (made[1] ~= ARGV[4] or made[2] ~= ARGV[5]) then
  return redis.error_reply('LAYOUT ' .. made[1] .. ' ' .. tostring(made[2]))
end

-- Read before the first write, for it fails where something else stands there.
local waiting = redis.call('XLEN', KEYS[3])

-- The number of the last event on the stream. It is above the hash's where a commit was broken off, as by a right that was
-- taken away; where the hash is gone, it is the number to go on from.
local sequence, last = made[5] or '0', nil
local about = redis.call('TYPE', KEYS[4]).ok == 'stream' and redis.call('XINFO', 'STREAM', KEYS[4]) or {}
for i = 1, #about, 2 do
  if about[i] == 'last-generated-id' then last = string.match(about[i + 1], '^%d+') end
end
if not made[1] then sequence = last and #last <= 15 and last or '0' end
local broken = last ~= nil and tonumber(last) > tonumber(sequence)

-- What was added to the command stream and is neither there nor passed is lost; a stream of which nothing is known
-- yet is complete. A group shows that an owner has looked after it: its hash is gone, and with it what was passed.
local counted = redis.call('HMGET', KEYS[2], 'passed', 'lost', 'offset')
local offset = counted[3]
if not offset then
  local numbers = {['entries-added'] = 0, length = 0, groups = 0}
  local stream = redis.call('EXISTS', KEYS[3]) == 1 and redis.call('XINFO', 'STREAM', KEYS[3]) or {}
  for i = 1, #stream, 2 do numbers[stream[i]] = stream[i + 1] end
  offset = 0
  if made[1] or numbers['groups'] > 0 then
    offset = numbers['entries-added'] - numbers['length'] - (counted[1] or 0) - (counted[2] or 0)
  end
end

local replid = ''
if ARGV[7] == '1' then
  replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
if not made[1] then
  -- Where the hash is gone, outcomes may be there.
  if last then redis.call('HSET', KEYS[2], 'outcomesAt', string.format('%.0f', now - 3 * ARGV[10])) end
  redis.call('HSET', KEYS[2], 'partitions', ARGV[4], 'layout', ARGV[5], 'cursor', '0-0', 'generation', ARGV[6],
    'sequence', sequence, 'types', '{}', 'epoch', '0')
elseif made[3] ~= replid or broken then
  -- The server goes on from what has survived of another history: numbers above it may be given a second time, so
  -- they belong to a new generation (design §6).
  local former = {made[4] .. ':' .. made[5]}
  for earlier in string.gmatch(made[6] or '', '%S+') do
    if #former < 32 then former[#former + 1] = earlier end
  end
  redis.call('HSET', KEYS[2], 'generation', ARGV[6], 'formerGenerations', table.concat(former, ' '))
end

if broken then
  -- A stream's last id does not go back, so it is made anew of the latest events; the others go as if by retention.
  local kept = redis.call('XREVRANGE', KEYS[4], sequence .. '-0', '-', 'COUNT', 1000)
  redis.call('UNLINK', KEYS[4])
  for i = #kept, 1, -1 do
    -- An event has one field; Lua cannot unpack 8,000 words.
    if #kept[i][2] == 2 then redis.call('XADD', KEYS[4], kept[i][1], unpack(kept[i][2])) end
  end
end

-- An owner that neither gave the partition up nor moved the cursor may have died of a command (design §4).
local past = redis.call('HMGET', KEYS[2], 'cursor', 'token', 'released', 'takenAt', 'attemptAt', 'deaths', 'attempts')
local deaths, attempts = 0, tonumber(past[7] or 0)
if past[1] == past[4] or past[1] == past[5] then
  local died = past[2] and past[2] ~= past[3] and past[2] ~= ARGV[1]
  deaths = tonumber(past[6] or 0) + (died and 1 or 0)
  attempts = attempts + (died and past[1] == past[5] and 1 or 0)
end
local suspects = deaths > 0 and waiting or 0
redis.call('HSET', KEYS[2], 'takenAt', past[1], 'deaths', deaths, 'attempts', attempts)

local token = redis.call('HINCRBY', KEYS[2], 'epoch', 1) .. '-' .. ARGV[2]
redis.call('SET', KEYS[1], token, 'PX', ARGV[3])
redis.call('HSET', KEYS[2], 'token', token, 'replicationId', replid, 'offset', offset)
local state = redis.call('HMGET', KEYS[2], 'cursor', 'generation', 'sequence', 'types', 'outcomesAt', 'passed')

local stable = state[3]
if ARGV[9] == '1' then
  local known = redis.call('HGET', KEYS[2], 'stable')
  if known and tonumber(known) < tonumber(stable) then stable = known end
  redis.call('HSET', KEYS[2], 'stable', stable)
else
  redis.call('HDEL', KEYS[2], 'stable')
end
return {token, replid, state[1], state[2], state[3], state[4], suspects, stable, state[5] or '0', now,
  state[6] or '0'}
