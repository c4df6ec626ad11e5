#!lua
-- Makes a worker the owner of a partition that is free (design §5).
--
-- KEYS      the partition's lease and hash
-- ARGV      a token that does not count, of the worker's earlier life or of a dead owner ("" for none), a random text
--           for the new token, the lease time in milliseconds, the number of partitions, the layout, a new generation,
--           "1" where the server has a replication id
-- Returns   {the owner's token} while it has one, else {token, replication id, cursor, generation, sequence, type
--           sequences}; an error LAYOUT <partitions> <layout> where the partition was made otherwise

local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return {owner} end

local made = redis.call('HMGET', KEYS[2], 'partitions', 'layout', 'replicationId', 'generation', 'sequence',
  'formerGenerations')
if made[1] and (made[1] ~= ARGV[4] or made[2] ~= ARGV[5]) then
  return redis.error_reply('LAYOUT ' .. made[1] .. ' ' .. tostring(made[2]))
end

local replid = ''
if ARGV[7] == '1' then
  replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
end
if not made[1] then
  redis.call('HSET', KEYS[2], 'partitions', ARGV[4], 'layout', ARGV[5], 'cursor', '0-0', 'generation', ARGV[6],
    'sequence', '0', 'types', '{}', 'epoch', '0')
elseif made[3] ~= replid then
  -- The server goes on from what has survived of another history: numbers above it may be given a second time, so
  -- they belong to a new generation (design §6).
  local former = {made[4] .. ':' .. made[5]}
  for earlier in string.gmatch(made[6] or '', '%S+') do
    if #former < 32 then former[#former + 1] = earlier end
  end
  redis.call('HSET', KEYS[2], 'generation', ARGV[6], 'formerGenerations', table.concat(former, ' '))
end

local token = redis.call('HINCRBY', KEYS[2], 'epoch', 1) .. '-' .. ARGV[2]
redis.call('SET', KEYS[1], token, 'PX', ARGV[3])
redis.call('HSET', KEYS[2], 'token', token, 'replicationId', replid)
local state = redis.call('HMGET', KEYS[2], 'cursor', 'generation', 'sequence', 'types')
return {token, replid, state[1], state[2], state[3], state[4]}
