#!lua flags=allow-oom
-- Moves entries of a stream to its key in this layout, without reply channels of the old layout: no client listens to
-- them any more, and a command with such a channel would be quarantined (ADR 27).
--
-- KEYS      the stream's former key and its present key
-- ARGV      the prefix of the former reply channels, how many entries and how many bytes to move at most
-- Returns   how many were moved; RENAMED if none is left, TAKEN if the present key has another type, and GONE if there is
--           nothing at the former key

local reply_prefix, max_entries, max_bytes = ARGV[1], ARGV[2], ARGV[3]

local former_type, present_type = redis.call('TYPE', KEYS[1]).ok, redis.call('TYPE', KEYS[2]).ok
if former_type == 'none' then return 'GONE' end
if former_type ~= 'stream' then return redis.call('RENAMENX', KEYS[1], KEYS[2]) == 1 and 'RENAMED' or 'TAKEN' end
if present_type ~= 'none' and present_type ~= 'stream' then return 'TAKEN' end

-- Lua cannot unpack 8,000 values. Of an entry that has so many, keep only the fields that are read.
local READ = {'entryId', 'error', 'id', 'type', 'data', 'replyTo', 'correlationId', 'traceparent', 'place'}
local function kept(fields)
  local all, few, value = {}, {}, {}
  for i = 1, #fields, 2 do
    if fields[i] ~= 'replyTo' or string.sub(fields[i + 1], 1, #reply_prefix) ~= reply_prefix then
      all[#all + 1], all[#all + 2], value[fields[i]] = fields[i], fields[i + 1], fields[i + 1]
    end
  end
  for _, name in ipairs(READ) do
    if value[name] then few[#few + 1], few[#few + 2] = name, value[name] end
  end
  local some = #all > 4000 and few or all
  return #some > 0 and some or {'type', ''}
end

local moved, room, last = 0, tonumber(max_bytes), '-'
while moved < tonumber(max_entries) and room > 0 do
  local entry = redis.call('XRANGE', KEYS[1], last, '+', 'COUNT', 1)[1]
  if not entry then break end
  local fields = kept(entry[2])
  local added = redis.pcall('XADD', KEYS[2], entry[1], unpack(fields))
  -- The id is taken if a producer already writes to the present key, or one still writes to the former key.
  if type(added) == 'table' and added.err then redis.call('XADD', KEYS[2], '*', unpack(fields)) end
  for _, text in ipairs(fields) do room = room - #text end
  moved, last = moved + 1, '(' .. entry[1]
end
if moved > 0 then
  -- Not by XDEL: the stream would record that an entry was deleted.
  local left = redis.call('XRANGE', KEYS[1], last, '+', 'COUNT', 1)[1]
  if left then redis.call('XTRIM', KEYS[1], 'MINID', left[1]) else redis.call('XTRIM', KEYS[1], 'MAXLEN', 0) end
  return moved
end

if present_type == 'none' then
  redis.call('RENAME', KEYS[1], KEYS[2])
  return 'RENAMED'
end
local about = {{}, {}}
for side = 1, 2 do
  local info = redis.call('XINFO', 'STREAM', KEYS[side])
  for i = 1, #info, 2 do about[side][info[i]] = info[i + 1] end
end
local added = string.format('%.0f', math.max(about[1]['entries-added'], about[2]['entries-added']))
redis.pcall('XSETID', KEYS[2], about[1]['last-generated-id'], 'ENTRIESADDED', added, 'MAXDELETEDID',
  about[1]['max-deleted-entry-id'])
redis.call('UNLINK', KEYS[1])
return 'RENAMED'
