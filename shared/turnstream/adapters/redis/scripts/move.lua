#!lua flags=allow-oom
-- Moves entries of a stream to the name that it has in this layout, without the old layout's reply channels: nobody
-- listens there any more, and a command that names one would be set aside (ADR 27).
--
-- KEYS      the stream's former key and its key now
-- ARGV      what the former reply channels begin with, how many entries and how many bytes to move at most
-- Returns   how many were moved; where none is left RENAMED, TAKEN where something else stands at the key now, and GONE
--           where nothing is at the former key

local former, now = redis.call('TYPE', KEYS[1]).ok, redis.call('TYPE', KEYS[2]).ok
if former == 'none' then return 'GONE' end
if former ~= 'stream' then return redis.call('RENAMENX', KEYS[1], KEYS[2]) == 1 and 'RENAMED' or 'TAKEN' end
if now ~= 'none' and now ~= 'stream' then return 'TAKEN' end

-- Lua cannot unpack 8,000 words; of an entry with so many keep what is read of it.
local READ = {'entryId', 'error', 'id', 'type', 'data', 'replyTo', 'correlationId', 'traceparent', 'place'}
local function kept(words)
  local all, few, value = {}, {}, {}
  for i = 1, #words, 2 do
    if words[i] ~= 'replyTo' or string.sub(words[i + 1], 1, #ARGV[1]) ~= ARGV[1] then
      all[#all + 1], all[#all + 2], value[words[i]] = words[i], words[i + 1], words[i + 1]
    end
  end
  for _, name in ipairs(READ) do
    if value[name] then few[#few + 1], few[#few + 2] = name, value[name] end
  end
  local some = #all > 4000 and few or all
  return #some > 0 and some or {'type', ''}
end

local moved, room, last = 0, tonumber(ARGV[3]), '-'
while moved < tonumber(ARGV[2]) and room > 0 do
  local entry = redis.call('XRANGE', KEYS[1], last, '+', 'COUNT', 1)[1]
  if not entry then break end
  local words = kept(entry[2])
  local added = redis.pcall('XADD', KEYS[2], entry[1], unpack(words))
  -- A producer of another language may have been early, or one of the former layout late.
  if type(added) == 'table' and added.err then redis.call('XADD', KEYS[2], '*', unpack(words)) end
  for _, word in ipairs(words) do room = room - #word end
  moved, last = moved + 1, '(' .. entry[1]
end
if moved > 0 then
  -- Not by XDEL: the stream would remember that an entry was deleted.
  local left = redis.call('XRANGE', KEYS[1], last, '+', 'COUNT', 1)[1]
  if left then redis.call('XTRIM', KEYS[1], 'MINID', left[1]) else redis.call('XTRIM', KEYS[1], 'MAXLEN', 0) end
  return moved
end

if now == 'none' then
  redis.call('RENAME', KEYS[1], KEYS[2])
  return 'RENAMED'
end
local about = {{}, {}}
for of = 1, 2 do
  local words = redis.call('XINFO', 'STREAM', KEYS[of])
  for i = 1, #words, 2 do about[of][words[i]] = words[i + 1] end
end
local added = string.format('%.0f', math.max(about[1]['entries-added'], about[2]['entries-added']))
redis.pcall('XSETID', KEYS[2], about[1]['last-generated-id'], 'ENTRIESADDED', added, 'MAXDELETEDID',
  about[1]['max-deleted-entry-id'])
redis.call('UNLINK', KEYS[1])
return 'RENAMED'
