#!lua flags=no-writes
-- Reads a session's header and a range of its messages, as of one point in time (design §2).
--
-- KEYS      the session's header, order and messages
-- ARGV      the ids of the messages before and after the range ("" for none), how many ("-1" for all), "1" to take
--           them from the end of the range
-- Returns   {header, bodies in order}; an empty header if there is no session; an error MISSING <1|2> if the session
--           has no message with the first or second id

local limit, from_end = ARGV[3], ARGV[4] == '1'

local header = redis.call('HGETALL', KEYS[1])
if #header == 0 then return {header, {}} end

local bounds = {'-inf', '+inf'}
for side = 1, 2 do
  local message_id = ARGV[side]
  if message_id ~= '' then
    local position = redis.call('ZSCORE', KEYS[2], message_id)
    if not position then return redis.error_reply('MISSING ' .. side) end
    bounds[side] = '(' .. position
  end
end

local ids
if from_end then
  ids = redis.call('ZRANGE', KEYS[2], bounds[2], bounds[1], 'BYSCORE', 'REV', 'LIMIT', 0, limit)
else
  ids = redis.call('ZRANGE', KEYS[2], bounds[1], bounds[2], 'BYSCORE', 'LIMIT', 0, limit)
end

local bodies = {}
for from = 1, #ids, 4000 do
  for _, body in ipairs(redis.call('HMGET', KEYS[3], unpack(ids, from, math.min(from + 3999, #ids)))) do
    bodies[#bodies + 1] = body
  end
end
if from_end then
  for i = 1, math.floor(#bodies / 2) do
    bodies[i], bodies[#bodies - i + 1] = bodies[#bodies - i + 1], bodies[i]
  end
end
return {header, bodies}
