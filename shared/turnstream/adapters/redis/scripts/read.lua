#!lua flags=no-writes
-- Answers several reads in one reply, as of one moment (design §2: what is read together is one version).
--
-- KEYS[1]   any key of the partition: it routes the script
-- ARGV      the reads: each the number of its words, then the words

local answers = {}
local at, last = 1, #ARGV
while at <= last do
  local words = tonumber(ARGV[at])
  answers[#answers + 1] = redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return answers
